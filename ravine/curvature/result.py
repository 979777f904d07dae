"""What an estimator returns: a value, how far off it may be, and whether it got there."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """An estimated number or vector.

    error: for a number, and for each number of a vector, the half-width of a 95 % interval.
    converged: whether what was asked for was reached; `reason` says why not, and what to do.
    products: the products with the operator that it took.
    """

    value: float | Tensor
    error: float | Tensor
    converged: bool
    products: int
    reason: str = ""


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues in descending order with their vectors.

    value: (k,). vectors: (n, k), orthonormal columns. error: (k,), the norms of the residuals A v - λ v, each a bound
    on the distance from λ to an eigenvalue of A (Parlett 1998, thm. 4.5.1).
    """

    value: Tensor
    vectors: Tensor
    error: Tensor
    converged: bool
    products: int
    reason: str = ""


@dataclass(frozen=True)
class Spectrum:
    """The density of eigenvalues: `weights` (sum 1) at `nodes`, averaged over random starts.

    cumulative(x) is the share of eigenvalues up to x. error: the half-width of a 95 % interval for that share, at worst
    over all x. `runs` holds each start's nodes and weights.
    """

    nodes: Tensor
    weights: Tensor
    error: float
    converged: bool
    products: int
    size: int
    reason: str = ""
    runs: tuple[tuple[Tensor, Tensor], ...] = field(default=(), repr=False)

    def cumulative(self, x: float) -> float:
        """The share of eigenvalues that are x or less."""
        return float(self.weights[self.nodes <= x].sum())

    def density(self, at: Tensor, width: float) -> Tensor:
        """The density at each of `at`, every node spread as a normal distribution of standard deviation `width`."""
        z = (at[:, None] - self.nodes[None, :]) / width
        bells = (-0.5 * z**2).exp() / (width * (2 * 3.141592653589793) ** 0.5)
        return bells @ self.weights


@dataclass(frozen=True)
class Solution:
    """An approximate solution of (A + shift) x = b.

    error: the norm of the residual b - (A + shift) x, divided by that of b. curvature: where CG met a direction of
    negative curvature, that direction, else None.
    """

    value: Tensor
    error: float
    converged: bool
    products: int
    reason: str = ""
    negative: Tensor | None = None
