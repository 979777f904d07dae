"""Linear systems with an operator: conjugate gradients and MINRES."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ravine.core.errors import RavineError, unknown
from ravine.core.operator import Operator
from ravine.curvature.chance import check_count, check_tol
from ravine.curvature.counted import Counted, Observe
from ravine.curvature.krylov import METHODS, Steps, System, inverse
from ravine.curvature.result import Solution

Method = Callable[[System, Tensor], Steps]


def solve(
    A: Operator,
    b: Tensor,
    *,
    method: str = "minres",
    shift: float = 0.0,
    precondition: Operator | Tensor | None = None,
    tol: float | None = None,
    most: int | None = None,
    observe: Observe = None,
) -> Solution:
    """x with (A + shift I) x = b, to ‖b - (A + shift I) x‖ <= tol ‖b‖.

    method: "minres" (Paige & Saunders 1975) for any symmetric A; "cg" (Hestenes & Stiefel 1952) for a positive
    definite one, which ends where it meets negative curvature, and reports the direction.
    precondition: what is near the inverse and positive definite: an operator, or the numbers (n,) of a diagonal one.
    tol: 1e-6 in float64 and 1e-4 in float32 unless given. most: products at most, 4 n + 2, at most 1000, unless given.

    The residual that is reported is measured when the iteration has ended; where its own account was too good, it goes
    on from there. Where A is singular and b has a part that A does not reach, MINRES ends at a least-squares solution,
    "singular".

    >>> import torch
    >>> A = Operator(2, lambda v: torch.tensor([[2.0], [-4.0]]) * v)
    >>> solve(A, torch.tensor([2.0, 4.0])).value.round(decimals=3)
    tensor([ 1., -1.])
    >>> solve(A, torch.tensor([2.0, 4.0]), method="cg").stopped
    'negative curvature'
    """
    if method not in METHODS:
        raise unknown("method", str(method), METHODS)
    A = Counted(A, 0, observe)
    A._check(b)
    if b.ndim != 1:
        raise RavineError(f"b must be one vector ({A.size},), got {tuple(b.shape)}: solve for each column by itself")
    if not (torch.isfinite(b).all() and math.isfinite(shift)):
        raise RavineError("b and shift must be finite")
    if tol is None:
        tol = max(1e-6, 1000 * torch.finfo(A.dtype).eps)
    check_tol(A, tol)
    limit = A.most = min(4 * A.size + 2, 1000) if most is None else most
    check_count("most", limit, 2)
    b = b.detach()
    norm = float(b.double().norm())
    if not norm:
        return Solution(torch.zeros_like(b), 0.0, True, 0, "tolerance")
    system = System(A, shift, inverse(A, precondition))
    x, error = _run(system, METHODS[method], b, tol, limit)
    reached = error <= tol
    stopped = "tolerance" if reached else system.stopped
    reason = "" if reached else _why(system, stopped, error, tol)
    return Solution(x, error, reached, A.spent, stopped, reason, system.negative, system.curvature)


def _run(system: System, method: Method, b: Tensor, tol: float, limit: int) -> tuple[Tensor, float]:
    """x, and the share of b that its residual is. The residual is measured whenever the iteration's own is small."""
    x, r, norm, eps = torch.zeros_like(b), b, float(b.double().norm()), torch.finfo(b.dtype).eps
    error = 1.0
    while not system.stopped and error > tol:
        change, before, least = None, error, math.inf
        for made, left in method(system, r):
            if left < least:  # CG's residuals rise and fall
                change, least = made, left
            if left <= 0.5 * tol * norm or system.A.spent >= limit - 1:
                break
        if change is not None:
            found = x + change
            residual = b - system.times(found)
            slack = max(8.0, b.numel() ** 0.5 / 4) * eps * (1 + system.scale * float(found.double().norm()) / norm)
            measured = float(residual.double().norm()) / norm + slack
            if measured < error:
                x, r, error = found, residual, measured
        if not system.stopped and error > tol:
            if system.A.spent >= limit - 1:
                system.stopped = "limit"
            elif error > 0.5 * before:
                system.stopped = "rounding"
    return x, error


def _why(system: System, stopped: str, error: float, tol: float) -> str:
    told = {
        "limit": "give more by most=, or precondition=",
        "rounding": f"products in {system.A.dtype} tell no better: use float64, or a shift",
        "singular": "b has a part that the operator does not reach: give a shift",
        "negative curvature": (
            f"the operator is not positive definite: {system.curvature or 0.0:.3g} along `negative`; use "
            "method='minres', or a shift"
        ),
    }[stopped]
    return f"after {system.A.spent} products the residual is {error:.2g} of b, where {tol:g} was asked for: {told}"
