"""From the outcomes of a race to its verdict: the one table that the terminal, the page and `--json` show."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ravine.core.record import plain
from ravine.racing.judge import judge, sentence
from ravine.racing.outcome import Outcome, Tried
from ravine.racing.statistics import Array, median_interval, wilson


@dataclass(frozen=True)
class Tuning:
    """How an optimizer's setting was found: every point tried, and the ranges that were widened."""

    tried: Sequence[Tried]
    widened: Sequence[str]

    def chosen(self, goals: Collection[float]) -> int:
        """The best of the points that were tried most: the finalists, where there were any."""
        return min(range(len(self.tried)), key=lambda i: (-len(self.tried[i].outcomes), self.tried[i].rank(goals)))


@dataclass(frozen=True)
class Verdict:
    """The result of a race. `content` is what verdict.json holds; `str()` is the verdict in a sentence.

    `verdict["optimizers"]`, `verdict["pairs"]`, ... read it; `verdict.folder` has plan, records and report.
    """

    content: Mapping[str, Any]
    folder: str

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def __str__(self) -> str:
        return str(self.content["sentence"])


def works_of(runs: Mapping[str, Sequence[Outcome]], goal: float) -> dict[str, Array]:
    """Every optimizer's work to the goal, seed by seed; `inf` where a run never reached it."""
    return {name: np.array([outcome.work_to(goal) for outcome in outcomes]) for name, outcomes in runs.items()}


def assemble_verdict(
    task: Mapping[str, Any],
    steps: int,
    goals: Mapping[str, float],
    tuning: Mapping[str, Tuning],
    runs: Mapping[str, Sequence[Outcome]],
) -> dict[str, Any]:
    """Everything but the gates and notes."""
    goal = judged_goal(goals)
    works = works_of(runs, goal)
    pairs = judge(works, steps, _best_tuned(goals, tuning))
    entries = {name: _entry(goals, tuning[name], runs[name]) for name in runs}
    order = _ranking(entries, works, task["better"])
    standings = [(name, float(np.median(works[name]))) for name in order if np.median(works[name]) < math.inf]
    content = {
        "task": task["name"],
        "metric": task["metric"],
        "better": task["better"],
        "goal": goal,
        "goals": dict(goals),
        "budget": steps,
        "batch_size": task["batch_size"],
        "sentence": sentence(task["name"], f"{task['metric']} {goal:.4g}", standings, pairs),
        "ranking": order,
        "optimizers": entries,
        "pairs": pairs,
    }
    return dict(plain(content))


def _best_tuned(goals: Mapping[str, float], tuning: Mapping[str, Tuning]) -> str:
    """The optimizer whose chosen point did best while tuning."""
    wanted = goals.values()
    return min(tuning, key=lambda name: tuning[name].tried[tuning[name].chosen(wanted)].rank(wanted))


def _ranking(entries: Mapping[str, Any], works: Mapping[str, Array], better: str) -> list[str]:
    """The optimizers, best first: least median work, then most runs at the goal, then best final metric."""

    def key(name: str) -> tuple[float, float, float]:
        final = entries[name]["final_metric"]
        worst = math.inf if final is None else -final if better == "higher" else final
        return float(np.median(works[name])), -entries[name]["success_rate"], worst

    return sorted(entries, key=key)


def judged_goal(goals: Mapping[str, float]) -> float:
    """The given goal, else the one frozen at 75 % of the references' work."""
    return goals["given"] if "given" in goals else goals["75"]


def _entry(goals: Mapping[str, float], tuning: Tuning, runs: Sequence[Outcome]) -> dict[str, Any]:
    goal = judged_goal(goals)
    finals = np.array([outcome.final for outcome in runs])
    finite = finals[np.isfinite(finals)]
    low, high = median_interval(finite) if len(finite) else (math.nan, math.nan)
    reached = sum(outcome.work_to(goal) < math.inf for outcome in runs)
    success_low, success_high = wilson(reached, len(runs))
    tests = [outcome.end["test"] for outcome in runs if outcome.status == "done"]
    return {
        "spec": str(runs[0].point.spec),
        "success_rate": reached / len(runs),
        "success_low": success_low,
        "success_high": success_high,
        "work_to_goal": _work(runs, goal),
        "work_to_goals": {key: _work(runs, value) | _success(runs, value) for key, value in goals.items()},
        "final_metric": float(np.median(finite)) if len(finite) else None,
        "final_low": low,
        "final_high": high,
        "test_metric": float(np.median(tests)) if tests and None not in tests else None,
        "diverged": sum(outcome.status == "diverged" for outcome in runs),
        "failed": sum(outcome.status == "failed" for outcome in runs),
        "tuning": _tuning(tuning, goals, runs),
        "runs": [outcome.row(goal, tuned=False) for outcome in runs],
    }


def _work(runs: Sequence[Outcome], goal: float) -> dict[str, float]:
    """Median and interval of the work to a goal; infinite, and so null in JSON, where censored runs decide it."""
    works = np.array([outcome.work_to(goal) for outcome in runs])
    low, high = median_interval(works)
    return {"median": float(np.median(works)), "low": low, "high": high}


def _success(runs: Sequence[Outcome], goal: float) -> dict[str, float]:
    return {"success_rate": sum(outcome.work_to(goal) < math.inf for outcome in runs) / len(runs)}


def _tuning(tuning: Tuning, goals: Mapping[str, float], runs: Sequence[Outcome]) -> dict[str, Any]:
    """The points tried, and the winner's curse: the chosen point's value when it was chosen, and when rerun."""
    goal = judged_goal(goals)
    chosen = tuning.chosen(goals.values())
    best = tuning.tried[chosen].outcomes
    by_work = any(outcome.work_to(goal) < math.inf for outcome in best)

    def value(outcomes: Sequence[Outcome]) -> float:
        return float(np.median([outcome.work_to(goal) if by_work else outcome.final for outcome in outcomes]))

    everything = [outcome for tried in tuning.tried for outcome in tried.outcomes]
    return {
        "chosen": chosen,
        "widened": list(tuning.widened),
        "value": "work to goal" if by_work else "final metric",
        "tuning_value": value(best),
        "rerun_value": value(runs),
        "work": sum(int(outcome.work[-1]) for outcome in everything if outcome.work),
        "points": [tried.outcomes[0].row(goal, tuned=True) | _again(tried, goal) for tried in tuning.tried],
    }


def _again(tried: Tried, goal: float) -> dict[str, Any]:
    """What a finalist came to on its further seeds."""
    return {"again": [outcome.row(goal, tuned=False) for outcome in tried.outcomes[1:]]}
