"""Random vectors for estimators, from the caller's generator, and intervals for their means."""

import math

import torch
from scipy import stats
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.operator import Operator


def signs(A: Operator, count: int, generator: torch.Generator | None) -> Tensor:
    """Random signs (n, count) (Rademacher)."""
    drawn = torch.randint(0, 2, (A.size, count), generator=generator, device=_place(generator))
    return (2 * drawn - 1).to(A.device, A.dtype)


def normals(A: Operator, count: int, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers (n, count)."""
    drawn = torch.randn(A.size, count, generator=generator, device=_place(generator), dtype=torch.float64)
    return drawn.to(A.device, A.dtype)


def _place(generator: torch.Generator | None) -> torch.device | str:
    return generator.device if generator is not None else "cpu"


def half_width(samples: Tensor, confidence: float = 0.95) -> Tensor:
    """Half the interval for the mean over the first dimension, by Student's t."""
    n = len(samples)
    quantile = float(stats.t.ppf(0.5 + confidence / 2, n - 1))
    return quantile * samples.double().std(0) / math.sqrt(n)


def check_count(name: str, value: int, low: int, high: float = math.inf) -> None:
    """Raise unless `value` is a whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        upto = "" if high == math.inf else f" to {high:g}"
        raise RavineError(f"{name} must be a whole number from {low}{upto}, got {value!r}")
