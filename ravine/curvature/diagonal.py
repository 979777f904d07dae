"""The diagonal of an operator."""

import torch

from ravine.core.operator import Operator
from ravine.curvature.chance import check_count, half_width, signs
from ravine.curvature.result import Estimate


def diagonal(A: Operator, *, generator: torch.Generator | None = None, samples: int = 100) -> Estimate:
    """diag A as the mean of z * (A z) over random signs z (Bekas, Kokiopoulou & Saad 2007).

    value and error are vectors (n,); the error is that of each number by itself.

    >>> import torch
    >>> diagonal(Operator(2, lambda v: 3 * v), samples=4).value
    tensor([3., 3.], dtype=torch.float64)
    """
    check_count("samples", samples, 2)
    z = signs(A, samples, generator)
    found = (z * (A @ z)).double().T
    return Estimate(found.mean(0), half_width(found), True, samples)
