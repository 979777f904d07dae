"""A step of fixed length."""

from dataclasses import dataclass
from typing import ClassVar

from ravine.solvers.base import Found, Line, Memory, Search


@dataclass(frozen=True)
class Fixed(Search):
    """alpha = lr at every step, whatever the loss does; only what is not finite is halved, 30 times at most."""

    scaled: ClassVar[bool] = True

    def along(self, line: Line, first: float, memory: Memory) -> Found:
        alpha = float(memory.get("lr", 1.0))
        for _ in range(31):
            trial = line.at(alpha)
            if trial.point.finite:
                return Found(alpha, trial.point)
            alpha *= 0.5
        return line.ended("the loss is not finite at any step length tried")
