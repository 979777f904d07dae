"""Synthetic race folders: what a race of five optimizers leaves on disk, drawn from a small model of learning."""

import math
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ravine.core.record import Writer, content_id, write_json

NASTY = "<script>alert(1)</script>"
STEPS, EVERY, GOAL, WIDTH = 1000, 20, 0.95, 0.9


@dataclass(frozen=True)
class Racer:
    """`best` is the learning rate at which the time constant is `tau`; far above it, runs diverge."""

    best: float
    tau: float
    ceiling: float = 0.975
    frail: bool = False


RACERS = {
    "sgd": Racer(0.3, 150, 0.968),
    "nesterov": Racer(0.1, 85, 0.972),
    "adam": Racer(2e-3, 48),
    "adamw": Racer(2e-3, 50, 0.976),
    "rmsprop": Racer(7e-4, 75, 0.959, frail=True),
}


def build(
    folder: Path,
    racers: dict[str, Racer] = RACERS,
    *,
    points: int = 8,
    seeds: int = 10,
    goal: float | None = GOAL,
    task: str = "digits-mlp",
    better: str = "higher",
    seed: int = 0,
    steps: int = STEPS,
    every: int = EVERY,
) -> Path:
    """Write a race of `racers` into `folder`; the same arguments write the same bytes."""
    world = _World(folder, np.random.default_rng(seed), goal, better, steps, every)
    (folder / "records").mkdir(parents=True, exist_ok=True)
    lists = {name: np.geomspace(racer.best / 40, racer.best * 40, points) for name, racer in racers.items()}
    found = {name: world.optimizer(name, racer, lists[name], seeds) for name, racer in racers.items()}
    write_json(folder / "plan.json", _plan(world, task, racers, lists, seeds))
    write_json(folder / "verdict.json", _verdict(world, task, found))
    return folder


@dataclass
class _World:
    folder: Path
    rng: np.random.Generator
    goal: float | None
    better: str
    steps: int
    every: int

    def run(self, name: str, racer: Racer, lr: float, seed: int) -> dict[str, Any]:
        """One training run: its record is written, what the verdict says of it is returned."""
        spec = f"{name}(lr={lr:.3g})" if name.isidentifier() else f"adam(lr={lr:.3g})"
        far = math.log10(lr / racer.best)
        diverges = far > 0.9 or (racer.frail and self.rng.random() < 0.2)
        work = np.arange(0, self.steps + 1, self.every)
        tau = racer.tau * self.steps / STEPS * (1 + 2.5 * far**2) * math.exp(self.rng.normal(0, 0.08))
        ceiling = racer.ceiling - 0.02 * far**2 + self.rng.normal(0, 0.002)
        metric = ceiling - (ceiling - 0.1) * np.exp(-((work / tau) ** 0.8))
        metric = metric + self.rng.normal(0, 0.004, len(work)) * (0.3 + np.exp(-work / tau))
        metric = metric if self.better == "higher" else 2.5 * np.maximum(1 - metric, 1e-4) ** 1.3
        rows = [
            {"step": int(w), "work": int(w), "examples": int(w) * 64, "loss": None if w == 0 else float(2.3 * (1 - m))}
            | {"metric": float(m), "observed": {"seconds": 0.01 * float(w)}}
            for w, m in zip(work, metric, strict=True)
        ]
        if diverges:
            last = rows[len(rows) // 3]
            rows = [*rows[: len(rows) // 3], last | {"loss": None, "metric": None}]
        status = "diverged" if diverges else "done"
        header = {"optimizer": name, "spec": spec, "seed": seed}
        name_id = content_id(header | {"steps": self.steps, "draw": self.rng.random()})
        with Writer(self.folder / "records" / f"{name_id}.jsonl", header, rows) as writer:
            writer.end(status, test=None if diverges else float(metric[-1]) - 0.005, observed={"seconds": 10.5})
        final = None if diverges else float(metric[-1])
        crossed = None if diverges else self.crossing(work, metric)
        return {"id": name_id, "spec": spec, "seed": seed, "work_to_goal": crossed, "final_metric": final} | {
            "status": status
        }

    def crossing(self, work: Any, metric: Any, goal: float | None = None) -> float | None:
        goal = self.goal if goal is None else goal
        if goal is None:
            return None
        past = metric >= goal if self.better == "higher" else metric <= goal
        twice = np.flatnonzero(past[:-1] & past[1:])
        if not len(twice) or twice[0] == 0:
            return None
        k = int(twice[0])
        share = (goal - metric[k - 1]) / (metric[k] - metric[k - 1])
        return float(work[k - 1] + share * (work[k] - work[k - 1]))

    def optimizer(self, name: str, racer: Racer, rates: Any, seeds: int) -> dict[str, Any]:
        tuned = [self.run(name, racer, float(lr), 17) | {"setting": {"lr": float(lr)}} for lr in rates]
        chosen = min(range(len(tuned)), key=lambda k: self.rank(tuned[k]))
        lr = float(rates[chosen])
        runs = [self.run(name, racer, lr, 11 + k) for k in range(seeds)]
        kind = "work to goal" if tuned[chosen]["work_to_goal"] is not None else "final metric"
        field = kind.replace(" ", "_")
        works = [math.inf if run["work_to_goal"] is None else run["work_to_goal"] for run in runs]
        values = [run[field] for run in runs if run[field] is not None]
        finals = [run["final_metric"] for run in runs if run["final_metric"] is not None]
        success = float(np.mean(np.isfinite(works)))
        points = [{key: value for key, value in point.items() if key != "seed"} for point in tuned]
        return {
            "spec": tuned[chosen]["spec"],
            "success_rate": success,
            "success_low": max(0.0, success - 0.28),
            "success_high": min(1.0, success + 0.28),
            "work_to_goal": _interval(works),
            "work_to_goals": {
                k: _interval([w * s for w in works]) | {"success_rate": success}
                for k, s in (("50", 0.7), ("75", 1.0), ("90", 1.2))
                if self.goal is not None
            },
            "final_metric": float(np.median(finals)) if finals else None,
            "final_low": min(finals, default=None),
            "final_high": max(finals, default=None),
            "test_metric": float(np.median(finals)) - 0.005 if finals else None,
            "diverged": sum(run["status"] == "diverged" for run in runs),
            "tuning": {
                "chosen": chosen,
                "widened": ["lr"] if chosen in (0, len(tuned) - 1) else [],
                "tuning_value": tuned[chosen][field],
                "rerun_value": float(np.median(values)) if values else None,
                "value": kind,
                "points": points,
            },
            "runs": [{key: value for key, value in run.items() if key != "spec"} for run in runs],
        }

    def rank(self, point: dict[str, Any]) -> tuple[float, float]:
        work, final = point["work_to_goal"], point["final_metric"]
        sign = -1 if self.better == "higher" else 1
        return (math.inf if work is None else work, math.inf if final is None else sign * final)


def _interval(works: list[float]) -> dict[str, float | None]:
    low, median, high = (float(np.sort(works)[int(q * (len(works) - 1))]) for q in (0.1, 0.5, 0.9))
    return {"median": _finite(median), "low": _finite(low), "high": _finite(high)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _pair(a: str, b: str, found: dict[str, Any], judged: int) -> dict[str, Any]:
    works = [
        [math.nan if run["work_to_goal"] is None else run["work_to_goal"] for run in found[name]["runs"]]
        for name in (a, b)
    ]
    logs = np.log(works[0]) - np.log(works[1])
    logs = logs[np.isfinite(logs)]
    if len(logs) < 2:
        empty = dict.fromkeys(("ratio", "low", "high", "p", "p_unadjusted", "detectable"))
        return {"a": a, "b": b, **empty, "verdict": "not enough runs", "bound": "", "success_p": 1.0}
    mean, error = float(logs.mean()), float(logs.std(ddof=1) / math.sqrt(len(logs)))
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(logs))).reshape(len(logs), -1)
    p = float(np.mean(np.abs(signs.T @ np.abs(logs)) >= abs(logs.sum()) - 1e-12))
    adjusted = min(1.0, p * judged)
    low, high = mean - 2.26 * error, mean + 2.26 * error
    unsure = "tie" if low >= -0.105 and high <= 0.104 else "not enough runs"
    verdict = ("slower" if mean > 0 else "faster") if adjusted < 0.05 else unsure
    bound = "" if len(logs) >= 0.8 * len(works[0]) else "lower"
    return {"a": a, "b": b, "ratio": math.exp(mean), "low": math.exp(low), "high": math.exp(high)} | {
        "p": adjusted,
        "p_unadjusted": p,
        "verdict": verdict,
        "detectable": math.exp(3.5 * error),
        "bound": bound,
        "success_p": 1.0,
    }


def _verdict(world: _World, task: str, found: dict[str, Any]) -> dict[str, Any]:
    pairs = list(combinations(found, 2))
    reached = [name for name in found if found[name]["work_to_goal"]["median"] is not None]
    first = min(reached, key=lambda name: found[name]["work_to_goal"]["median"], default=None)
    median = found[first]["work_to_goal"]["median"] if first else 0
    sentence = (
        f"On {task}, {first} reached the goal {world.goal} with the least work: {median:.0f} gradient evaluations "
        "(median). It is faster than sgd (0.31x its work) and nesterov (0.59x); it cannot be told from rmsprop."
    )
    goals = {} if world.goal is None else {"50": world.goal - 0.02, "75": world.goal, "90": world.goal + 0.01}
    gates = [
        ("same seeds, same numbers", True, "sgd twice on seed 11: identical to the bit"),
        ("other seeds, no winner", True, "0 of 20 simulated races called a difference"),
        ("swapped labels do not learn", None, "not asked for; pass --gates all to run it"),
        ("time in evaluation", False, "31% of the time went into evaluation, more than 20%"),
    ]
    return {
        "task": task,
        "metric": "accuracy" if world.better == "higher" else "loss",
        "better": world.better,
        "goal": world.goal,
        "goals": goals,
        "budget": world.steps,
        "batch_size": 64,
        "sentence": sentence
        if first
        else f"No optimizer reached {world.goal} on {task} in half of its runs: give more steps.",
        "ranking": sorted(found, key=lambda name: _place(found[name], world.better)),
        "optimizers": found,
        "pairs": [_pair(a, b, found, len(pairs)) for a, b in pairs],
        "gates": [{"name": name, "passed": passed, "detail": detail} for name, passed, detail in gates],
        "notes": ["the range of sgd's lr was widened once: its best point lay in the outer tenth"],
    }


def _place(entry: dict[str, Any], better: str) -> tuple[float, float, float]:
    median = entry["work_to_goal"]["median"]
    final = entry["final_metric"]
    worst = math.inf if final is None else -final if better == "higher" else final
    return math.inf if median is None else median, -entry["success_rate"], worst


def _plan(world: _World, task: str, racers: dict[str, Racer], lists: dict[str, Any], seeds: int) -> dict[str, Any]:
    def entry(name: str) -> dict[str, Any]:
        low, high = racers[name].best / 40, racers[name].best * 40
        return {"spec": name, "dimensions": {"lr": {"low": low, "high": high, "scale": "log"}}} | {
            "points": [f"{name}(lr={lr:.3g})" for lr in lists[name]]
        }

    points = len(next(iter(lists.values())))
    return {
        "format": 1,
        "id": "ab12cd34ef56ab78",
        "task": {"name": task, "source": task, "fingerprint": "91d0c4", "metric": "accuracy", "better": world.better}
        | {"batch_size": 64, "parameters": 12345},
        "settings": {"steps": world.steps, "every": world.every, "points": points, "seeds": seeds}
        | {"device": "cpu", "seed": 0},
        "optimizers": {name: entry(name) for name in racers},
        "references": {},
        "seeds": {"tuning": 17, "goal": [1, 2, 3], "runs": [11 + k for k in range(seeds)]},
        "given_goal": None,
        "goals": {"50": 0.93, "75": 0.95, "90": 0.96},
        "versions": {"ravine": "0.1.0", "torch": "2.13.0+cpu", "numpy": "2.4.6", "python": "3.11.7"},
        "machine": {"system": "Linux 6.8", "processor": "x86_64", "cores": 2, "memory_gib": 24},
    }
