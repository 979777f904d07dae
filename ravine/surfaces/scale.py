"""What is shown: of the loss, and of a way that leaves the window."""

import math
from collections.abc import Sequence

DEPTH = 1e-12
"""The part of the largest loss below which a logarithmic axis shows nothing: there all has converged."""


def loss_limits(losses: Sequence[Sequence[float]]) -> tuple[float, float, bool]:
    """From, to, and whether the axis is logarithmic, which takes losses that are never negative.

    Last points are left out of the upper end, since a trajectory that leaves may jump far up.
    """
    first = max(values[0] for values in losses)
    low = min(min(values) for values in losses)
    inner = [value for values in losses for value in (values[:-1] or values)]
    high = max(*inner, first)
    if low < 0 or high <= 0:
        room = 0.05 * (high - low) or 1.0
        return low - room, high + room, False
    low = max(min((value for values in losses for value in values if value > 0), default=high), DEPTH * high)
    if high / low < 10:
        low, high = low / math.sqrt(10), high * math.sqrt(10)
    return low / 1.5, high * 1.5, True


def crossing(
    window: tuple[float, float, float, float], before: tuple[float, float], last: tuple[float, float]
) -> tuple[float, float]:
    """Where the line from `before`, which lies in the window, to `last` leaves it; `last` where it does not."""
    share = 1.0
    for start, end, low, high in zip(before, last, window[::2], window[1::2], strict=True):
        edge = min(max(end, low), high)
        if edge != end:
            share = min(share, (edge - start) / (end - start))
    return (before[0] + share * (last[0] - before[0]), before[1] + share * (last[1] - before[1])) if share < 1 else last
