"""PSGD: a preconditioner that is fitted to the gradients by gradient descent of its own."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, eye, zeros_like
from torch.linalg import solve_triangular, vector_norm

from ravine.core.rule import Rule, State
from ravine.core.space import ADAPTIVE, Dimension
from ravine.rules.matrices import along, unfolded
from ravine.rules.norms import rms


@dataclass(frozen=True)
class PSGD(Rule):
    """Momentum whitened by a Kronecker product of upper triangular Q_i, one for each dimension of the tensor.

        M <- momentum M + (1 - momentum) G,  without its bias          u = (Q^T Q) M,  at most 1.1 in root mean square
        A  = Q M,   B = Q^-T V,   V standard normal
        Q_i <- Q_i - precond_lr / ||A_i A_i^T + B_i B_i^T||  triu(A_i A_i^T - B_i B_i^T) Q_i

    A_i is A unfolded along dimension i, the norm is a lower bound of the largest singular value. Li 2018 (PSGD,
    arXiv:1512.04202) and Li 2022, Kronecker product on Lie groups (arXiv:2211.04422); momentum, the bound on u and how
    often Q is fitted are those of kron_torch: at each of the first `flat` steps, then less and less, exponentially, to
    one in `every`. Where that draws lots, here it is counted; the Q_i are brought to one size at every hundredth fit.

    Q_i is diagonal where a dimension is larger than `max_size`, and for vectors.
    """

    momentum: float = 0.9
    precond_lr: float = 0.1
    every: int = 33
    flat: int = 500
    max_size: int = 2048

    ranges = {
        "momentum": "[0, 1)", "precond_lr": "(0, 1]", "every": "[1, inf)", "flat": "[0, inf)", "max_size": "[1, inf)",
    }  # fmt: skip
    name = "psgd"
    scope = "matrix"
    needs = frozenset({"noise"})
    default_lr = 1e-3
    space = {"lr": ADAPTIVE["lr"], "momentum": Dimension(0.7, 0.995, "log1m", points=9)}

    def refuses(self, p: Tensor) -> str:
        return ""  # vectors are welcome

    def init(self, p: Tensor) -> State:
        state = {"m": zeros_like(p)}
        for dim, n in enumerate(p.shape or (1,)):
            full = p.ndim > 1 and 1 < n <= self.max_size
            state[f"q{dim}"] = eye(n, dtype=p.dtype, device=p.device) if full else p.new_ones(n)
        return state

    @property
    def refreshes_every(self) -> int:
        return 1  # the steps at which there is something to do are not evenly spaced

    def refreshes_at(self, t: int) -> bool:
        return math.floor(self._fits(t)) > math.floor(self._fits(t - 1))

    def refresh(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> State:
        if not self.refreshes_at(t):
            return {}
        qs = [state[f"q{dim}"] for dim in range(max(p.ndim, 1))]
        if p.ndim > 1 and math.floor(self._fits(t)) % 100 == 0:
            qs = _balanced(qs)
        a = self._average(g, t, state)[1].reshape(p.shape or (1,))
        b = state["noise"].reshape(a.shape)
        for dim, q in enumerate(qs):
            a = _times(a, q, dim)
            b = _solved(b, q, dim)
        fitted = [_fitted(q, unfolded(a, dim), unfolded(b, dim), self.precond_lr) for dim, q in enumerate(qs)]
        return {f"q{dim}": q for dim, q in enumerate(fitted)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        m, u = self._average(g, t, state)
        u = u.reshape(p.shape or (1,))
        qs = {key: x for key, x in state.items() if key[0] == "q"}
        for dim, q in enumerate(qs.values()):
            u = _times(_times(u, q, dim), q.mT if q.ndim > 1 else q, dim)
        return (u * (1.1 / (rms(u) + 1e-6)).clamp(max=1.0)).reshape(p.shape), {"m": m} | qs

    def _average(self, g: Tensor, t: Any, state: State) -> tuple[Tensor, Tensor]:
        m = torch.lerp(state["m"], g, 1 - self.momentum)
        return m, m / (1 - self.momentum**t)

    def _fits(self, t: Any) -> float:
        """How often Q has been fitted by step `t`: the integral of max(1 / every, min(1, exp((flat - t) / 1000)))."""
        end = self.flat + 1000 * math.log(self.every)
        fading = min(max(t - self.flat, 0), end - self.flat)
        fits: float = min(t, self.flat) + 1000 * (1 - math.exp(-fading / 1000)) + max(t - end, 0) / self.every
        return fits


def _shaped(q: Tensor, x: Tensor, dim: int) -> Tensor:
    """A diagonal, to be multiplied with the dimension `dim` of `x`."""
    return q.reshape([-1 if i == dim else 1 for i in range(x.ndim)])


def _times(x: Tensor, q: Tensor, dim: int) -> Tensor:
    """Q x along the dimension `dim`."""
    return along(x, q.mT, dim) if q.ndim > 1 else x * _shaped(q, x, dim)


def _solved(x: Tensor, q: Tensor, dim: int) -> Tensor:
    """Q^-T x along the dimension `dim`."""
    if q.ndim < 2:
        return x / _shaped(q, x, dim)
    solved: Tensor = solve_triangular(q, x.movedim(dim, -1), upper=True, left=False)
    return solved.movedim(-1, dim)


def _fitted(q: Tensor, a: Tensor, b: Tensor, rate: float) -> Tensor:
    if q.ndim < 2:
        left, right = a.square().sum(1), b.square().sum(1)
        return q - rate / (left + right).amax().clamp(min=_tiny(q)) * (left - right) * q
    left, right = a @ a.mT, b @ b.mT
    return q - rate / _norm_at_least(left + right) * ((left - right).triu() @ q)


def _norm_at_least(x: Tensor) -> Tensor:
    """A lower bound of a symmetric matrix's norm, from its largest row (Li 2022)."""
    largest = x.abs().amax().clamp(min=_tiny(x))
    x = x / largest
    row = x.index_select(0, x.square().sum(1).argmax().reshape(1))
    row = row @ x
    norm: Tensor = vector_norm(row / vector_norm(row).clamp(min=_tiny(x)) @ x)
    return largest * norm


def _balanced(qs: list[Tensor]) -> list[Tensor]:
    """The factors brought to the same largest number; their product stays what it is."""
    sizes = torch.stack([q.abs().amax() for q in qs])
    mean = sizes.log().mean().exp()
    return [q * (mean / size) for q, size in zip(qs, sizes, strict=True)]


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny
