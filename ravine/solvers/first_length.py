"""The step length to try first."""

from collections.abc import Mapping
from typing import Any


def as_before(value: float, slope: float, memory: Mapping[str, Any], most: float = 1.0) -> float:
    """The step length at which a quadratic of slope g'd falls as much as the loss fell last, at most `most`.

    Nocedal & Wright 2006, eq. 3.60. `memory` keeps the last value of the loss as "value"; `value` is the one now.
    """
    if "value" not in memory or not slope < 0:
        return min(1.0, most)
    guess = 2.02 * (value - float(memory["value"])) / slope
    return min(most, guess) if guess > 0 else min(1.0, most)
