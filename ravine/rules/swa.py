"""Stochastic weight averaging."""

from dataclasses import dataclass
from typing import Any

from ravine.core.rule import choose
from ravine.rules.averages import Average


@dataclass(frozen=True)
class SWA(Average):
    """The mean of the weights after steps begin, begin + every, begin + 2 every, ..., for any rule.

        m <- (n m + theta) / (n + 1)            where n iterates are in it already

    Izmailov et al. 2018, Algorithm 1 (arXiv:1803.05407), whose pretrained weights are those after step `begin`. The
    learning rate is a schedule's: `@ linear(steps=3000, final=0.1)` falls to the constant one at which they average.
    Before `begin` the weights themselves are judged. Running statistics of batch normalization are of the last
    iterate: see `ravine.averaging.recalibrate`.
    """

    begin: int = 1
    every: int = 1

    ranges = {"begin": "[1, inf)", "every": "[1, inf)"}

    @property
    def first(self) -> int:
        return self.begin

    def share(self, t: Any) -> Any:
        past = choose(t > self.begin - 0.5, t - self.begin, 0 * t)
        due = past % self.every
        return choose(due < 0.5, 1 / (past // self.every + 1), 0.0 * t)
