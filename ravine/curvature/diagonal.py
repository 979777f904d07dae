"""The diagonal of an operator."""

import torch

from ravine.core.operator import Operator
from ravine.curvature.chance import Mean, check_count, rounding, signs
from ravine.curvature.counted import Counted, Observe
from ravine.curvature.result import Estimate

_BLOCK = 8


def diagonal(
    A: Operator, *, generator: torch.Generator | None = None, samples: int = 100, observe: Observe = None
) -> Estimate:
    """diag A as the mean of z * (A z) over random signs z (Bekas, Kokiopoulou & Saad 2007).

    value and error are vectors (n,); the error is that of each number by itself, so that one in twenty of them may be
    further off.

    >>> import torch
    >>> diagonal(Operator(2, lambda v: 3 * v), samples=4).value
    tensor([3., 3.], dtype=torch.float64)
    """
    check_count("samples", samples, 2)
    A, found = Counted(A, samples, observe), Mean(rounding(A))
    while A.spent < samples:
        z = signs(A, min(_BLOCK, samples - A.spent), generator)
        drawn = (z * (A @ z)).T
        found.add(drawn, drawn.abs())
    return Estimate(found.mean, found.error, True, A.spent)
