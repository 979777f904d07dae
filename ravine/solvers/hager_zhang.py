"""The line search of Hager and Zhang, with their approximate Wolfe conditions."""

import math
from dataclasses import dataclass
from typing import ClassVar

from ravine.solvers.base import Found, Line, Memory, Search, Trial


@dataclass(frozen=True)
class HagerZhang(Search):
    """Ends where the Wolfe conditions hold, or the approximate ones (2 delta - 1) phi'(0) >= phi'(a) >= sigma phi'(0)
    with phi(a) <= phi(0) + epsilon |phi(0)|.

    Hager & Zhang 2005, "A new conjugate gradient method with guaranteed descent and an efficient line search", sec. 4:
    steps B0-B3, secant^2 S1-S4, update U0-U3. The approximate conditions look at slopes, which are exact where values
    differ by rounding only. A loss that is not finite counts as +inf. most: trials at most.
    """

    delta: float = 0.1
    sigma: float = 0.9
    epsilon: float = 1e-6
    theta: float = 0.5
    gamma: float = 0.66
    rho: float = 5.0
    most: int = 50
    ranges: ClassVar = {
        "delta": "(0, 0.5)", "sigma": "(0, 1)", "epsilon": "[0, inf)", "theta": "(0, 1)", "gamma": "(0, 1)",
        "rho": "(1, inf)", "most": "[1, inf)",
    }  # fmt: skip

    def along(self, line: Line, first: float, memory: Memory) -> Found:
        if not line.start.slope < 0:
            return line.ended("the direction does not point downhill")
        try:
            _Run(self, line).search(first)
        except _Done as done:
            return Found(done.trial.alpha, done.trial.point)
        except _Spent as spent:
            return line.endless(first, self.most) if spent.falling else line.ended(str(spent))
        return line.ended("values along the direction differ by rounding only: no step meets the conditions")


class _Done(Exception):
    def __init__(self, trial: Trial) -> None:
        self.trial = trial


class _Spent(Exception):
    def __init__(self, reason: str, falling: bool = False) -> None:
        super().__init__(reason)
        self.falling = falling


class _Run:
    """One search. `at` ends it by an exception where a trial meets the conditions."""

    def __init__(self, rule: HagerZhang, line: Line) -> None:
        self.rule, self.line, self.start = rule, line, line.start
        self.high = line.start.value + rule.epsilon * abs(line.start.value)
        self.spent, self.widening = 0, False

    def at(self, alpha: float) -> Trial:
        if self.spent >= self.rule.most:
            raise _Spent(f"no step meets the conditions after {self.spent} trials", self.widening)
        self.spent += 1
        trial = self.line.at(alpha)
        s, r = self.start.slope, self.rule
        if trial.slope >= r.sigma * s:
            wolfe = trial.value - self.start.value <= r.delta * alpha * s
            if wolfe or ((2 * r.delta - 1) * s >= trial.slope and trial.value <= self.high):
                raise _Done(trial)
        return trial

    def search(self, first: float) -> None:
        a, b = self.bracket(first)
        while b.alpha - a.alpha > 1e-15 * b.alpha:
            width = b.alpha - a.alpha
            a, b = self.secant2(a, b)
            if b.alpha - a.alpha > self.rule.gamma * width:
                a, b = self.update(a, b, 0.5 * (a.alpha + b.alpha))

    def bracket(self, alpha: float) -> tuple[Trial, Trial]:
        """a with a negative slope and a value that is not high, b with a slope that is not negative (B0-B3)."""
        below = self.start
        while True:
            trial = self.at(alpha)
            self.widening = False
            if not math.isfinite(trial.value):
                trial = self.finite(below, trial)
            if trial.slope >= 0:
                return below, trial
            if trial.value > self.high:
                return self.shrink(self.start, trial)
            below, alpha, self.widening = trial, alpha * self.rule.rho, True
            if not math.isfinite(alpha):
                raise _Spent("", True)

    def finite(self, below: Trial, trial: Trial) -> Trial:
        """A trial between the last one and one that is not finite, that is."""
        alpha = trial.alpha
        while not math.isfinite(trial.value):
            alpha = below.alpha + 0.1 * (alpha - below.alpha)
            if alpha <= below.alpha:
                raise _Spent("the loss is not finite along the direction")
            trial = self.at(alpha)
        return trial

    def shrink(self, a: Trial, b: Trial) -> tuple[Trial, Trial]:
        """U3: from an end that is too high to one whose slope is not negative."""
        while True:
            middle = (1 - self.rule.theta) * a.alpha + self.rule.theta * b.alpha
            if not a.alpha < middle < b.alpha:
                raise _Spent("values along the direction differ by rounding only: no step meets the conditions")
            trial = self.at(middle)
            if trial.slope >= 0:
                return a, trial
            a, b = (trial, b) if trial.value <= self.high else (a, trial)

    def update(self, a: Trial, b: Trial, alpha: float) -> tuple[Trial, Trial]:
        """U0-U3: a narrower interval by a trial inside it."""
        if not a.alpha < alpha < b.alpha:
            return a, b
        trial = self.at(alpha)
        if trial.slope >= 0:
            return a, trial
        if trial.value <= self.high:
            return trial, b
        return self.shrink(a, trial)

    def secant2(self, a: Trial, b: Trial) -> tuple[Trial, Trial]:
        """S1-S4: two steps of the secant rule."""
        c = _secant(a, b)
        low, high = self.update(a, b, c)
        if c == high.alpha:
            c = _secant(b, high)
        elif c == low.alpha:
            c = _secant(a, low)
        else:
            return low, high
        return self.update(low, high, c)


def _secant(a: Trial, b: Trial) -> float:
    below = b.slope - a.slope
    return (a.alpha * b.slope - b.alpha * a.slope) / below if below else math.nan
