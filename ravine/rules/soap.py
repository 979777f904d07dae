"""SOAP: Adam in the basis of Shampoo's eigenvectors."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, addmm, eye, where, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import ADAPTIVE, Dimension
from ravine.rules.matrices import along, completed, eigen, kept_if_not_finite, unfolded


@dataclass(frozen=True)
class SOAP(Rule):
    """Adam on the gradient as it looks from the eigenvectors of its own covariances, of rows and of columns.

        G' = Q_L^T G Q_R          M <- beta1 M + (1 - beta1) G'          V <- beta2 V + (1 - beta2) G'^2
        u  = Q_L (M / (sqrt(V) + eps)) Q_R^T  sqrt(1 - beta2^n) / (1 - beta1^n),     n = t - 1
        L <- shampoo_beta L + (1 - shampoo_beta) G G^T          R <- the same with G^T G
        Q_L <- QR(L Q_L), columns in the order of their eigenvalues, every `every` steps; V goes with them, M is turned

    Vyas et al. 2024, Algorithm 3 (arXiv:2409.11321), M kept in the rotated space and `eps` outside the root as in the
    authors' code. Of the code is also the first step, which only makes L, R and, by a full decomposition, the Q. Their
    count begins behind it, so that their Q turn one step later than here, and in the paper. A direction in which L is
    zero is an eigenvector like any other; see `completed` for which is taken.

    In the first step weight decay alone moves the weights; the authors' code leaves that out. Every dimension of a
    kernel has its own Q, as in the code. One larger than `max_size` has none (the authors' is 10000; eigenvectors of a
    table of 6000 rows take minutes), nor has a vector unless `vectors`: it has Adam.
    """

    beta1: float = 0.95
    beta2: float = 0.95
    shampoo_beta: float = 0.95
    eps: float = 1e-8
    every: int = 10
    max_size: int = 2048
    vectors: bool = False

    ranges = {
        "beta1": "[0, 1)", "beta2": "[0, 1)", "shampoo_beta": "[0, 1)", "eps": "(0, inf)", "every": "[1, inf)",
        "max_size": "[1, inf)",
    }  # fmt: skip
    name = "soap"
    scope = "matrix"
    default_lr = 3e-3
    space = ADAPTIVE | {"shampoo_beta": Dimension(0.7, 0.9999, "log1m", points=33)}

    def refuses(self, p: Tensor) -> str:
        return ""  # vectors are welcome

    def init(self, p: Tensor) -> State:
        state = {"m": zeros_like(p), "v": zeros_like(p)}
        for dim in self._dims(p):
            n = p.shape[dim]
            state[f"l{dim}"] = p.new_zeros(n, n)
            state[f"q{dim}"] = eye(n, dtype=p.dtype, device=p.device)
        return state

    @property
    def refreshes_every(self) -> int:
        return self.every

    def refresh(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> State:
        new: State = {}
        m, v = state["m"], state["v"]
        for dim in self._dims(p):
            q = state[f"q{dim}"]
            if t == 1:
                rows = unfolded(g, dim)
                values, vectors = eigen(rows @ rows.mT)
                turned = completed(vectors.flip(-1), values.flip(-1))
            else:
                turned, order = _turned(state[f"l{dim}"], q)
                v = where(turned.isfinite().all(), v.index_select(dim, order), v)
            new[f"q{dim}"] = kept_if_not_finite(turned, q)
            m = along(along(m, q.mT, dim), new[f"q{dim}"], dim)
        return new | ({"m": m, "v": v} if t > 1 else {})

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        dims = self._dims(p)
        new = dict(state)
        for dim in dims:
            rows, share = unfolded(g, dim), 1 - self.shampoo_beta
            new[f"l{dim}"] = addmm(state[f"l{dim}"], rows, rows.mT, beta=self.shampoo_beta, alpha=share)
        if t == 1:
            return zeros_like(g), new
        turned = g
        for dim in dims:
            turned = along(turned, state[f"q{dim}"], dim)
        new["m"] = torch.lerp(state["m"], turned, 1 - self.beta1)
        new["v"] = torch.lerp(state["v"], turned * turned, 1 - self.beta2)
        scale = (1 - self.beta2 ** (t - 1)) ** 0.5 / (1 - self.beta1 ** (t - 1))
        u = scale * new["m"] / (new["v"].sqrt() + self.eps)
        for dim in dims:
            u = along(u, state[f"q{dim}"].mT, dim)
        return u, new

    def _dims(self, p: Tensor) -> list[int]:
        """The dimensions that have eigenvectors."""
        if p.ndim < 2 and not self.vectors:
            return []
        return [dim for dim, n in enumerate(p.shape) if 1 < n <= self.max_size]


def _turned(covariance: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """One step of the power iteration from `q` towards the eigenvectors, and the order in which its columns went."""
    ahead = covariance @ q
    values, order = (q * ahead).sum(0).sort(descending=True, stable=True)
    return completed(ahead.index_select(1, order), values), order
