"""A bowl full of dents."""

import math

import torch
from torch import Tensor

from ravine.surfaces.definition import surface


@surface(window=(-3.2, 3.2, -3.2, 3.2), start=(-2.6, 2.4), minima=((0.0, 0.0),), logarithmic=False)
def many_minima(x: Tensor, y: Tensor) -> Tensor:
    """A wide bowl full of dents, each a trap for those that move slowly.

        f = x^2 + y^2 + (2 - cos(2 pi x) - cos(2 pi y))

    Rastrigin's function with 1 in place of 10, so that momentum has a chance.
    """
    return x**2 + y**2 + (2 - torch.cos(2 * math.pi * x) - torch.cos(2 * math.pi * y))
