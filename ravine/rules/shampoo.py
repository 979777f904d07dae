"""Shampoo: steps scaled by the roots of the gradient's covariances, of rows and of columns."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, baddbmm, eye, where, zeros_like
from torch.nn.functional import pad

from ravine.core.rule import Rule, State, choose
from ravine.core.space import ADAPTIVE
from ravine.rules.matrices import eigen, kept_if_not_finite
from ravine.rules.norms import norm


@dataclass(frozen=True)
class Shampoo(Rule):
    """The gradient between inverse roots of its covariances, as large as another rule's step.

        L <- beta2 L + (1 - beta2) G G^T          R <- beta2 R + (1 - beta2) G^T G          M <- beta1 M + (1 - beta1) G
        D  = L^(-1/4) M R^(-1/4)                  u  = D ||grafted step|| / ||D||

    Gupta, Koren & Singer 2018, Algorithm 1 (arXiv:1802.09568); with beta2 = 1 the sum of all G G^T, as there. Averages,
    blocks, grafting and roots taken every `every` steps are those of Anil et al. 2020 (arXiv:2002.09018) and Shi et al.
    2023 (arXiv:2309.06497): L, R and M without their bias; eps times the largest eigenvalue is added to all of L's, as
    in the former's code; rows and columns are cut into equal blocks of at most `block_size`, each with an L and an R of
    its own (0: never; then no dimension may be larger than `max_size`). `root` = p makes it L^(-1/p). The grafted step
    is "adam"'s, "rmsprop"'s (Adam's without the bias correction of V), "sgd"'s (M), or, with "none", D itself.

    Kernels are taken as matrices (out, rest), and a vector has the square root of its diagonal. Roots come from
    eigenvalues in the weight's own precision; see `eigen` for what happens when they cannot be found: the step goes on
    with the last roots that were.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    every: int = 10
    block_size: int = 1024
    root: int = 0
    grafting: str = "adam"
    graft_beta2: float = 0.999
    graft_eps: float = 1e-8
    max_size: int = 8192

    ranges = {
        "beta1": "[0, 1)", "beta2": "[0, 1]", "eps": "(0, inf)", "every": "[1, inf)", "block_size": "[0, inf)",
        "root": "[0, inf)", "graft_beta2": "[0, 1)", "graft_eps": "(0, inf)", "max_size": "[1, inf)",
    }  # fmt: skip
    choices = {"grafting": ("adam", "rmsprop", "sgd", "none")}
    scope = "matrix"
    default_lr = 1e-3
    space = {key: ADAPTIVE[key] for key in ("lr", "beta1", "beta2")}

    def refuses(self, p: Tensor) -> str:
        largest = max(_matrix(p).shape) if p.ndim > 1 else 0
        if self.block_size or largest <= self.max_size:
            return ""
        return f"{largest} rows or columns are more than max_size={self.max_size}, and block_size=0 cuts no blocks"

    def init(self, p: Tensor) -> State:
        state = {"m": zeros_like(p)}
        if self.grafting in ("adam", "rmsprop"):
            state["v"] = zeros_like(p)
        if p.ndim < 2:
            return state | {"d": zeros_like(p)}
        blocks = self._cut(p)
        for key, n in (("l", blocks.shape[1]), ("r", blocks.shape[2])):
            state[key] = p.new_zeros(len(blocks), n, n)
            state[f"{key}_root"] = eye(n, dtype=p.dtype, device=p.device).repeat(len(blocks), 1, 1)
        return state

    @property
    def refreshes_every(self) -> int:
        return self.every

    def refresh(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> State:
        if p.ndim < 2:
            return {}
        covariances = self._covariances(g, state)
        return {f"{key}_root": self._root(x, t, state[f"{key}_root"]) for key, x in covariances.items()}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        new = dict(state)
        new["m"] = torch.lerp(state["m"], g, 1 - self.beta1)
        m = new["m"] / (1 - self.beta1**t)
        if p.ndim < 2:
            new["d"] = self.beta2 * state["d"] + self._share * g * g
            values = new["d"] / self._known(t)
            u = m * _powers(values, self.eps * values.amax(), -1 / (self.root or 2))
        else:
            new |= self._covariances(g, state)
            u = self._joined(state["l_root"] @ self._cut(m) @ state["r_root"], p)
        if self.grafting == "none":
            return u, new
        if "v" in state:
            new["v"] = torch.lerp(state["v"], g * g, 1 - self.graft_beta2)
            known = 1 - self.graft_beta2**t if self.grafting == "adam" else 1.0
            m = m / ((new["v"] / known).sqrt() + self.graft_eps)
        return u * (norm(m) / norm(u).clamp(min=torch.finfo(u.dtype).tiny)), new

    @property
    def _share(self) -> Any:
        return choose(self.beta2 < 1, 1 - self.beta2, 1.0)

    def _known(self, t: Any) -> Any:
        return choose(self.beta2 < 1, 1 - self.beta2**t, 1.0)

    def _covariances(self, g: Tensor, state: State) -> State:
        x = self._cut(g)
        left = baddbmm(state["l"], x, x.mT, beta=self.beta2, alpha=self._share)
        return {"l": left, "r": baddbmm(state["r"], x.mT, x, beta=self.beta2, alpha=self._share)}

    def _root(self, covariances: Tensor, t: Any, before: Tensor) -> Tensor:
        values, vectors = eigen(covariances / self._known(t))
        values = _powers(values, self.eps * values.amax(-1, keepdim=True), -1 / (self.root or 4))
        return kept_if_not_finite(vectors * values.unsqueeze(-2) @ vectors.mT, before)

    def _cut(self, x: Tensor) -> Tensor:
        """A matrix as a stack of blocks, filled up with zeros where they do not fit."""
        matrix = _matrix(x)
        (i, rows), (j, columns) = (_blocks(n, self.block_size) for n in matrix.shape)
        if matrix.shape != (i * rows, j * columns):
            matrix = pad(matrix, (0, j * columns - matrix.shape[1], 0, i * rows - matrix.shape[0]))
        return matrix.reshape(i, rows, j, columns).transpose(1, 2).reshape(i * j, rows, columns)

    def _joined(self, blocks: Tensor, p: Tensor) -> Tensor:
        (i, rows), (j, columns) = (_blocks(n, self.block_size) for n in _matrix(p).shape)
        matrix = blocks.reshape(i, j, rows, columns).transpose(1, 2).reshape(i * rows, j * columns)
        return matrix[: len(p), : p[0].numel()].reshape(p.shape)


def _matrix(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1)


def _blocks(n: int, size: int) -> tuple[int, int]:
    """How many blocks a dimension is cut into, and how long each is."""
    count = -(-n // size) if size and n else 1
    return count, -(-n // count)


def _powers(values: Tensor, added: Tensor, power: float) -> Tensor:
    """(values + added)^power, of what rounding has made negative too; 1 where all is zero."""
    values = values.clamp(min=0) + added
    return where(values > 0, values, 1.0) ** power
