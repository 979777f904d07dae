"""Limited-memory BFGS."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ravine.core.space import Dimension
from ravine.solvers.base import Direction, Memory, Point, Problem
from ravine.solvers.first_length import as_before


@dataclass(frozen=True)
class LBFGS(Direction):
    """d = -H g with BFGS's H, made of the last `history` pairs s = x+ - x, y = g+ - g and of H0 = (s'y / y'y) I.

    The two-loop recursion (Nocedal & Wright 2006, algorithm 7.4), on coordinates: s, y and g are a basis, whose inner
    products one matrix product tells, and a second one makes d (Chen, Wang & Zhou 2014, "Large-scale L-BFGS using
    MapReduce", algorithm 3). So memory is passed three times a step, instead of ten for each pair. Both ends of a pair
    are of the same batch.

    damped: for minibatches. Where s'y < s'B0 s / 4, y is drawn towards B0 s, so that H stays positive definite (Wang,
    Ma, Goldfarb & Liu 2017, arXiv 1607.01231, eq. 3.8, B0 = I / (s'y / y'y)); without, such a pair is left out.
    """

    history: int = 20
    damped: bool = False
    ranges: ClassVar = {"history": "[1, inf)"}
    space: ClassVar = {"lr": Dimension(0.01, 1.0)}

    def direction(self, point: Point, memory: Memory, problem: Problem) -> Tensor:
        g = point.gradient
        order = memory.get("order") or []
        if not order:
            return -g
        pairs = memory["pairs"][: 2 * len(order)]
        own, rows = _two_loops(memory["small_gram"].numpy(), order, _numbers(pairs @ g), memory["gamma"])
        return torch.addmv(g, pairs.T, torch.from_numpy(rows).to(g), beta=-own, alpha=-1.0)

    def first(self, point: Point, d: Tensor, memory: Memory) -> float:
        """1, or 0.4 where the loss fell so little last that less is likely to do: what is tried first is then taken."""
        if not memory.get("order"):
            return min(1.0, 1.0 / float(d.norm()))
        return 1.0 if as_before(point.value, float(point.gradient @ d), memory) > 0.4 else 0.4

    def learn(self, memory: Memory, before: Point, after: Point, d: Tensor, alpha: float) -> None:
        if "pairs" not in memory:
            memory["pairs"] = d.new_zeros(2 * self.history, len(d))
            memory["small_gram"] = torch.zeros(2 * self.history, 2 * self.history, dtype=torch.float64)
            memory["order"], memory["gamma"] = [], 1.0
        memory["value"] = before.value
        order = memory["order"]
        slot = len(order) if len(order) < self.history else order[0]
        s, y = after.x - before.x, after.gradient - before.gradient
        sy, ss, yy = float(s @ y), float(s @ s), float(y @ y)
        if self.damped and ss:
            y, sy, yy = _damped(s, y, sy, ss, yy)
        if not sy > torch.finfo(d.dtype).eps * (ss * yy) ** 0.5:
            return
        pairs = memory["pairs"]
        pairs[2 * slot], pairs[2 * slot + 1] = s, y
        memory["order"] = [*order[len(order) == self.history :], slot]
        memory["gamma"] = sy / yy
        place = slice(2 * slot, 2 * slot + 2)
        filled = pairs[: 2 * len(memory["order"])]
        inner = (filled @ pairs[place].T).double().cpu()
        gram = memory["small_gram"]
        gram[: len(inner), place], gram[place, : len(inner)] = inner, inner.T

    def forget(self, memory: Memory) -> bool:
        had = bool(memory.get("order"))
        if had:
            memory["order"] = []
        return had


def _numbers(v: Tensor) -> Any:
    return v.double().cpu().numpy()


def _two_loops(gram: Any, order: list[int], along: Any, gamma: float) -> tuple[float, Any]:
    """H g as a multiple of g, and of the rows s and y. gram: the rows' inner products; along: those with g."""
    rows, inner = np.zeros(len(along)), gram[: len(along), : len(along)]
    alphas = {}
    for slot in reversed(order):
        s, y = 2 * slot, 2 * slot + 1
        alphas[slot] = (inner[s] @ rows + along[s]) / inner[s, y]
        rows[y] -= alphas[slot]
    rows *= gamma
    for slot in order:
        s, y = 2 * slot, 2 * slot + 1
        beta = (inner[y] @ rows + gamma * along[y]) / inner[s, y]
        rows[s] += alphas[slot] - beta
    return gamma, rows


def _damped(s: Tensor, y: Tensor, sy: float, ss: float, yy: float) -> tuple[Tensor, float, float]:
    """y drawn towards B0 s, and its products."""
    scale = max(yy / sy if sy > 0 else 0.0, (yy / ss) ** 0.5, 1e-8)  # of B0 = scale I
    wanted = 0.25 * scale * ss
    if sy >= wanted:
        return y, sy, yy
    theta = 0.75 * scale * ss / (scale * ss - sy)
    y = theta * y + (1 - theta) * scale * s
    return y, float(s @ y), float(y @ y)
