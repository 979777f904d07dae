"""Beale's function."""

from torch import Tensor

from ravine.surfaces.definition import surface


@surface(
    window=(-1.6, 3.9, -2.4, 2.6), start=(0.8, 2.0), minima=((3.0, 0.5),), logarithmic=True, steps=300,
)  # fmt: skip
def beale(x: Tensor, y: Tensor) -> Tensor:
    """A flat valley that bends between steep walls.

        f = (1.5 - x + x y)^2 + (2.25 - x + x y^2)^2 + (2.625 - x + x y^3)^2

    Beale 1958, "On an iterative method for finding a local minimum of a function of more than one variable".
    """
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2
