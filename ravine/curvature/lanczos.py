"""Lanczos's iteration with full reorthogonalization: an orthonormal basis in which the operator is tridiagonal."""

import torch
from torch import Tensor

from ravine.core.operator import Operator


class Basis:
    """A Q = Q T + r e': Q (n, m) orthonormal, T tridiagonal with `alpha` on its diagonal and `beta` beside it.

    beta[-1] is the length of the remainder r; where it is zero the space is invariant, and `fresh`, the next vector,
    is None. outside: orthonormal vectors (n, j) that Q is kept orthogonal to; A is then its part beside them.
    """

    def __init__(self, A: Operator, v: Tensor, outside: Tensor | None = None) -> None:
        self.A = A
        self.alpha: list[float] = []
        self.beta: list[float] = []
        self._outside = outside
        self._rows = v.new_empty(0, A.size)  # a vector a row, so that each lies in one piece of memory
        self.fresh: Tensor | None = None
        self.renew(v)

    def __len__(self) -> int:
        return len(self.alpha)

    @property
    def room(self) -> int:
        """The dimension that Q can grow to."""
        return self.A.size - (0 if self._outside is None else self._outside.shape[1])

    @property
    def vectors(self) -> Tensor:
        """Q (n, m)."""
        return self._rows[: len(self)].T

    @property
    def tridiagonal(self) -> Tensor:
        """T (m, m), in float64."""
        alpha = torch.tensor(self.alpha, dtype=torch.float64)
        beside = torch.tensor(self.beta[:-1], dtype=torch.float64)
        return torch.diag(alpha) + torch.diag(beside, 1) + torch.diag(beside, -1)

    def extend(self, to: int) -> None:
        """Lengthen Q to `to` vectors; it ends early where the space is invariant."""
        to = min(to, self.room)
        if to > len(self._rows):
            self._rows = torch.cat([self._rows, self._rows.new_empty(to - len(self._rows), self.A.size)])
        scale = max([abs(one) for one in (*self.alpha, *self.beta)], default=0.0)
        while len(self) < to and self.fresh is not None:
            q = self._rows[len(self)] = self.fresh
            w = self.A @ q
            self.alpha.append(float(q @ w))
            w = self._cleared(w)
            beta = float(w.norm())
            scale = max(scale, abs(self.alpha[-1]), beta)
            # A remainder of rounding is a direction as random as any: taken for more than that, it does no harm.
            invariant = len(self) == self.room or beta <= 10 * torch.finfo(w.dtype).eps * scale
            self.beta.append(0.0 if invariant else beta)
            self.fresh = None if invariant else w / beta

    def renew(self, v: Tensor) -> bool:
        """Where the space is invariant, go on with what v has outside it; whether there was anything."""
        if len(self) >= self.room:
            return False
        v = self._cleared(v / v.norm())
        norm = float(v.norm())
        if not norm > 0.0:
            return False
        self.fresh = self._cleared(v / norm)
        self.fresh = self.fresh / self.fresh.norm()
        return True

    def _cleared(self, w: Tensor) -> Tensor:
        """What w has beside Q and `outside`: taken twice, since the first time leaves what rounding has put in."""
        mine = self._rows[: len(self)]
        for _ in range(2):
            if self._outside is not None:
                w = w - self._outside @ (self._outside.T @ w)
            w = w - mine.T @ (mine @ w)
        return w
