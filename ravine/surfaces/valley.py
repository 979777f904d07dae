"""A long narrow valley: the badly conditioned quadratic."""

from torch import Tensor

from ravine.surfaces.definition import surface

CONDITION = 50.0


@surface(window=(-4.0, 4.0, -4.0, 4.0), start=(-3.3, 1.9), minima=((0.0, 0.0),), logarithmic=True, steps=100)
def valley(x: Tensor, y: Tensor) -> Tensor:
    """A straight valley, 50 times as steep across as along, at an angle to both axes.

        f = (50 u^2 + v^2) / 2,     u = (x + y) / sqrt(2),     v = (x - y) / sqrt(2)

    The quadratic of figure 4.6 in the deep learning book, with condition number 50 in place of 5.
    """
    return (CONDITION * (x + y) ** 2 + (x - y) ** 2) / 4
