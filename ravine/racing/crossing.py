"""Goals and crossings: how much work a curve takes to a goal."""

import math
from collections.abc import Sequence

import numpy as np

SHARES = {"50": 0.5, "75": 0.75, "90": 0.9}


def crossing(work: Sequence[float], metric: Sequence[float], goal: float, better: str) -> float | None:
    """The work at which the curve crosses `goal`; None for a run that never does (it is censored at its horizon).

    The crossing is at the first of two consecutive evaluations at or past the goal, interpolated from the evaluation
    before; the last evaluation needs no second. At least 1, so that ratios exist.
    """
    sign = 1 if better == "higher" else -1
    past = [math.isfinite(value) and sign * (value - goal) >= 0 for value in metric]
    for i in range(len(past)):
        if past[i] and (i == len(past) - 1 or past[i + 1]):
            if i == 0:
                return max(1.0, work[0])
            share = (goal - metric[i - 1]) / (metric[i] - metric[i - 1]) if math.isfinite(metric[i - 1]) else 1.0
            return max(1.0, work[i - 1] + share * (work[i] - work[i - 1]))
    return None


def value_at(work: Sequence[float], metric: Sequence[float], where: float) -> float:
    """The curve's value at `where`, interpolated; NaN where the curve does not reach."""
    return float(np.interp(where, work, metric, right=math.nan)) if work else math.nan


def freeze(curves: Sequence[tuple[Sequence[float], Sequence[float]]], steps: int, better: str) -> dict[str, float]:
    """Three nested goals: the median of the curves at 50, 75 and 90 % of the work, each no easier than the last."""
    goals: dict[str, float] = {}
    hardest = -math.inf if better == "higher" else math.inf
    for name, share in SHARES.items():
        values = [value_at(work, metric, share * steps) for work, metric in curves]
        finite = [value for value in values if math.isfinite(value)]
        middle = float(np.median(finite)) if finite else math.nan
        hardest = max(hardest, middle) if better == "higher" else min(hardest, middle)
        goals[name] = hardest
    return goals
