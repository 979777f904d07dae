"""A saddle between two minima."""

from torch import Tensor

from ravine.surfaces.definition import surface


@surface(window=(-1.9, 1.9, -1.6, 1.6), start=(-1.6, 0.002), minima=((0.0, 1.0), (0.0, -1.0)), logarithmic=False)
def saddle(x: Tensor, y: Tensor) -> Tensor:
    """A saddle that one slides down to and leaves only slowly, between two minima.

        f = x^2 / 2 + (y^2 - 1)^2 / 4

    Around the saddle at 0 it is 1/4 + (x^2 - y^2) / 2, as in figure 4.5 of the deep learning book; the fourth power
    keeps the way down from being endless.
    """
    return x**2 / 2 + (y**2 - 1) ** 2 / 4
