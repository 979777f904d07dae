"""The outermost eigenvalues and their vectors."""

import math

import torch
from torch import Tensor

from ravine.core.errors import RavineError, unknown
from ravine.core.operator import Operator
from ravine.curvature.chance import check_count, normals
from ravine.curvature.lanczos import Basis, extend, renew, start
from ravine.curvature.result import Eigenpairs


def top(
    A: Operator,
    k: int = 1,
    *,
    which: str = "algebraic",
    tol: float = 1e-4,
    generator: torch.Generator | None = None,
    most: int | None = None,
) -> Eigenpairs:
    """The k largest eigenvalues with their vectors, by Lanczos's method with full reorthogonalization.

    which: "algebraic", or "magnitude" for the largest in absolute value, still in descending order of value.
    tol: a pair has converged when its residual is at most this share of the largest |eigenvalue| found.
    most: products at most; 20 k + 200 unless given, and n at most.

    An eigenvalue that occurs several times is found as often: when the space is invariant, the iteration goes on with
    what a fresh random vector has outside it; a repeated value that is not found by then has converged to `tol` only.

    >>> import torch
    >>> A = Operator(4, lambda v: torch.tensor([[1.0], [2.0], [2.0], [-5.0]]) * v)
    >>> top(A, 2).value.round(decimals=4).tolist(), bottom(A).value.round(decimals=4).tolist()
    ([2.0, 2.0], [-5.0])
    """
    if which not in ("algebraic", "magnitude"):
        raise unknown("which", which, ("algebraic", "magnitude"))
    return _outermost(A, k, which, tol, generator, most)


def bottom(
    A: Operator, k: int = 1, *, tol: float = 1e-4, generator: torch.Generator | None = None, most: int | None = None
) -> Eigenpairs:
    """The k smallest eigenvalues, the most negative last; see `top`."""
    found = _outermost(-A, k, "algebraic", tol, generator, most)
    back = torch.arange(len(found.value) - 1, -1, -1)
    return Eigenpairs(
        -found.value[back], found.vectors[:, back], found.error[back], found.converged, found.products, found.reason
    )


def _outermost(
    A: Operator, k: int, which: str, tol: float, generator: torch.Generator | None, most: int | None
) -> Eigenpairs:
    check_count("k", k, 1, A.size)
    floor = 20 * torch.finfo(A.dtype).eps
    if not tol >= floor:
        raise RavineError(f"tol={tol:g} cannot be met in {A.dtype}, where {floor:.1g} is the least: use float64")
    limit = min(A.size, most if most is not None else 20 * k + 200)
    check_count("most", limit, k)
    vectors, spent = _krylov(A, k, which, tol, limit, normals(A, 1, generator)[:, 0])
    while spent < limit and vectors.shape[1] < A.size:
        # One random vector sees one direction of a repeated eigenvalue: look for more in what is left.
        rest = _without(A, vectors)
        more, used = _krylov(rest, 1, which, max(tol, 1e-2), max(1, limit - spent), normals(A, 1, generator)[:, 0])
        spent += used
        values = _rayleigh(A, vectors)[0]
        spent += vectors.shape[1]
        worst = values.abs().min() if which == "magnitude" else values.min()
        found = _rayleigh(A, more)[0][0]
        spent += 1
        if (found.abs() if which == "magnitude" else found) <= worst + tol * values.abs().max():
            break
        more, used = _krylov(rest, 1, which, tol, max(1, limit - spent), more[:, 0])
        spent += used
        vectors = torch.linalg.qr(torch.cat([vectors, more], 1)).Q
        values, rotation = _rayleigh(A, vectors)
        spent += vectors.shape[1]
        vectors = vectors @ rotation[:, _choose(values, k, which)].to(A.dtype)
    return _told(A, vectors, k, tol, floor, spent)


def _krylov(A: Operator, k: int, which: str, tol: float, limit: int, v: Tensor) -> tuple[Tensor, int]:
    """The k outermost Ritz vectors (n, k) of a Krylov space that grows until they have converged, and the products."""
    basis, spent, size = start(A, v), 0, min(limit, max(2 * k + 10, 20))
    while True:
        spent += extend(basis, size)
        values, rotation = torch.linalg.eigh(basis.tridiagonal)
        chosen = _choose(values, min(k, len(values)), which)
        residuals = basis.beta[-1] * rotation[-1].abs()  # Parlett 1998, eq. 13.2.1
        good = len(chosen) == k and bool((residuals[chosen] <= 0.5 * tol * values.abs().max()).all())
        if good or len(basis.alpha) >= limit:
            break
        if basis.fresh is None and not renew(basis, _other(basis)):
            break
        size = min(limit, math.ceil(1.3 * len(basis.alpha)) + 1)
    return basis.vectors @ rotation[:, chosen].to(A.dtype), spent


def _other(basis: Basis) -> Tensor:
    """A vector to go on with where the space is invariant: the same for the same space."""
    draw = torch.Generator().manual_seed(len(basis.alpha))
    return torch.randn(basis.A.size, generator=draw, dtype=torch.float64).to(basis.vectors)


def _without(A: Operator, vectors: Tensor) -> Operator:
    """A on what is orthogonal to `vectors`; zero on them."""

    def apply(v: Tensor) -> Tensor:
        w = A @ (v - vectors @ (vectors.T @ v))
        return w - vectors @ (vectors.T @ w)

    return Operator(A.size, apply, dtype=A.dtype, device=A.device)


def _rayleigh(A: Operator, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, descending, of A on the span of orthonormal vectors, and their coordinates."""
    inner = (vectors.T @ (A @ vectors)).double().cpu()
    values, rotation = torch.linalg.eigh((inner + inner.T) / 2)
    return values.flip(0), rotation.flip(1)


def _choose(values: Tensor, k: int, which: str) -> Tensor:
    """The places of the k outermost values, in descending order of value."""
    outer = (values.abs() if which == "magnitude" else values).argsort(descending=True)[:k]
    return outer[values[outer].argsort(descending=True)]


def _told(A: Operator, vectors: Tensor, k: int, tol: float, floor: float, spent: int) -> Eigenpairs:
    images = A @ vectors
    values = (vectors * images).double().sum(0).cpu()
    order = values.argsort(descending=True)
    vectors, images, values = vectors[:, order], images[:, order], values[order]
    scale = max(float(values.abs().max()), 1e-300)
    residual = (images - vectors * values.to(A.dtype).to(A.device)).double().norm(dim=0).cpu()
    error = residual + floor * scale  # the residual's own rounding
    converged = len(values) == k and bool((error <= max(tol, 2 * floor) * scale).all())
    reason = ""
    if not converged:
        reason = (
            f"after {spent} products the residuals are up to {float(error.max()):.2g}, where {tol:g} of {scale:.3g} "
            "was asked for: give more by most="
        )
    return Eigenpairs(values, vectors, error, converged, spent + len(values), reason)
