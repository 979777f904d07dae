"""BFGS."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ravine.solvers.base import Direction, Memory, Point, Problem
from ravine.solvers.first_length import as_before


@dataclass(frozen=True)
class BFGS(Direction):
    """d = -M g, M <- (I - rho s y') M (I - rho y s') + rho s s', rho = 1 / y's.

    Nocedal & Wright 2006, eq. 6.17, algorithm 6.1. M keeps the secant condition M y = s. Before the first update it is
    (y's / y'y)^0.6 I, between I and eq. 6.20, which takes fewer steps than either on the problems of
    `benchmarks/solvers.py`. It takes 8 n^2 bytes in float64. A pair without y's > 0 is left out.
    """

    search: str = "strong_wolfe(c2=0.7)"
    dense: ClassVar[bool] = True

    def direction(self, point: Point, memory: Memory, problem: Problem) -> Tensor:
        if "inverse" not in memory:
            return -point.gradient
        M: Tensor = memory["inverse"]
        return (M @ point.gradient).neg_()

    def first(self, point: Point, d: Tensor, memory: Memory) -> float:
        if "inverse" not in memory:
            return min(1.0, 1.0 / float(d.norm()))
        return as_before(point.value, float(point.gradient @ d), memory)

    def learn(self, memory: Memory, before: Point, after: Point, d: Tensor, alpha: float) -> None:
        memory["value"] = before.value
        s, y = after.x - before.x, after.gradient - before.gradient
        sy, yy = float(s @ y), float(y @ y)
        if not sy > torch.finfo(s.dtype).eps * (float(s @ s) * yy) ** 0.5:
            return
        if "inverse" not in memory:
            memory["inverse"] = torch.eye(len(s), dtype=s.dtype, device=s.device) * (sy / yy) ** 0.6
        M = memory["inverse"]
        u = M @ y
        cross = torch.outer(s / sy, u)
        M -= cross + cross.T
        M.addr_(s, s, alpha=(1 + float(y @ u) / sy) / sy)

    def forget(self, memory: Memory) -> bool:
        return memory.pop("inverse", None) is not None
