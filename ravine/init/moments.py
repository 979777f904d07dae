"""Means over a normal distribution, by adaptive quadrature: E g(sqrt(q) Z) for Z ~ N(0, 1)."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from ravine.core.errors import RavineError
from ravine.init.activations import Activation

REACH = 14.0  # in deviations; the density beyond is 1e-43
KINKS = (-20.0, -6.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0, 20.0)  # where torch's activations have theirs
ROUNDS, TOLERANCE = 60, 1e-13
FLAT = 1e-12


@dataclass(frozen=True)
class Moments:
    """Means of an activation f over z ~ N(0, q): E f, E f^2, E f'^2, E f'^4."""

    mean: float
    square: float
    slope_square: float
    slope_fourth: float

    @property
    def variance(self) -> float:
        return max(0.0, self.square - self.mean**2)


@lru_cache(4096)
def moments(f: Activation, q: float = 1.0) -> Moments:
    """The moments of f over N(0, q), to 1e-10 relative to the largest value that matters.

    Gauss-Lobatto rules of 10 and 21 nodes on intervals that are halved where the two differ, so that a kink or a jump,
    wherever it is, costs intervals and not accuracy; the ends are nodes and one rule has the middle, or a jump next to
    these would not be seen. Raises `RavineError` for what is not finite or not elementwise.
    """
    scale = math.sqrt(q)
    inner = [kink / scale for kink in KINKS if abs(kink) < REACH * scale]
    edges = np.unique(np.array([*np.linspace(-REACH, REACH, 15), *inner]))
    low, high = edges[:-1], edges[1:]
    total = np.zeros(4)
    for _ in range(ROUNDS):
        coarse, fine = (_rule(f, scale, low, high, count) for count in (10, 21))
        error = np.abs(fine - coarse)
        size = np.abs(total + fine.sum(1)) + 1e-300
        size[0] = max(size[0], math.sqrt(size[1]))  # E f of an odd f is 0, of which no share can be asked
        open_ = (error > TOLERANCE * size[:, None]).any(0) & (high - low > 1e-13)
        total += fine[:, ~open_].sum(1)
        if not open_.any():
            return Moments(*(float(value) for value in total))
        low, high, middle = low[open_], high[open_], (low[open_] + high[open_]) / 2
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        if len(low) > 20_000:
            break
    raise RavineError(f"the means of activation {f} do not settle: {_why(f)}")


def _why(f: Activation) -> str:
    """What keeps the rules apart."""
    kind = f.function(torch.zeros(1, dtype=torch.float64)).dtype
    if kind != torch.float64:
        return f"it gives {kind} for float64, whose rounding is too coarse; let it keep the type of its input"
    return (
        "does it compute in float32 inside (then let it keep the type of its input), is it random, or has it very many "
        "jumps?"
    )


def _rule(f: Activation, scale: float, low: np.ndarray, high: np.ndarray, count: int) -> np.ndarray:
    """(4, intervals): the integrals on each interval by the Gauss-Lobatto rule of `count` nodes."""
    nodes, weights = _nodes(count)
    half = (high - low) / 2
    z = (low + half)[:, None] + half[:, None] * nodes
    value, slope = f.values(torch.from_numpy(scale * z))
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    parts = torch.stack([value, value.square(), slope.square(), slope.square().square()]).numpy()
    return np.asarray((parts * (density * weights)).sum(-1) * half)


@lru_cache
def _nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [-1, 1], both ends among them, a hair inside so that a kink at an end is no kink."""
    polynomial = np.polynomial.legendre.Legendre.basis(count - 1)
    nodes = np.concatenate([[-1.0], np.sort(polynomial.deriv().roots().real), [1.0]])
    weights = 2 / (count * (count - 1) * polynomial(nodes) ** 2)
    return nodes * (1 - 1e-12), weights


def slopes_at_zero(f: Activation) -> tuple[float, float]:
    """(f'(0-), f'(0+)), where one of less than FLAT counts as 0, as those of z^2 beside 0 are."""
    _, slope = f.values(torch.tensor([-1e-300, 1e-300], dtype=torch.float64))
    below, above = (0.0 if abs(s) < FLAT else s for s in slope.tolist())
    return below, above
