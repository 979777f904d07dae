"""Steepest descent, the yardstick."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ravine.solvers.base import Direction, Memory, Point, Problem


@dataclass(frozen=True)
class Gradient(Direction):
    """d = -g, with the search of your choice (Cauchy 1847)."""

    search: str = "strong_wolfe"
    name: ClassVar[str] = "steepest_descent"

    def direction(self, point: Point, memory: Memory, problem: Problem) -> Tensor:
        return -point.gradient

    def first(self, point: Point, d: Tensor, memory: Memory) -> float:
        if "fall" not in memory:
            return min(1.0, 1.0 / float(d.norm()))
        return float(memory["fall"] / float(point.gradient @ d))

    def learn(self, memory: Memory, before: Point, after: Point, d: Tensor, alpha: float) -> None:
        memory["fall"] = alpha * float(before.gradient @ d)
