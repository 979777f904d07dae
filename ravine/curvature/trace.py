"""The trace: the sum of the eigenvalues."""

import torch
from torch import Tensor

from ravine.core.errors import unknown
from ravine.core.operator import Operator
from ravine.curvature.chance import check_count, half_width, signs
from ravine.curvature.result import Estimate

_BATCH = 8


def trace(
    A: Operator,
    *,
    generator: torch.Generator | None = None,
    method: str = "hutchinson",
    samples: int = 100,
    tol: float | None = None,
) -> Estimate:
    """tr A by random vectors.

    "hutchinson": the mean of zᵀ A z over random signs z (Hutchinson 1989). "hutch++": the trace on the range of A S,
    exactly, and Hutchinson's mean on what is left of A beside it (Meyer, Musco, Musco & Woodruff 2021, alg. 1); it
    wins where few eigenvalues carry the trace. samples: products at most, at least 6.
    tol: stop where the error is this share of the value; converged says whether that was reached.

    >>> import torch
    >>> A = Operator(3, lambda v: torch.tensor([[1.0], [2.0], [3.0]]) * v)
    >>> trace(A).value
    6.0
    """
    check_count("samples", samples, 6)
    if method not in ("hutchinson", "hutch++"):
        raise unknown("method", method, ("hutchinson", "hutch++"))
    exact, basis, spent = (0.0, None, 0) if method == "hutchinson" else _range(A, samples // 3, generator)
    found = torch.empty(0, dtype=torch.float64)
    value = error = float("nan")
    while (count := min(_BATCH, samples - spent)) > 0:
        z = signs(A, count, generator)
        if basis is not None:
            z = z - basis @ (basis.T @ z)
        found = torch.cat([found, (z * (A @ z)).double().sum(0).cpu()])
        spent += count
        if len(found) < 2:
            continue
        value, error = exact + float(found.mean()), float(half_width(found))
        if tol is not None and len(found) >= 2 * _BATCH and error <= tol * abs(value):
            break
    reached = tol is None or error <= tol * abs(value)
    reason = "" if reached else f"after {spent} products the error is {error:.3g}: give more samples"
    return Estimate(value, error, reached, spent, reason)


def _range(A: Operator, count: int, generator: torch.Generator | None) -> tuple[float, Tensor, int]:
    """The trace on the range of A times random signs, an orthonormal basis of it, and the products spent."""
    count = min(count, A.size)
    basis = torch.linalg.qr(A @ signs(A, count, generator)).Q
    return float((basis * (A @ basis)).double().sum()), basis, 2 * count
