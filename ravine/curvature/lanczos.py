"""Lanczos's iteration with full reorthogonalization: an orthonormal basis in which the operator is tridiagonal."""

import math

import torch
from torch import Tensor
from torch.linalg import vector_norm

from ravine.core.operator import Operator


class Basis:
    """A Q = Q T + r e': Q (n, m) orthonormal, T tridiagonal with `alpha` on its diagonal and `beta` beside it.

    beta[-1] is the length of the remainder r; where it is zero the space is invariant, and `fresh`, the next vector,
    is None. outside: orthonormal vectors (n, j) that Q is kept orthogonal to; A is then its part beside them.
    defect: for each column of A Q, the length of what rounding puts along Q and T does not hold.
    """

    def __init__(self, A: Operator, v: Tensor, outside: Tensor | None = None) -> None:
        self.A = A
        self.alpha: list[float] = []
        self.beta: list[float] = []
        self.defect: list[float] = []
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
        if to > len(self._rows):  # by half as much again, since a space grows by one vector at a time
            rows = self._rows.new_empty(min(self.room, max(to, len(self) + len(self) // 2)), self.A.size)
            rows[: len(self)] = self._rows[: len(self)]
            self._rows = rows
        scale = max([abs(one) for one in (*self.alpha, *self.beta)], default=0.0)
        while len(self) < to and self.fresh is not None:
            q = self._rows[len(self)] = self.fresh
            w = self.A @ q
            self.alpha.append(float(q @ w))
            w = torch.sub(w, q, alpha=self.alpha[-1])
            if self.beta and self.beta[-1]:
                w.sub_(self._rows[len(self) - 2], alpha=self.beta[-1])
            w, beta, defect = self._cleared(w)
            scale = max(scale, abs(self.alpha[-1]), beta)
            # A remainder of rounding is a direction as random as any: taken for more than that, it does no harm.
            invariant = len(self) == self.room or beta <= 10 * torch.finfo(w.dtype).eps * scale
            self.beta.append(0.0 if invariant else beta)
            self.defect.append(math.hypot(defect, beta if invariant else 0.0))
            self.fresh = None if invariant else w / beta

    def renew(self, v: Tensor) -> bool:
        """Where the space is invariant, go on with what v has outside it; whether there was anything."""
        if len(self) >= self.room:
            return False
        v, norm, _ = self._cleared(v / v.norm())
        if not norm > 0.0:
            return False
        self.fresh = self._cleared(v / norm)[0]
        self.fresh = self.fresh / self.fresh.norm()
        return True

    def _cleared(self, w: Tensor) -> tuple[Tensor, float, float]:
        """What w has beside Q and `outside`, its length, and the length of what it had along Q.

        Taken again where little is left, since then rounding has put in as much (Daniel, Gragg, Kaufman & Stewart
        1976).
        """
        mine = self._rows[: len(self)]
        along, before = w.new_zeros(len(self)), float(vector_norm(w))
        for _ in range(2):
            if self._outside is not None:
                w = torch.addmv(w, self._outside, self._outside.T @ w, alpha=-1)
            part = mine @ w
            w, along = torch.addmv(w, mine.T, part, alpha=-1), along + part
            after = float(vector_norm(w))
            if after > 0.7 * before:
                break
            before = after
        return w, after, float(vector_norm(along))
