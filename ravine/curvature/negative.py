"""Negative curvature: the direction in which a function falls away fastest, and in how many it does."""

import torch

from ravine.core.operator import Operator
from ravine.curvature.chance import check_count, check_tol
from ravine.curvature.counted import Counted, Observe
from ravine.curvature.eigen import bottom, top
from ravine.curvature.result import Estimate, NegativeCurvature
from ravine.curvature.spectrum import spectrum


def negative_curvature(
    A: Operator,
    *,
    tol: float = 1e-4,
    index: bool = True,
    exact: int = 500,
    generator: torch.Generator | None = None,
    starts: int = 8,
    steps: int | None = None,
    most: int | None = None,
    observe: Observe = None,
) -> NegativeCurvature:
    """The direction of the smallest eigenvalue, and the index: how many eigenvalues lie below -tol |λ|max.

    The direction is by Lanczos's method. The index is counted up to size `exact`, from the dense matrix, whose
    eigenvalues within rounding of the limit are its error; beyond it is estimated by stochastic Lanczos quadrature
    with `starts` and `steps`, with the 95 % interval. index: False saves that.

    >>> import torch
    >>> A = Operator(3, lambda v: torch.tensor([[-1.0], [2.0], [-3.0]]) * v)
    >>> found = negative_curvature(A)
    >>> round(found.value, 3), found.direction.abs().round().tolist(), found.count.value
    (-3.0, [0.0, 0.0, 1.0], 2)
    """
    check_count("exact", exact, 0)
    A = Counted(A, 0, observe)
    floor = check_tol(A, tol)
    if index and A.size <= exact:
        A.most = A.size
        return _dense(A, tol, floor)
    A.most = 440 + index * starts * (steps or 80)
    lowest = bottom(A, tol=tol, generator=generator, most=most)
    highest = top(A, which="magnitude", tol=max(tol, 1e-2), generator=generator, most=most)
    limit = min(-tol * float(highest.value.abs()), -1e-300)  # zero is not negative
    fraction = count = None
    if index:
        fraction = spectrum(A, generator=generator, starts=starts, steps=steps).below(limit)
        value, error = float(fraction.value), float(fraction.error)
        count = Estimate(value * A.size, error * A.size, fraction.converged, fraction.products, fraction.reason)
    value, error = float(lowest.value[0]), float(lowest.error[0])
    direction = lowest.vectors[:, 0] if value < limit else None
    converged = lowest.converged and highest.converged
    reason = lowest.reason or highest.reason
    return NegativeCurvature(value, error, direction, fraction, count, converged, A.spent, reason)


def _dense(A: Counted, tol: float, floor: float) -> NegativeCurvature:
    """All of it from the matrix."""
    matrix = A.dense().double().cpu()
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    scale = float(values.abs().max())
    limit, rounding = -tol * scale, floor * scale
    below = int((values < limit).sum())
    unclear = float(((values - limit).abs() <= rounding).sum()) if scale else 0.0
    n = A.size
    reason = f"{unclear:g} eigenvalues are within rounding of {limit:.3g}" if unclear else ""
    count = Estimate(below, unclear, not unclear, A.spent, reason)
    fraction = Estimate(below / n, unclear / n, not unclear, A.spent, reason)
    value = float(values[0])
    direction = vectors[:, 0].to(A.device, A.dtype) if value < limit else None
    return NegativeCurvature(value, rounding, direction, fraction, count, True, A.spent)
