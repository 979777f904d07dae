"""The second-order test: whether a point where the gradient vanishes is a minimum, and the way down where it is not."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.negative import negative_curvature
from ravine.solvers.base import Point, Problem

_DENSE = 500
_STEPS = 60


@dataclass(frozen=True)
class Verdict:
    """is_minimum: None where the smallest eigenvalue cannot be told from zero. direction: of negative curvature."""

    is_minimum: bool | None
    told: str
    direction: Tensor | None = None
    curvature: float = 0.0


def second_order_test(H: Operator, point: Point, generator: torch.Generator | None) -> Verdict:
    """What the Hessian at a stationary point says: by its eigenvalues up to size 500, beyond by Lanczos's method.

    An eigenvalue has a sign where its size exceeds rounding and ten times |g| / max(|x|, 1), which is what it may
    change by on the way from here to where the gradient vanishes.
    """
    doubt = 10 * float(point.gradient.norm()) / max(float(point.x.norm()), 1.0)
    try:
        return _dense(H, doubt) if H.size <= _DENSE else _lanczos(H, doubt, generator)
    except RavineError as error:
        return Verdict(None, f"the second-order test failed: {error}")


def _dense(H: Operator, doubt: float) -> Verdict:
    matrix = H.dense()
    if not torch.isfinite(matrix).all():
        return Verdict(None, "the Hessian is not finite there")
    values, vectors = torch.linalg.eigh(0.5 * (matrix + matrix.T))
    lowest, scale = float(values[0]), float(values.abs().max())
    # The solver's error is a few n eps of the largest (LAPACK's bound for symmetric matrices), and the products' that
    # of their sums; 10 eps is for n so small that constants matter more.
    rounding = max(len(values), 10) * torch.finfo(values.dtype).eps * scale
    return _verdict(lowest, rounding + doubt, vectors[:, 0])


def _lanczos(H: Operator, doubt: float, generator: torch.Generator | None) -> Verdict:
    found = negative_curvature(H, tol=1e-6 if H.dtype == torch.float64 else 1e-3, index=False, generator=generator)
    return _verdict(found.value, found.error + doubt, found.direction)


def _verdict(lowest: float, error: float, vector: Tensor | None) -> Verdict:
    if lowest < -error and vector is not None:
        return Verdict(False, f"a saddle: the Hessian has the eigenvalue {lowest:.3g}", vector, lowest)
    if lowest > error:
        return Verdict(True, "a minimum: the Hessian is positive definite")
    return Verdict(None, f"the Hessian's smallest eigenvalue, {lowest:.3g}, cannot be told from zero")


def leave(problem: Problem, point: Point, verdict: Verdict) -> Point | None:
    """A lower point along the direction of negative curvature, on its better side; None where there is none.

    The model foretells a fall of |curvature| a^2 / 2 at a distance a; a tenth of it is asked for. The length begins at
    1, is halved until one side falls as much, and doubled while that pays.
    """
    v = verdict.direction
    assert v is not None
    length = 1.0
    for _ in range(_STEPS):
        sides = [problem.evaluate(torch.add(point.x, v, alpha=sign * length)) for sign in (1.0, -1.0)]
        best = min(sides, key=lambda side: side.value)
        if best.value <= point.value + 0.05 * verdict.curvature * length**2 and best.value < point.value:
            return _further(problem, point, best)
        length *= 0.5
    return None


def _further(problem: Problem, start: Point, best: Point) -> Point:
    for _ in range(_STEPS):
        further = problem.evaluate(start.x + 2 * (best.x - start.x))
        if not further.value < best.value or not math.isfinite(further.value):
            return best
        best = further
    return best
