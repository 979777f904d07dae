"""What an estimator returns: a value, how far off it may be, and whether it got there."""

from dataclasses import dataclass

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
class NegativeCurvature:
    """The direction in which A curves down most, and how many eigenvalues are negative.

    value: vᵀ A v for the direction v, the smallest eigenvalue found. error: a bound on its distance to one.
    direction: v (n,), of length 1; None where nothing below -tol |λ|max was found.
    fraction, count: the share and the number of eigenvalues below -tol |λ|max, each with its own error; None where
    they were not asked for.
    """

    value: float
    error: float
    direction: Tensor | None
    fraction: Estimate | None
    count: Estimate | None
    converged: bool
    products: int
    reason: str = ""


@dataclass(frozen=True)
class Solution:
    """An approximate solution x of (A + shift I) x = b.

    value: x. error: ‖b - (A + shift I) x‖ / ‖b‖, measured by a product of its own, with its rounding.
    stopped: why it ended: "tolerance", "negative curvature", "singular", "rounding" (no product in this dtype tells
    better), or "limit".
    negative: where CG met negative curvature, the direction (n,) of length 1, and `curvature` what it is along it.
    """

    value: Tensor
    error: float
    converged: bool
    products: int
    stopped: str
    reason: str = ""
    negative: Tensor | None = None
    curvature: float | None = None
