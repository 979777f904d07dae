"""Lanczos's iteration with full reorthogonalization: an orthonormal basis in which the operator is tridiagonal."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ravine.core.operator import Operator

Report = Callable[[int, int], None]


@dataclass
class Basis:
    """A Q = Q T + r e': Q (n, m) orthonormal, T tridiagonal with `alpha` on its diagonal and `beta` beside it.

    beta[-1] is the length of the remainder r; where it is zero the space is invariant.
    """

    A: Operator
    vectors: Tensor
    alpha: list[float]
    beta: list[float]
    fresh: Tensor | None

    @property
    def tridiagonal(self) -> Tensor:
        """T (m, m), in float64."""
        alpha = torch.tensor(self.alpha, dtype=torch.float64)
        beside = torch.tensor(self.beta[:-1], dtype=torch.float64)
        return torch.diag(alpha) + torch.diag(beside, 1) + torch.diag(beside, -1)


def start(A: Operator, v: Tensor) -> Basis:
    """A basis of nothing, that begins with v."""
    return Basis(A, v.new_empty(A.size, 0), [], [], v / v.norm())


def extend(basis: Basis, to: int) -> int:
    """Lengthen the basis to `to` vectors; the number of products. It ends early where the space is invariant."""
    A, spent = basis.A, 0
    scale = max([abs(one) for one in (*basis.alpha, *basis.beta)], default=0.0)
    while len(basis.alpha) < min(to, A.size) and basis.fresh is not None:
        q = basis.fresh
        basis.vectors = torch.cat([basis.vectors, q[:, None]], 1)
        w = A @ q
        spent += 1
        basis.alpha.append(float(q @ w))
        for _ in range(2):  # once more, since the first time leaves what rounding has put in
            w = w - basis.vectors @ (basis.vectors.T @ w)
        beta = float(w.norm())
        scale = max(scale, abs(basis.alpha[-1]), beta)
        invariant = beta <= 10 * torch.finfo(A.dtype).eps * max(scale, 1e-300) * A.size**0.5
        basis.beta.append(0.0 if invariant else beta)
        basis.fresh = None if invariant else w / beta
    return spent


def renew(basis: Basis, v: Tensor) -> bool:
    """Where the space is invariant, go on with what v has outside it; whether there was anything."""
    if len(basis.alpha) >= basis.A.size:
        return False
    for _ in range(2):
        v = v - basis.vectors @ (basis.vectors.T @ v)
    if float(v.norm()) == 0.0:
        return False
    basis.fresh = v / v.norm()
    return True
