"""The verdict on pairs of optimizers, from the work that each of their paired runs took to the goal."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ravine.racing.statistics import (
    Array,
    detectable,
    holm,
    mcnemar,
    ranks,
    sign_flip,
    smallest_p,
    t_interval,
)

ALPHA = 0.05
TIE = (0.9, 1 / 0.9)  # the same from either side, so that a tie is one whichever is named first
ENOUGH_SUCCESS = 0.8
FASTER, SLOWER, EQUAL, UNKNOWN = "faster", "slower", "tie", "not enough runs"


@dataclass(frozen=True)
class Pair:
    """What the runs say of `a` against `b` before the number of pairs is accounted for.

    differences: log work of a minus log work of b, seed by seed, censored runs at the horizon.
    bound: "lower" or "upper" where the ratio is only that, "both" where runs of both are censored, else empty.
    lead: the sum that was tested, of differences or of ranks where there is a bound; negative where a took less work.
    same: every run of both took the same work to the bit, and at least one reached the goal.
    """

    a: str
    b: str
    differences: Array
    bound: str
    lead: float
    p: float
    success_p: float
    same: bool


def compare(a: str, b: str, works: Mapping[str, Array], horizon: float) -> Pair:
    """The paired comparison of two optimizers; work is `inf` where a run never reached the goal."""
    x, y = works[a], works[b]
    reached_x, reached_y = np.isfinite(x), np.isfinite(y)
    differences = np.log(np.where(reached_x, x, horizon)) - np.log(np.where(reached_y, y, horizon))
    if min(reached_x.mean(), reached_y.mean()) >= ENOUGH_SUCCESS:
        bound, tested = "", differences
    else:
        rank_x, rank_y = ranks(x, y)
        tested = rank_x - rank_y
        bound = "both" if not reached_x.all() and not reached_y.all() else "upper" if reached_x.all() else "lower"
    p, success_p = sign_flip(tested), mcnemar(reached_x.tolist(), reached_y.tolist())
    same = bool(reached_x.any() and (x == y).all())
    return Pair(a, b, differences, bound, float(tested.sum()), p, success_p, same)


def judge(works: Mapping[str, Array], horizon: float, best: str | None = None) -> list[dict[str, Any]]:
    """The verdict on every judged pair: all of them, or those with the first and `best` where all are too many.

    `best` must have been found without `works`, by the tuning: picking the extreme one of these runs and testing it
    against the others on the same runs would call one of twelve equal optimizers faster or slower in 7 % of races.
    """
    pairs = [compare(a, b, works, horizon) for a, b in judged_pairs(works, best)]
    adjusted = holm([pair.p for pair in pairs])
    return [_verdict(pair, p, len(pairs)) for pair, p in zip(pairs, adjusted, strict=True)]


def judged_pairs(works: Mapping[str, Array], best: str | None) -> list[tuple[str, str]]:
    """All pairs, if that many can be told apart with this many runs; else those with the first or with `best`."""
    names = list(works)
    pairs = list(combinations(names, 2))
    if not pairs or judgeable(len(names), len(works[names[0]])):
        return pairs
    return [pair for pair in pairs if names[0] in pair or best in pair]


def judgeable(optimizers: int, runs: int) -> bool:
    """Whether all pairs of that many optimizers can come out as faster or slower with this many runs each."""
    return math.comb(optimizers, 2) * smallest_p(runs) < ALPHA


def runs_needed(pairs: int) -> int:
    """The fewest runs with which one of that many pairs can come out as faster or slower."""
    runs = 2
    while pairs * smallest_p(runs) >= ALPHA:
        runs += 1
    return runs


def _verdict(pair: Pair, p: float, judged: int) -> dict[str, Any]:
    d = pair.differences
    low, high = t_interval(d, 0.95)
    inner_low, inner_high = t_interval(d, 0.90)
    if p < ALPHA:
        word = FASTER if pair.lead < 0 else SLOWER
    elif pair.same or (not pair.bound and max(-inner_low, inner_high) <= math.log(TIE[1])):
        word = EQUAL
    else:
        word = UNKNOWN
    smallest = detectable(d, ALPHA / judged)
    return {
        "a": pair.a,
        "b": pair.b,
        "ratio": math.exp(d.mean()),
        "low": math.exp(low) if low > -math.inf else None,
        "high": math.exp(high) if high < math.inf else None,
        "p": p,
        "verdict": word,
        "p_unadjusted": pair.p,
        "bound": pair.bound,
        "detectable": None if smallest is None else math.exp(smallest),
        "success_p": pair.success_p,
    }


def sentence(task: str, goal: str, standings: Sequence[tuple[str, float]], pairs: Sequence[Mapping[str, Any]]) -> str:
    """The verdict in words. `standings` are (name, median work) of those that reached the goal, best first."""
    if not standings:
        return f"No optimizer reached {goal} on {task} in half of its runs: give more steps, or an easier goal."
    best, work = standings[0]
    said = f"On {task}, {best} reached {goal} with the least work: {work:.0f} gradient evaluations (median)."
    against: dict[str, list[str]] = {}
    for pair in pairs:
        if best not in (pair["a"], pair["b"]):
            continue
        forward = pair["a"] == best
        other = pair["b"] if forward else pair["a"]
        word = pair["verdict"] if forward or pair["verdict"] not in _OPPOSITE else _OPPOSITE[pair["verdict"]]
        ratio = pair["ratio"] if forward else 1 / pair["ratio"]
        mark = {"lower": "at least ", "upper": "at most "}.get(_turned(pair["bound"], forward), "")
        against.setdefault(word, []).append(f"{other} ({mark}{ratio:.2f}x its work)")
    phrases = [f"{_PHRASES[word]} {_listed(against[word])}" for word in _PHRASES if word in against]
    return f"{said} It {'; it '.join(phrases)}." if phrases else said


_OPPOSITE = {FASTER: SLOWER, SLOWER: FASTER}
_PHRASES = {
    FASTER: "is faster than",
    SLOWER: "is slower than",
    EQUAL: "ties with",
    UNKNOWN: "cannot be told from",
}


def _turned(bound: str, forward: bool) -> str:
    return bound if forward else {"lower": "upper", "upper": "lower"}.get(bound, bound)


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
