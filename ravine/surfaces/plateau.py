"""A plateau around a bowl."""

import torch
from torch import Tensor

from ravine.surfaces.definition import surface


@surface(window=(-4.5, 2.5, -3.0, 3.0), start=(-3.6, 1.2), minima=((0.0, 0.0),), logarithmic=False, steps=300)
def plateau(x: Tensor, y: Tensor) -> Tensor:
    """A plateau, flatter the further out, and a bowl in it.

        f = 1 - exp(-(x^2 + y^2) / 2)

    What a saturated unit makes of a quadratic loss. At the start the gradient is 0.003.
    """
    return 1 - torch.exp(-(x**2 + y**2) / 2)
