"""Himmelblau's function."""

from torch import Tensor

from ravine.surfaces.definition import surface


@surface(
    window=(-6.0, 6.0, -6.0, 6.0), start=(0.2, 5.0), logarithmic=True,
    minima=(
        (3.0, 2.0), (-2.805118086952745, 3.131312518250573), (-3.779310253377747, -3.283185991286170),
        (3.584428340330492, -1.848126526964404),
    ),
)  # fmt: skip
def himmelblau(x: Tensor, y: Tensor) -> Tensor:
    """Four minima of one depth: where one lands depends on the way.

        f = (x^2 + y - 11)^2 + (x + y^2 - 7)^2

    Himmelblau 1972, "Applied nonlinear programming".
    """
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2
