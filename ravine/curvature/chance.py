"""Random vectors for estimators, from the caller's generator; means of samples; checks of what estimators are given."""

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


class Mean:
    """The mean of samples that come block by block, each a number or a vector, with its interval by Student's t.

    rounding: how far off the samples themselves may be, in parts of the largest of their sizes. looks: how often
    the error decides whether to stop; all looks together err in 5 % (Bonferroni).
    """

    def __init__(self, rounding: float, looks: int = 1) -> None:
        self.count, self._rounding, self._level = 0, rounding, 1 - 0.025 / looks
        self.mean = self._squares = self._size = torch.zeros((), dtype=torch.float64)

    def add(self, block: Tensor, sizes: Tensor) -> None:
        """Samples along the first dimension, joined to what is there by Chan, Golub & LeVeque 1979, eq. 2.1."""
        block = block.double()
        here, count = block.mean(0), len(block)
        apart = here - self.mean
        total = self.count + count
        self.mean = self.mean + apart * (count / total)
        self._squares = self._squares + ((block - here) ** 2).sum(0) + apart**2 * (self.count * count / total)
        self._size = torch.maximum(self._size, sizes.double().amax(0))
        self.count = total

    @property
    def error(self) -> Tensor:
        """Half the 95 % interval; infinite for a single sample."""
        if self.count < 2:
            return torch.full_like(self.mean, math.inf)
        quantile = float(stats.t.ppf(self._level, self.count - 1))
        chance = quantile * (self._squares / (self.count - 1) / self.count).sqrt()
        return chance + self._rounding * self._size


def rounding(A: Operator) -> float:
    """How far a sum of products in A's dtype may be off by rounding, in parts of its size."""
    return 4 * torch.finfo(A.dtype).eps


def check_count(name: str, value: object, low: int, high: float = math.inf) -> None:
    """Raise unless `value` is a whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        upto = "" if high == math.inf else f" to {high:g}"
        raise RavineError(f"{name} must be a whole number from {low}{upto}, got {value!r}")


def check_tol(A: Operator, tol: float) -> float:
    """The rounding that products in A's dtype carry, relative to its norm; raises where `tol` asks for less."""
    floor = max(20.0, math.sqrt(A.size)) * torch.finfo(A.dtype).eps
    if not floor <= tol < 1:
        if isinstance(tol, int | float) and 0 < tol < floor:
            wider = "use float64" if A.dtype != torch.float64 else "ask for less"
            raise RavineError(f"tol={tol:g} cannot be met in {A.dtype}, where {floor:.1g} is the least: {wider}")
        raise RavineError(f"tol must be a number between 0 and 1, got {tol!r}")
    return floor
