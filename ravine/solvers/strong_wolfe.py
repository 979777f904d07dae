"""The strong Wolfe conditions, by bracketing and cubic interpolation."""

import math
from dataclasses import dataclass
from typing import ClassVar

from ravine.solvers.base import Found, Line, Memory, Search, Trial


@dataclass(frozen=True)
class StrongWolfe(Search):
    """phi(alpha) <= phi(0) + c1 alpha phi'(0) and |phi'(alpha)| <= c2 |phi'(0)|.

    Nocedal & Wright 2006, eq. 3.7, algorithms 3.5 and 3.6 with cubic interpolation (eq. 3.59). Where values differ by
    no more than rounding, the first condition is asked of the slopes instead (Hager & Zhang 2005, eq. 4.1). A loss that
    is not finite counts as +inf. most: trials at most.
    """

    c1: float = 1e-4
    c2: float = 0.9
    most: int = 30
    ranges: ClassVar = {"c1": "(0, 0.5)", "c2": "(0, 1)", "most": "[1, inf)"}

    def along(self, line: Line, first: float, memory: Memory) -> Found:
        start = line.start
        if not start.slope < 0:
            return line.ended("the direction does not point downhill")
        before, alpha = start, first
        for spent in range(1, self.most + 1):
            trial = line.at(alpha)
            if self._too_high(line, trial) or (before.alpha and trial.value >= before.value + line.rounding()):
                return self._zoom(line, before, trial, spent)
            if abs(trial.slope) <= -self.c2 * start.slope:
                return Found(alpha, trial.point)
            if trial.slope >= 0:
                return self._zoom(line, trial, before, spent)
            further = cubic(before, trial)
            low, high = alpha + 1.0 * (alpha - before.alpha), alpha + 9.0 * (alpha - before.alpha)
            before, alpha = trial, min(max(further, low), high) if math.isfinite(further) and further > alpha else high
        return line.endless(first, self.most)

    def _too_high(self, line: Line, trial: Trial) -> bool:
        """Whether the first condition fails."""
        start = line.start
        if trial.value <= start.value + self.c1 * trial.alpha * start.slope:
            return False
        close = trial.value <= start.value + line.rounding()
        return not (close and trial.slope <= (2 * self.c1 - 1) * start.slope)

    def _zoom(self, line: Line, low: Trial, high: Trial, spent: int) -> Found:
        """Narrow an interval whose end `low` is the lowest so far and slopes towards `high`."""
        start = line.start
        width, before = abs(high.alpha - low.alpha), math.inf
        for _ in range(spent, self.most):
            alpha = between(low, high, line.rounding())
            if width > 0.66 * before:  # the last trial has not narrowed it by a third: halve it
                alpha = 0.5 * (low.alpha + high.alpha)
            trial = line.at(alpha)
            before = width
            if self._too_high(line, trial) or trial.value >= low.value + line.rounding():
                high = trial
            else:
                if abs(trial.slope) <= -self.c2 * start.slope:
                    return Found(alpha, trial.point)
                if trial.slope * (high.alpha - low.alpha) >= 0:
                    high = low
                low = trial
            width = abs(high.alpha - low.alpha)
            if width <= 1e-14 * max(abs(high.alpha), 1e-300):
                return line.ended("values along the direction differ by rounding only: no step meets the conditions")
        return line.ended(f"no step meets the conditions after {self.most} trials")


def cubic(a: Trial, b: Trial) -> float:
    """The minimizer of the cubic through the values and slopes of two trials (eq. 3.59); NaN where there is none."""
    width = b.alpha - a.alpha
    if not width:
        return math.nan
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / -width
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return math.nan
    d2 = math.copysign(math.sqrt(square), width)
    below = b.slope - a.slope + 2 * d2
    return b.alpha - width * (b.slope + d2 - d1) / below if below else math.nan


def between(low: Trial, high: Trial, rounding: float, share: float = 0.1) -> float:
    """The cubic's minimizer inside an interval, at least `share` of it away from both ends; the middle without one.

    Where values differ by rounding only, the zero of the slopes' secant.
    """
    width = high.alpha - low.alpha
    if not math.isfinite(high.value):
        return low.alpha + 0.25 * width
    if abs(high.value - low.value) <= rounding and low.slope * high.slope < 0:
        at = low.alpha + width * low.slope / (low.slope - high.slope)
    else:
        at = cubic(low, high)
    ends = sorted((low.alpha + share * width, high.alpha - share * width))
    return min(max(at, ends[0]), ends[1]) if math.isfinite(at) else low.alpha + 0.5 * width
