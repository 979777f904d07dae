"""The outermost eigenvalues and their vectors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ravine.core.errors import unknown
from ravine.core.operator import Operator
from ravine.curvature.chance import check_count, check_tol, normals
from ravine.curvature.counted import Counted, Observe
from ravine.curvature.lanczos import Basis
from ravine.curvature.result import Eigenpairs

WHICH = ("algebraic", "magnitude")
_ROUGH = 1e-2  # how well, in parts of the scale, an eigenvalue is known that is not among the outermost


def top(
    A: Operator,
    k: int = 1,
    *,
    which: str = "algebraic",
    tol: float = 1e-4,
    certify: bool = True,
    generator: torch.Generator | None = None,
    most: int | None = None,
    observe: Observe = None,
) -> Eigenpairs:
    """The k largest eigenvalues with their vectors, by Lanczos's method with full reorthogonalization.

    which: "algebraic", or "magnitude" for the largest in absolute value, still in descending order of value.
    tol: a pair has converged when its residual is at most this share of the largest |eigenvalue| seen. A value is far
    closer than its residual r where its neighbours are a gap away, by about r² / gap: 0.02 mostly gives values to 1 %.
    certify: look for what the first search has missed.
    most: vectors at most in the basis, which is what memory they take; 20 k + 200 unless given, and n at most.

    A Krylov space holds one direction only of an eigenvalue that occurs several times, and little of one that the
    random start hardly sees. So when k pairs have converged, the iteration starts again beside them, from a new random
    vector, until it finds nothing further out; that takes 8 products at least, and up to as many again as the search.
    With certify=False the first space is trusted, as other packages do: each value is within its error of an
    eigenvalue all the same, but one further out may be missing, above all at a tol of 0.03 or more.

    >>> import torch
    >>> A = Operator(4, lambda v: torch.tensor([[1.0], [2.0], [2.0], [-5.0]]) * v)
    >>> top(A, 2).value.round(decimals=4).tolist(), bottom(A).value.round(decimals=4).tolist()
    ([2.0, 2.0], [-5.0])
    """
    if which not in WHICH:
        raise unknown("which", str(which), WHICH)
    return _outermost(A, k, which, tol, certify, generator, most, observe)


def bottom(
    A: Operator,
    k: int = 1,
    *,
    tol: float = 1e-4,
    certify: bool = True,
    generator: torch.Generator | None = None,
    most: int | None = None,
    observe: Observe = None,
) -> Eigenpairs:
    """The k smallest eigenvalues, the most negative last; see `top`."""
    turned = -A if isinstance(A, Operator) else A
    found = _outermost(turned, k, "algebraic", tol, certify, generator, most, observe)
    return Eigenpairs(
        -found.value.flip(0), found.vectors.flip(1), found.error.flip(0), found.converged, found.products, found.reason
    )


@dataclass
class _Search:
    """How the outermost pairs are looked for."""

    A: Counted
    which: str
    tol: float
    generator: torch.Generator | None
    scale: float = 0.0  # the largest |eigenvalue| seen

    def size(self, values: Tensor) -> Tensor:
        """How far out each value is."""
        return values.abs() if self.which == "magnitude" else values

    def vector(self) -> Tensor:
        return normals(self.A, 1, self.generator)[:, 0]

    def ritz(self, basis: Basis) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values of the basis, outermost first, the norms of their residuals, and their coordinates."""
        values, turned = torch.linalg.eigh(basis.tridiagonal)
        self.scale = max(self.scale, float(values.abs().max()))
        order = self.size(values).argsort(descending=True)
        residuals = basis.beta[-1] * turned[-1].abs()  # Parlett 1998, eq. 13.2.1
        return values[order], residuals[order], turned[:, order]


def _outermost(
    A: Operator,
    k: int,
    which: str,
    tol: float,
    certify: bool,
    generator: torch.Generator | None,
    most: int | None,
    observe: Observe,
) -> Eigenpairs:
    limit = 20 * k + 200 if most is None and isinstance(k, int) else most
    A = Counted(A, limit or 0, observe)
    check_count("k", k, 1, A.size)
    check_count("most", limit, k)
    floor = check_tol(A, tol)
    limit = min(A.size, limit or 0)
    search = _Search(A, which, tol, generator)
    values, vectors, error, whole = _first(search, k, limit, floor)
    settled = whole or not certify
    while not settled and A.spent < 2 * limit + 30:
        further, settled = _beside(search, vectors, float(search.size(values)[-1]), limit)
        if further is None:
            break
        values, vectors = torch.cat([values, further[0]]), torch.cat([vectors, further[1]], 1)
        outer = search.size(values).argsort(descending=True)[:k]
        values, vectors, error = values[outer], vectors[:, outer], None
    if error is None:
        values, vectors, error = _measured(search, vectors, floor)
    return _told(search, values, vectors, error, floor, settled)


def _first(search: _Search, k: int, limit: int, floor: float) -> tuple[Tensor, Tensor, Tensor | None, bool]:
    """k outermost Ritz values and vectors of a space that grows until they have converged, with their residuals;
    whether it is the whole space.

    By Lanczos's relation the residuals are known without further products. Where rounding has spoilt that, there are
    none.
    """
    basis, size = Basis(search.A, search.vector()), k + 5
    while True:
        basis.extend(min(limit, size))
        values, residuals, turned = search.ritz(basis)
        if len(values) >= k and bool((residuals[:k] <= 0.7 * search.tol * search.scale).all()):
            break
        if len(basis) >= limit or (basis.fresh is None and not basis.renew(search.vector())):
            break
        size = len(basis) + 1 + len(basis) // 32  # to look costs little beside a product
    vectors = basis.vectors @ turned[:, :k].to(basis.vectors)
    drift = math.hypot(*basis.defect)
    known = drift <= max(0.25 * search.tol, floor) * search.scale
    error = residuals[:k] + drift + floor * search.scale if known else None
    return values[:k], vectors, error, len(basis) == search.A.size


def _larger(basis: Basis) -> int:
    """The size at which to look again: soon, since looking costs little beside a product."""
    return len(basis) + 2 + len(basis) // 8


def _beside(search: _Search, vectors: Tensor, worst: float, limit: int) -> tuple[tuple[Tensor, Tensor] | None, bool]:
    """An outermost pair beside `vectors` that is further out than `worst`, or None; whether there is surely none."""
    basis, size = Basis(search.A, search.vector(), vectors), 8
    while True:
        basis.extend(min(limit, size))
        values, residuals, turned = search.ritz(basis)
        further = float(search.size(values)[0]) > worst + search.tol * search.scale
        found = bool(residuals[0] <= (0.5 * search.tol if further else _ROUGH) * search.scale)
        if found or len(basis) == basis.room:
            break
        if len(basis) >= limit or (basis.fresh is None and not basis.renew(search.vector())):
            return None, False
        size = _larger(basis)
    pair = (values[:1], basis.vectors @ turned[:, :1].to(basis.vectors)) if further else None
    return pair, not further


def _measured(search: _Search, vectors: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Values, vectors and residuals in the space of `vectors`, by a product with each."""
    vectors = torch.linalg.qr(vectors).Q
    images = search.A @ vectors
    inner = (vectors.T @ images).double().cpu()
    values, turn = torch.linalg.eigh((inner + inner.T) / 2)
    vectors, images = vectors @ turn.to(vectors), images @ turn.to(vectors)
    error = (images.double() - vectors.double() * values.to(images.device)).norm(dim=0).cpu()
    search.scale = max(search.scale, float(values.abs().max()))
    return values, vectors, error + floor * search.scale


def _told(
    search: _Search, values: Tensor, vectors: Tensor, error: Tensor, floor: float, settled: bool
) -> Eigenpairs:
    if bool((values.diff() > 0).any()):
        order = values.argsort(descending=True)
        values, vectors, error = values[order], vectors[:, order], error[order]
    converged = settled and bool((error <= max(search.tol, 2 * floor) * search.scale).all())
    reason = ""
    if not converged:
        reason = (
            f"after {search.A.spent} products the residuals are up to {float(error.max()):.2g}, where {search.tol:g} "
            f"of {search.scale:.3g} was asked for{'' if settled else ', and one further out may be missing'}: give "
            "more by most="
        )
    return Eigenpairs(values, vectors, error, converged, search.A.spent, reason)
