"""The density of eigenvalues, by stochastic Lanczos quadrature."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.chance import check_count, normals
from ravine.curvature.counted import Counted, Observe
from ravine.curvature.lanczos import Basis
from ravine.curvature.quadrature import Quadrature, quadrature, up_to
from ravine.curvature.result import Estimate

_NORMAL = 1.959964  # of a standard normal number, 95 % lie within this of zero
_TRIES, _BINS = 2000, 100
_SMALL = 320  # up to this size Lanczos's iteration goes to its end, after which nothing is left to the quadrature
Runs = Sequence[Quadrature]


@dataclass(frozen=True)
class Spectrum:
    """The density of eigenvalues: `weights` (sum 1) at `nodes` (ascending), averaged over random starts.

    value: the share of eigenvalues up to each node. error: half the 95 % band for the share up to x, for all x at once,
    as `cumulative` has it, when x may be off by `resolution`: m steps tell no two places apart that are nearer than the
    range / m².
    size: that of the operator. rounding: that of the nodes. runs: each start's own measure.
    """

    nodes: Tensor = field(repr=False)
    weights: Tensor = field(repr=False)
    error: float
    converged: bool
    products: int
    size: int
    resolution: float
    rounding: float
    reason: str = ""
    runs: Runs = field(default=(), repr=False)

    @property
    def value(self) -> Tensor:
        return self.weights.cumsum(0)

    def cumulative(self, x: float | Tensor) -> float | Tensor:
        """The share of eigenvalues that are x or less, for one x or each of several."""
        at = torch.as_tensor(x, dtype=torch.float64)
        found = up_to(at, self.nodes, self.weights)
        return found if isinstance(x, Tensor) else float(found)

    def below(self, x: float) -> Estimate:
        """The share of eigenvalues that are x or less, with the 95 % interval for this x alone."""
        share = float(self.cumulative(x))
        off = float(torch.stack([run.off(torch.tensor([x], dtype=torch.float64)) for run in self.runs]).mean())
        off += float(self.weights[(self.nodes - x).abs() <= self.rounding].sum())
        count = _observations(self.size, len(self.runs))
        low, high = _wilson(share - off, count)[0], _wilson(share + off, count)[1]
        return Estimate(share, max(high - share, share - low), self.converged, self.products, self.reason)

    def density(self, at: Tensor, width: float) -> Tensor:
        """The density at each of `at`, every node spread as a normal distribution of standard deviation `width`.

        The nodes are those of each run's averaged rule, which are twice as many as its steps.
        """
        return self._spread(at, width)[0]

    def density_error(self, at: Tensor, width: float) -> Tensor:
        """Half the 95 % interval for the density at each of `at` by itself, as far as random starts make it.

        The quadrature adds to it where `width` is less than the distance between a run's nodes.
        """
        mean, square = self._spread(at, width)
        spread = square - mean.square()
        return _NORMAL * (spread.clamp(min=0.0) / (_observations(self.size, len(self.runs)) + 1)).sqrt()

    def _spread(self, at: Tensor, width: float) -> tuple[Tensor, Tensor]:
        """The means of the bells and of their squares at each of `at`."""
        rules = [run.averaged() for run in self.runs]
        nodes, weights = (torch.cat(parts) for parts in zip(*rules, strict=True))
        bells = _bells(at, nodes, width)
        return bells @ weights / len(rules), bells.square() @ weights / len(rules)


def spectrum(
    A: Operator,
    *,
    generator: torch.Generator | None = None,
    starts: int = 8,
    steps: int | None = None,
    tol: float | None = None,
    observe: Observe = None,
) -> Spectrum:
    """The distribution of A's eigenvalues, by stochastic Lanczos quadrature (Ubaru, Chen & Saad 2017, alg. 1).

    From each of `starts` random vectors, Lanczos's iteration of `steps` gives the measure that this vector sees, exact
    in its first 2 `steps` moments; their mean is the distribution. It takes starts * steps products, and more of either
    makes the error smaller: starts where A is small, steps where it is large. steps: 80 unless given, and as many as
    there are for sizes up to 320.
    tol: the error that counts as converged.

    The error has two parts. That of chance is known beforehand: the share that a random direction gives to a part of
    the spectrum has a Beta distribution, whatever the eigenvectors. That of the quadrature is estimated by its
    distance to half the steps; for one x alone, `below` bounds it.

    >>> import torch
    >>> A = Operator(4, lambda v: torch.tensor([[-1.0], [2.0], [2.0], [2.0]]) * v)
    >>> found = spectrum(A, generator=torch.Generator().manual_seed(0))
    >>> abs(found.cumulative(0.0) - 0.25) < found.error
    True
    """
    check_count("starts", starts, 1)
    check_count("steps", 80 if steps is None else steps, 2)
    if tol is not None and not 0 < tol < 1:
        raise RavineError(f"tol must be a number between 0 and 1, got {tol!r}")
    A = Counted(A, 0, observe)
    steps = min(A.size, steps or (80 if A.size > _SMALL else A.size))
    A.most = starts * steps
    runs = []
    for _ in range(starts):
        basis = Basis(A, normals(A, 1, generator)[:, 0])
        basis.extend(steps)
        runs.append(quadrature(basis))
    nodes, order = torch.cat([run.nodes for run in runs]).sort()
    weights = torch.cat([run.weights for run in runs])[order] / starts
    rounding = 100 * torch.finfo(A.dtype).eps * float(nodes.abs().max())
    whole = all(run.exact for run in runs)
    resolution = rounding if whole else max(rounding, float(nodes[-1] - nodes[0]) / steps**2)
    error = min(1.0, _band(runs, nodes, weights, A.size) + 100 * torch.finfo(A.dtype).eps)
    converged = tol is None or error <= tol
    reason = "" if converged else f"the error is {error:.3g}, where {tol:g} was asked for: give more starts or steps"
    return Spectrum(nodes, weights, error, converged, A.spent, A.size, resolution, rounding, reason, tuple(runs))


def _observations(size: int, starts: int) -> float:
    """How many coins, tossed for each eigenvalue's side of x, would scatter as the mean over the starts does.

    The share F of a random direction in R^n has the variance 2 F (1 - F) / (n + 2).
    """
    return starts * (size + 2) / 2 - 1


def _band(runs: Runs, nodes: Tensor, weights: Tensor, size: int) -> float:
    """The distance that 95 in 100 cumulative distributions keep to the true one, at all x."""
    group = _grouped(nodes, weights)
    count = int(group[-1]) + 1
    parts = torch.zeros(count, dtype=torch.float64).scatter_add(0, group, weights)
    at, apart = _apart(runs)
    near = group[torch.searchsorted(nodes, at).clamp(max=len(nodes) - 1)]
    off = torch.zeros(count, dtype=torch.float64).scatter_reduce(0, near, apart, "amax").numpy()
    seen = _observations(size, len(runs))
    parts = (parts * seen + 4 / count) / (seen + 4)  # as Agresti & Coull 1998: no share is known to be zero
    shape = parts.numpy() * seen
    drawn = np.random.default_rng(0).standard_gamma(shape, size=(_TRIES, count))
    by_chance = np.abs(drawn.cumsum(1) / drawn.sum(1, keepdims=True) - parts.cumsum(0).numpy())
    return float(np.quantile((by_chance + 1.25 * off).max(1), 0.95))


def _grouped(nodes: Tensor, weights: Tensor) -> Tensor:
    """The number of each node's group: those that count as one place, or hold less than a hundredth together."""
    ends = torch.cat([nodes[1:] - nodes[:-1] > 1e-6 * nodes.abs().max(), torch.tensor([True])])
    share = weights.cumsum(0)[ends]
    few = torch.cat([(share[:-1] * _BINS).floor() != (share[1:] * _BINS).floor(), torch.tensor([True])])
    ends[ends.clone()] = few
    return torch.cat([torch.zeros(1, dtype=torch.long), ends.long().cumsum(0)[:-1]])


def _apart(runs: Runs) -> tuple[Tensor, Tensor]:
    """Midway between each run's nodes: how far the mean lies from that of half the steps.

    Beside a node the whole steps are off by about as much, half the node's weight, unless an eigenvalue stands there.
    """
    at = torch.cat([(run.nodes[1:] + run.nodes[:-1]) / 2 for run in runs])
    apart = torch.stack([run.up_to(at) - run.coarser().up_to(at) for run in runs])
    return at, apart.mean(0).abs()


def _wilson(share: float, count: float) -> tuple[float, float]:
    """The interval for a share seen in `count` tosses (Wilson 1927)."""
    share = min(1.0, max(0.0, share))
    z = _NORMAL**2 / count
    middle, half = share + z / 2, math.sqrt(z * share * (1 - share) + z * z / 4)
    return (middle - half) / (1 + z), (middle + half) / (1 + z)


def _bells(at: Tensor, nodes: Tensor, width: float) -> Tensor:
    if not width > 0:
        raise RavineError(f"width must be a positive number, got {width!r}")
    z = (at.double()[:, None] - nodes[None, :]) / width
    return torch.exp(-0.5 * z.square()) / (width * math.sqrt(2 * math.pi))
