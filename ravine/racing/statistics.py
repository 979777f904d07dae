"""The tests and intervals of the fair race, on plain arrays."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

_EXACT = 40  # pairs up to which all sign flips are counted, from two lists of 2^20 sums at most; beyond, a sample is
_SAMPLED = 20_000


def sign_flip(differences: Array) -> float:
    """Two-sided p of the paired sign-flip test that the differences are symmetric around zero (Fisher 1935).

    Exact up to 40 pairs: every flip is the sum of one of the first half and one of the second, and those that come out
    as large as what was observed are counted in the sorted list of the second (Horowitz & Sahni 1974). Beyond, from
    20,000 flips drawn with a fixed seed, the observed one counted in.
    """
    d = np.asarray(differences, dtype=np.float64)
    if not d.any():
        return 1.0
    rounding = 1e-12 * np.abs(d).sum()  # sums that are equal on paper differ by this much at most
    observed = abs(d.sum()) - rounding
    if len(d) > _EXACT:
        signs = np.random.default_rng(0).choice((1.0, -1.0), size=(_SAMPLED, len(d)))
        signs[0] = 1
        return float(np.mean(np.abs(signs @ d) >= observed))
    first, second = _flipped(d[: len(d) // 2]), np.sort(_flipped(d[len(d) // 2 :]))
    above = len(second) - np.searchsorted(second, observed - first)
    below = np.searchsorted(second, -observed - first, side="right")
    return min(1.0, float((above + below).sum()) / 2.0 ** len(d))


def _flipped(d: Array) -> Array:
    """The sums of `d` under all flips of signs."""
    sums = np.zeros(1)
    for value in d:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def t_interval(values: Array, confidence: float) -> tuple[float, float]:
    """The interval for the mean by Student's t; unbounded for a single value."""
    n = len(values)
    if n < 2:
        return -math.inf, math.inf
    half = _t_quantile(0.5 + confidence / 2, n - 1) * values.std(ddof=1) / math.sqrt(n)
    return float(values.mean() - half), float(values.mean() + half)


@lru_cache(maxsize=256)
def _t_quantile(share: float, freedom: int) -> float:
    """Kept, because a race asks for the same few thousands of times and each answer takes scipy 0.2 ms."""
    return float(stats.t.ppf(share, freedom))


def detectable(values: Array, alpha: float, power: float = 0.8) -> float | None:
    """The smallest mean that a test of these paired values at level `alpha` finds with probability `power`.

    From the spread of `values`: (t_{1 - alpha/2} + t_{power}) s / sqrt(n). None for fewer than two values.
    """
    n = len(values)
    if n < 2:
        return None
    quantiles = _t_quantile(1 - alpha / 2, n - 1) + _t_quantile(power, n - 1)
    return float(quantiles * values.std(ddof=1) / math.sqrt(n))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return [float(value) for value in adjusted]


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval for a share (Wilson 1927)."""
    if trials == 0:
        return 0.0, 1.0
    found = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Two-sided p that `a` and `b` succeed equally often, from the pairs in which they differ, exactly."""
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def median_interval(values: Array, confidence: float = 0.95) -> tuple[float, float]:
    """The interval for the median from order statistics, which needs no distribution; `inf` stands for censored.

    With fewer than six values even the whole range covers less than 95 %; it is what is returned.
    """
    ordered = np.sort(values)
    n = len(ordered)
    inside = [k for k in range(1, n // 2 + 1) if stats.binom.cdf(k - 1, n, 0.5) <= (1 - confidence) / 2]
    k = max(inside, default=1)
    return float(ordered[k - 1]), float(ordered[n - k])


def smallest_p(runs: int) -> float:
    """The smallest p that the sign-flip test can give with this many pairs."""
    return 2.0 ** (1 - runs)


def ranks(a: Array, b: Array) -> tuple[Array, Array]:
    """Ranks of both samples in their union, ties sharing the mean; `inf` (censored) ties last."""
    both = stats.rankdata(np.concatenate([a, b]))
    return both[: len(a)], both[len(a) :]
