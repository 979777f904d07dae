"""Backtracking until the loss has fallen enough."""

from dataclasses import dataclass
from typing import ClassVar

from ravine.solvers.base import Found, Line, Memory, Search


@dataclass(frozen=True)
class Armijo(Search):
    """The first of lr, shrink lr, shrink^2 lr, ... with phi(alpha) <= phi(0) + c1 alpha phi'(0) (Armijo 1966).

    Nocedal & Wright 2006, algorithm 3.1. A loss that is not finite counts as +inf.
    """

    c1: float = 1e-4
    shrink: float = 0.5
    most: int = 40
    ranges: ClassVar = {"c1": "(0, 1)", "shrink": "(0, 1)", "most": "[1, inf)"}
    scaled: ClassVar[bool] = True

    def along(self, line: Line, first: float, memory: Memory) -> Found:
        start, alpha = line.start, first * float(memory.get("lr", 1.0))
        if not start.slope < 0:
            return line.ended("the direction does not point downhill")
        for _ in range(self.most):
            trial = line.at(alpha)
            if trial.value <= start.value + self.c1 * alpha * start.slope:
                return Found(alpha, trial.point)
            alpha *= self.shrink
        return line.ended(f"no step of {self.most} lowered the loss enough, down to a length of {alpha:.2g}")
