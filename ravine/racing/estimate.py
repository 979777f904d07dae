"""Estimates with intervals: means, shares, and the exponents of power laws."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from ravine.core.evidence import Estimate
from ravine.racing.statistics import t_interval, wilson


def mean(samples: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The mean of independent samples, with Student's interval."""
    values = np.asarray(samples, dtype=np.float64)
    return Estimate(float(values.mean()), *t_interval(values, confidence), len(values), confidence)


def ratio(samples: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The geometric mean of positive samples, with Student's interval on their logarithms."""
    logs = mean(np.log(np.asarray(samples, dtype=np.float64)).tolist(), confidence)
    value, low, high = np.exp([logs.value, logs.low, logs.high])
    return Estimate(float(value), float(low), float(high), logs.n, confidence)


def share(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """A share of successes, with Wilson's interval."""
    low, high = wilson(successes, trials, confidence)
    return Estimate(successes / trials, low, high, trials, confidence)


def slope(x: Sequence[float], y: Sequence[float], *, log: bool = True, confidence: float = 0.95) -> Estimate:
    """The least-squares slope of y on x, of log y on log x unless `log` is False.

    The interval is the regression's own; it takes the points' errors as independent and of one size.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if log:
        a, b = np.log(a), np.log(b)
    fit = stats.linregress(a, b)
    half = stats.t.ppf(0.5 + confidence / 2, len(a) - 2) * fit.stderr if len(a) > 2 else np.inf
    return Estimate(float(fit.slope), float(fit.slope - half), float(fit.slope + half), len(a), confidence)
