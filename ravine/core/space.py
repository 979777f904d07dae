"""A tunable hyperparameter: its range, the scale on which it is searched, and the budget from which it is tuned."""

import math
from dataclasses import dataclass, replace

from ravine.core.errors import RavineError


@dataclass(frozen=True)
class Dimension:
    """A range on a logarithmic scale: of the value itself ("log"), or of its distance to one ("log1m", for betas); or
    the two values at its ends and nothing between ("ends").

    `zero` is the share of points at which the value is 0, "leave it out", which no logarithmic scale has.

    `points` is the smallest number of points per optimizer at which a race tunes this one: few points are spent on
    the learning rate alone.
    """

    low: float
    high: float
    scale: str = "log"
    points: int = 1
    zero: float = 0.0

    def __post_init__(self) -> None:
        if self.scale not in ("log", "log1m", "ends"):
            raise RavineError(f"a dimension's scale is 'log', 'log1m' or 'ends', got {self.scale!r}")
        if not 0 <= self.zero < 1:
            raise RavineError(f"a dimension's share of zeros is in [0, 1), got {self.zero!r}")
        if min(self._distance(self.low), self._distance(self.high)) <= 0 or self.low >= self.high:
            raise RavineError(f"a dimension needs low < high, both inside the scale, got {self}")

    def at(self, fraction: float) -> float:
        """The value at `fraction` of the way along the scale: 1 is `high`, 0 `low`, or zero with a share of zeros."""
        if self.scale == "ends":
            return self.low if fraction < 0.5 else self.high
        if 0 <= fraction < self.zero:
            return 0.0
        fraction = (fraction - self.zero) / (1 - self.zero)
        start, end = math.log(self._distance(self.low)), math.log(self._distance(self.high))
        distance = math.exp(start + fraction * (end - start))
        return distance if self.scale == "log" else 1 - distance

    def fraction(self, value: float) -> float:
        """Where `value` lies along the range, apart from zeros; outside [0, 1] for a value outside the range."""
        start, end = math.log(self._distance(self.low)), math.log(self._distance(self.high))
        return (math.log(self._distance(value)) - start) / (end - start)

    def beyond(self, value: float) -> "Dimension | None":
        """The strip beside the range, a quarter of its width, where `value` lies in the range's outer tenth."""
        if self.scale == "ends" or (self.zero and value == 0):  # nothing lies beyond
            return None
        where, plain = self.fraction(value), replace(self, zero=0.0)
        if where <= 0.1:
            low = plain.at(-0.25) if self.scale == "log" else max(0.0, plain.at(-0.25))  # betas are not negative
            return replace(plain, low=low, high=self.low)
        if where >= 0.9:
            return replace(plain, low=self.high, high=plain.at(1.25))
        return None

    def _distance(self, value: float) -> float:
        return 1 - value if self.scale == "log1m" else value


ADAPTIVE = {
    "lr": Dimension(1e-5, 1e-1),
    "beta1": Dimension(0.7, 0.996, "log1m", points=9),
    "beta2": Dimension(0.7, 0.9999, "log1m", points=33),
    "eps": Dimension(1e-8, 1e-3, "ends", points=33),
}
"""The starting ranges of the rules that scale each coordinate by its gradients' moments: Adam and its family."""
