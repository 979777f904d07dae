"""The trace: the sum of the eigenvalues."""

import math

import torch
from torch import Tensor

from ravine.core.errors import unknown
from ravine.core.operator import Operator
from ravine.curvature.chance import Mean, check_count, check_tol, rounding, signs
from ravine.curvature.counted import Counted, Observe
from ravine.curvature.result import Estimate

_BLOCK = 8
METHODS = ("hutchinson", "hutch++")


def trace(
    A: Operator,
    *,
    generator: torch.Generator | None = None,
    method: str = "hutchinson",
    samples: int = 100,
    tol: float | None = None,
    observe: Observe = None,
) -> Estimate:
    """tr A by random vectors.

    "hutchinson": the mean of zᵀ A z over random signs z (Hutchinson 1989). "hutch++": the trace on the range of A S,
    exactly, and Hutchinson's mean on what is left of A beside it (Meyer, Musco, Musco & Woodruff 2021, alg. 1); it
    wins where few eigenvalues carry the trace. samples: products at most, at least 6.
    tol: stop where the error is this share of the value; converged says whether that was reached. It is looked at when
    the samples have doubled only, and the interval is widened for that, since one that stops as soon as it looks narrow
    is too narrow.

    >>> import torch
    >>> A = Operator(3, lambda v: torch.tensor([[1.0], [2.0], [3.0]]) * v)
    >>> round(trace(A).value, 4)
    6.0
    """
    check_count("samples", samples, 6)
    if method not in METHODS:
        raise unknown("method", str(method), METHODS)
    A = Counted(A, samples, observe)
    if tol is not None:
        check_tol(A, tol)
    exact, slack, basis = (0.0, 0.0, None) if method == "hutchinson" else _range(A, samples // 3, generator)
    look = 2 * _BLOCK
    found = Mean(rounding(A), 1 if tol is None else max(1, 1 + int(math.log2(max(1, samples / look)))))
    value, error = exact, slack
    while A.spent < samples and (basis is None or basis.shape[1] < A.size):
        z = signs(A, min(_BLOCK, samples - A.spent), generator)
        if basis is not None:
            z = z - basis @ (basis.T @ z)
        parts = (z * (A @ z)).double()
        found.add(parts.sum(0).cpu(), parts.abs().sum(0).cpu())
        value, error = exact + float(found.mean), slack + float(found.error)
        if found.count >= look:
            look *= 2
            if tol is not None and error <= tol * abs(value):
                break
    reached = tol is None or error <= tol * abs(value)
    reason = "" if reached else f"after {A.spent} products the error is {error:.3g}: give more samples"
    return Estimate(value, error, reached, A.spent, reason)


def _range(A: Operator, count: int, generator: torch.Generator | None) -> tuple[float, float, Tensor]:
    """The trace on the range of A times random signs, its rounding, and an orthonormal basis of that range."""
    basis = torch.linalg.qr(A @ signs(A, min(count, A.size), generator)).Q
    parts = (basis * (A @ basis)).double()
    return float(parts.sum()), rounding(A) * float(parts.abs().sum()), basis
