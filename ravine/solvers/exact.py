"""A line search to the very minimum, for experiments on quadratics."""

import math
from dataclasses import dataclass
from typing import ClassVar

from ravine.solvers.base import Found, Line, Memory, Search


@dataclass(frozen=True)
class Exact(Search):
    """alpha with |phi'(alpha)| <= tol |phi'(0)|, by the secant rule inside a bracket; on a quadratic two trials."""

    tol: float = 1e-10
    most: int = 60
    ranges: ClassVar = {"tol": "[0, 1)", "most": "[1, inf)"}

    def along(self, line: Line, first: float, memory: Memory) -> Found:
        low = before = line.start
        if not low.slope < 0:
            return line.ended("the direction does not point downhill")
        high, alpha = math.inf, first
        for _ in range(self.most):
            trial = line.at(alpha)
            if abs(trial.slope) <= -self.tol * line.start.slope:
                return Found(alpha, trial.point)
            if trial.slope < 0:
                low = trial
            else:
                high = alpha
            below = trial.slope - before.slope
            alpha = (before.alpha * trial.slope - trial.alpha * before.slope) / below if below else math.nan
            if not low.alpha < alpha < high:
                alpha = 0.5 * (low.alpha + high) if math.isfinite(high) else 4 * max(low.alpha, first)
            if alpha in (low.alpha, high):
                break
            before = trial if trial.point.finite else low
        best = line.best
        if best.alpha and best is low and not math.isfinite(high):
            return line.endless(first, self.most)
        return Found(best.alpha, best.point, "" if best.alpha else "no step lowers the loss")
