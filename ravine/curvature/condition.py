"""The condition number: how much more an operator curves in one direction than in another."""

import math

import torch
from torch import Tensor

from ravine.core.operator import Operator
from ravine.curvature.chance import check_count, check_tol, normals
from ravine.curvature.counted import Counted, Observe
from ravine.curvature.lanczos import Basis
from ravine.curvature.quadrature import Quadrature, quadrature
from ravine.curvature.result import Estimate

_WHOLE = 1000  # up to this size all eigenvalues are found unless told otherwise


def condition_number(
    A: Operator,
    *,
    tol: float | None = None,
    accuracy: float = 0.01,
    generator: torch.Generator | None = None,
    most: int | None = None,
    observe: Observe = None,
) -> Estimate:
    """|λ|max / |λ|min, over the eigenvalues with |λ| > tol |λ|max; tol is the root of the dtype's eps unless given.

    By Lanczos's iteration from one random vector, until the lower end is resolved: where the space is invariant, or
    where a random vector would with 95 % see any eigenvalue nearer to zero, by the inequality of Chebyshev, Markov and
    Stieltjes for the weight between two places. Else converged is False, the value is what was seen, at most the true
    one, and the error says how much larger it may be, up to 1 / tol.
    accuracy: the share of the value that the error may be. most: products, and vectors in memory, at most: n for
    sizes up to 1000, where the space is invariant at last, and 400 beyond, unless given. A network's eigenvalues reach
    down to the cut without a gap, which no few hundred products resolve: then 1 / tol is what there is to know.

    >>> import torch
    >>> A = Operator(3, lambda v: torch.tensor([[0.0], [2.0], [-8.0]]) * v)
    >>> round(condition_number(A).value, 3)
    4.0
    """
    A = Counted(A, 0, observe)
    if most is None:
        most = 400 if A.size > _WHOLE else max(2, A.size)
    check_count("most", most, 2)
    tol = torch.finfo(A.dtype).eps ** 0.5 if tol is None else tol
    floor = check_tol(A, tol)
    limit = A.most = min(A.size, most)
    basis, size = Basis(A, normals(A, 1, generator)[:, 0]), min(20, limit)
    while True:
        basis.extend(size)
        low, high = _ends(basis, tol, floor)
        seen, worst = high[0] / low[1] if low[1] else math.nan, high[1] / low[0] if low[0] else math.nan
        good = worst - seen <= accuracy * seen
        if good or len(basis) >= limit or basis.fresh is None:
            break
        size = min(limit, math.ceil(1.3 * len(basis)))
    reason = ""
    if math.isnan(seen):
        good, reason = False, "no eigenvalue differs from zero"
    elif not good:
        reason = (
            f"after {A.spent} products the lower end is not resolved: the smallest |eigenvalue| above {tol:.2g} of the "
            f"largest lies between {low[0]:.3g} and {low[1]:.3g}: give more by most=, or a larger tol"
        )
    value = seen if not good else (seen + worst) / 2
    return Estimate(value, max(worst - value, value - seen), good, A.spent, reason)


def _ends(basis: Basis, tol: float, floor: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """From where to where |λ|min and |λ|max may lie; zeros where nothing is seen above the cut."""
    measure = quadrature(basis)
    size, turned = measure.nodes.abs(), torch.linalg.eigh(basis.tridiagonal).eigenvectors
    scale = float(size.max())
    if scale == 0.0:
        return (0.0, 0.0), (0.0, 0.0)
    residual = basis.beta[-1] * turned[-1].abs() + floor * scale
    cut = tol * scale
    inside = size > cut
    least = torch.where(inside, size, math.inf).argmin()
    upper = float(size[least] + residual[least])
    most = size.argmax()
    high = _least_free(measure, scale, basis.A.size)
    if measure.exact:
        high = scale + float(residual[most])
        unclear = bool(((size - cut).abs() <= residual).any())
        lower = cut if unclear else float(size[least] - residual[least])
    else:
        lower = _most_free(measure, cut, float(size[least]), basis.A.size)
    return (max(cut, lower), upper), (scale, max(high, scale))


def _unseen(size: int) -> float:
    """The weight that a random unit vector gives to an eigenvalue with 97.5 %, at least.

    The square of one coordinate of it, whose density is Beta(1/2, (n - 1) / 2).
    """
    return 0.025**2 * math.pi / (2 * size)


def _most_free(measure: Quadrature, cut: float, least: float, size: int) -> float:
    """How far above the cut no eigenvalue can be, on either side of zero."""
    at = least - (least - cut) * 0.5 ** torch.arange(1, 40, dtype=torch.float64)
    free = measure.off(at) + measure.off(-at) + _both(measure, cut) <= _unseen(size)
    return float(at[free].max()) if bool(free.any()) else cut


def _least_free(measure: Quadrature, scale: float, size: int) -> float:
    """From where on no |eigenvalue| can be."""
    at = scale * (1 + 0.5 ** torch.arange(40, dtype=torch.float64))
    free = measure.off(at) + measure.off(-at) <= _unseen(size)
    return float(at[free].min()) if bool(free.any()) else math.inf


def _both(measure: Quadrature, x: float) -> Tensor:
    return measure.off(torch.tensor([-x, x], dtype=torch.float64)).sum()
