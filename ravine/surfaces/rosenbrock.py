"""Rosenbrock's function."""

from torch import Tensor

from ravine.surfaces.definition import surface


@surface(window=(-2.0, 2.0, -0.8, 3.0), start=(-1.2, 1.0), minima=((1.0, 1.0),), logarithmic=True, steps=400)
def rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    """A curved ravine: easy to find, slow to follow.

        f = (1 - x)^2 + 100 (y - x^2)^2

    Rosenbrock 1960, "An automatic method for finding the greatest or least value of a function".
    """
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2
