"""The gates: what must hold for a race's numbers to mean anything. Each is checked and shown in every report."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from ravine.core.record import Record, Row
from ravine.racing.statistics import Array

Gate = dict[str, Any]
Judge = Callable[[Mapping[str, Array], float, str], list[dict[str, Any]]]

SIMULATED = 1000
LEVEL = 0.05


def same_numbers(run: Record, twin: Record) -> Gate:
    """The winner run twice on one seed: every number of both records is the same."""
    if not run.rows or not twin.rows:
        return _gate("same seed, same numbers", None, "not checked: the winner's run or its twin left no numbers")
    differing = sum(_timeless(a) != _timeless(b) for a, b in zip(run.rows, twin.rows, strict=False))
    differing += abs(len(run.rows) - len(twin.rows))
    detail = f"{run.header['optimizer']} twice on seed {run.header['seed']}: {differing} of {len(run.rows)} rows differ"
    return _gate("same seed, same numbers", differing == 0, detail)


def _timeless(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "observed"}


def same_start(runs: Mapping[str, Sequence[Row]]) -> Gate:
    """Every optimizer starts from the same weights and sees the same data in the same order, seed by seed.

    `runs` holds the closing rows of every optimizer's runs.
    """
    groups = list(zip(*runs.values(), strict=True))
    finished = [[end for end in group if end.get("weights")] for group in groups]
    weights = sum(len({end["weights"] for end in ends}) > 1 for ends in finished)
    orders = sum(_orders_differ([end["order"] for end in ends]) for ends in finished)
    detail = f"{len(groups)} seeds, {len(runs)} optimizers: weights differ on {weights}, data order on {orders}"
    return _gate("same start, same data", weights == orders == 0, detail)


def _orders_differ(orders: Sequence[Sequence[str]]) -> bool:
    """Whether two runs saw different batches, as far as both went: one that diverged saw fewer."""
    return any(len(set(batches)) > 1 for batches in zip(*orders, strict=False))


def no_false_alarms(works: Mapping[str, Array], horizon: float, judge: Judge) -> Gate:
    """Races of equal optimizers, simulated with the spread of these runs, are not called faster or slower.

    Every optimizer's log work, less its mean, goes into one pool, runs that never reached the goal as such; each
    simulated race draws all its runs from it.
    """
    name = "equal optimizers are called equal"
    logs = [np.log(work) for work in works.values() if np.isfinite(work).sum() > 1]
    usable = [log - log[np.isfinite(log)].mean() for log in logs]
    pool = np.concatenate(usable) if usable else np.zeros(0)
    if len(works) < 2 or not pool[np.isfinite(pool)].any():
        return _gate(name, None, "not checked: needs two optimizers, one with runs that reached the goal and differ")
    random = np.random.default_rng(0)
    size = (len(works), len(next(iter(works.values()))))
    alarms = 0
    for _ in range(SIMULATED):
        drawn = np.exp(random.choice(pool, size=size)) * horizon / 100
        verdicts = judge({str(i): row for i, row in enumerate(drawn)}, horizon * 100, "1")  # as tuning picks its best
        alarms += any(pair["verdict"] in ("faster", "slower") for pair in verdicts)
    allowed = int(stats.binom.ppf(0.99, SIMULATED, LEVEL))
    detail = f"{alarms} false alarms in {SIMULATED} simulated races; {LEVEL:.0%} are meant, up to {allowed} by chance"
    return _gate(name, alarms <= allowed, detail)


def swapped_labels(record: Record | None, goal: float, better: str) -> Gate:
    """With shuffled labels the winner learns nothing: it never comes near the goal."""
    name = "swapped labels do not learn"
    if record is None:
        return _gate(name, None, "not checked: batches are not (inputs, targets)")
    values = [value for value in record.column("metric") if value == value]
    if not values:
        return _gate(name, None, "not checked: the run has no finite metric")
    best = max(values) if better == "higher" else min(values)
    reached = best >= goal if better == "higher" else best <= goal
    return _gate(name, not reached, f"best {best:.4g} with shuffled labels, the goal is {goal:.4g}")


def few_diverge(ends: Sequence[Row]) -> Gate:
    """How many of all trials diverged; told, not judged, since tuning is meant to find the edge."""
    diverged = sum(end["status"] == "diverged" for end in ends)
    failed = sum(end["status"] == "failed" for end in ends)
    share = diverged / max(1, len(ends))
    return _gate("share of runs that diverged", True, f"{diverged} of {len(ends)} ({share:.0%}), {failed} failed")


def cheap_evaluation(ends: Sequence[Row]) -> Gate:
    """How much of the time went into judging; above a half the grid is too fine for the task."""
    observed = [end["observed"] for end in ends if "seconds" in end["observed"]]
    total = sum(times["seconds"] for times in observed)
    share = sum(times["evaluation_seconds"] for times in observed) / total if total else 0.0
    return _gate("share of time in evaluation", share <= 0.5, f"{share:.0%}, at most 50% is meant")


def _gate(name: str, passed: bool | None, detail: str) -> Gate:
    return {"name": name, "passed": passed, "detail": detail}
