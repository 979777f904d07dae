"""The scale of the loss: what is shown of it, and whether by its logarithm."""

import math
from collections.abc import Sequence

DEPTH = 1e-12
"""The part of the largest loss below which a logarithmic axis shows nothing: there all has converged."""


def loss_limits(losses: Sequence[Sequence[float]]) -> tuple[float, float, bool]:
    """From, to, and whether the axis is logarithmic, which takes losses that are never negative.

    The losses of the last points are left out of the upper end, where trajectories jump away.
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
