"""The learning rate that `ravine lr` suggests, beside the best of a grid and beside torch-lr-finder's.

    python benchmarks/lr_range.py [--tasks digits-mlp,moby-lm] [--out FOLDER]

For every task and optimizer: 15 learning rates, a quarter of a decade apart, are run to the end, on one seed (three for
digits-mlp, whose median counts); the best of them, the one suggested, and torch-lr-finder's (its steepest slope over
the same span, 100 steps) are then run on five fresh seeds.
A suggestion is right where its median validation loss lies within 5 %, or two standard errors of the paired
differences, of the grid's best. A run diverges where its loss is no number or ends above that of the untrained model.

Runs that are done stand in FOLDER/runs.jsonl: a benchmark that was cut off goes on from there. The runs behind the
table of docs/learning-rate.md lie in benchmarks/results/lr_range, which is FOLDER unless given, so that the table takes
three minutes: suggestions are made anew, and what they say is looked up, or run where it is not there. All of it from
an empty folder takes an hour or two on one core, most of that for moby-lm. A task whose data are not fetched is left
out, and so is the column of torch-lr-finder where that is not installed: `pip install --no-deps torch-lr-finder tqdm`.
"""

import argparse
import dataclasses
import io
import json
import math
import statistics
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import ravine
from ravine.core.batches import in_order
from ravine.tune import lr_range

TASKS = ("digits-mlp", "digits-cnn", "fashion-mlp", "moby-lm")
TOP = {"sgd": 1.0, "momentum": 0.0, "adam": -1.0}
GRID = {name: [float(f"{10 ** (top - k / 4):.3g}") for k in reversed(range(15))] for name, top in TOP.items()}
STEPS = {"moby-lm": 500}  # where a grid of 1,000 steps takes too long
GRID_SEEDS = {"digits-mlp": 3}
SEED, FRESH = 2, range(2000, 2005)  # the method was developed on others
SPANS = {"sgd": (1e-4, 10 * 10**0.5), "momentum": (1e-4, 5 * 10**0.5), "adam": (1e-6, 0.1 * 10**0.5)}


class Runs:
    """Final validation losses of runs, kept in a file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "runs.jsonl"
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        self.known = {tuple(row["key"]): row["loss"] for row in map(json.loads, lines)}

    def loss(self, task: ravine.Task, optimizer: str, lr: float, seed: int) -> float:
        """The validation loss at the end; infinite where the run diverged."""
        steps = STEPS.get(task.name, 1000)
        key = (task.name, f"{optimizer}(lr={lr!r})", steps, seed)
        if key not in self.known:
            *_, last = ravine.train(task, key[1], steps=steps, seed=seed, every=max(100, steps // 5))
            self.known[key] = None if last.diverged else last.metric
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "loss": self.known[key]}) + "\n")
        found = self.known[key]
        return math.inf if found is None else found


def by_loss(task: ravine.Task) -> ravine.Task:
    """The same task, judged by its own loss on the validation data."""

    def measure(model: torch.nn.Module, data: Any) -> float:
        total = count = 0.0
        for batch in in_order(data, 512):
            total += task.loss(model, batch).item() * len(batch[0])
            count += len(batch[0])
        return total / count

    return dataclasses.replace(task, metric=measure, better="lower", metric_name="validation loss")


def finders(task: ravine.Task, optimizer: str) -> float | None:
    """What torch-lr-finder suggests, or None where it is not installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from torch_lr_finder import LRFinder
    except ImportError:
        return None
    torch.manual_seed(0)
    model, (low, high) = task.model(), SPANS[optimizer]
    makers = {"sgd": torch.optim.SGD, "momentum": torch.optim.SGD, "adam": torch.optim.Adam}
    more = {"momentum": 0.9} if optimizer == "momentum" else {}
    finder = LRFinder(
        model, makers[optimizer](model.parameters(), lr=low, **more), lambda out, y: task.criterion(out, (None, y))
    )
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        finder.range_test(loader(task), end_lr=high, num_iter=100)
        suggested = finder.plot(suggest_lr=True)
    return float(f"{suggested[1]:.3g}")


def loader(task: ravine.Task) -> DataLoader:
    """The task's training data as torch-lr-finder takes them."""
    if not callable(task.train):
        shuffled = torch.Generator().manual_seed(0)
        return DataLoader(TensorDataset(*task.train), task.batch_size, shuffle=True, generator=shuffled)

    class Drawn(IterableDataset):
        def __iter__(self) -> Any:
            return task.train(torch.Generator().manual_seed(0))

    return DataLoader(Drawn(), batch_size=None)


def compare(task: ravine.Task, optimizer: str, runs: Runs) -> dict[str, Any]:
    """One line of the table, as numbers."""
    seeds = range(GRID_SEEDS.get(task.name, 1))
    finals = {lr: statistics.median(runs.loss(task, optimizer, lr, seed) for seed in seeds) for lr in GRID[optimizer]}
    best = min(finals, key=lambda lr: finals[lr])
    started = time.perf_counter()
    found = lr_range(ravine.task(task.name), optimizer, steps=STEPS.get(task.name, 1000), seed=SEED)
    row: dict[str, Any] = {
        "task": task.name, "optimizer": optimizer, "best": best, "found": found,
        "seconds": time.perf_counter() - started, "steps": STEPS.get(task.name, 1000), "seeds": len(seeds),
    }  # fmt: skip
    fresh = [runs.loss(task, optimizer, best, seed) for seed in FRESH]
    row["loss"] = statistics.median(fresh)
    for name, lr in (("ours", found.suggestion), ("finder", finders(task, optimizer))):
        row[name] = lr
        if lr is None:
            continue
        losses = [runs.loss(task, optimizer, lr, seed) for seed in FRESH]
        untrained = untrained_loss(task)
        row[f"{name}_diverged"] = sum(not loss < untrained for loss in losses)
        row[f"{name}_loss"] = statistics.median(losses)
        pairs = [a - b for a, b in zip(losses, fresh, strict=True)]
        error = statistics.stdev(pairs) / math.sqrt(len(pairs)) if all(map(math.isfinite, pairs)) else 0.0
        row[f"{name}_allowed"] = max(0.05 * row["loss"], 2 * error)
        row[f"{name}_right"] = row[f"{name}_loss"] - row["loss"] <= row[f"{name}_allowed"]
    return row


def untrained_loss(task: ravine.Task) -> float:
    """The validation loss before the first step."""
    return next(iter(ravine.train(task, "sgd", steps=1))).metric


def line(row: dict[str, Any]) -> str:
    """One line of the table, as text."""
    found = row["found"]
    cells = [row["task"], row["optimizer"], f"{row['best']:.3g}"]
    if found.suggestion is None:
        cells += ["don't know", "", "", ""]
    else:
        cells += [
            f"{found.suggestion:.2g} [{found.low:.2g}, {found.high:.2g}]",
            f"{found.suggestion / row['best']:.2f}",
        ]
        cells += [f"{found.diverges_at:.2g}" if found.diverges_at else "not seen", str(found.cost)]
    cells += [f"{row['loss']:.3f}", *judged(row, "ours"), f"{row['finder']:.2g}" if row["finder"] else "–"]
    return "| " + " | ".join([*cells, *judged(row, "finder")]) + " |"


def judged(row: dict[str, Any], name: str) -> tuple[str, str]:
    """The ratio of losses with what was allowed, and the verdict."""
    if row[name] is None:
        return "", ""
    word = "yes" if row[f"{name}_right"] else "no"
    if row[f"{name}_diverged"]:
        word += f", {row[f'{name}_diverged']} of {len(FRESH)} diverged"
    return f"{row[f'{name}_loss'] / row['loss']:.2f} ({1 + row[f'{name}_allowed'] / row['loss']:.2f})", word


def covered(rows: list[dict[str, Any]]) -> str:
    """How often the grid's best lies in the interval, and on how many seeds that best rests."""
    told = [row for row in rows if row["found"].suggestion is not None]
    within = sum(row["found"].low <= row["best"] <= row["found"].high for row in told)
    lone = sum(row["seeds"] == 1 for row in rows)
    return (
        f"the grid's best lies in the interval in {within} of {len(rows)} cases; "
        f"in {lone} of the {len(rows)} it rests on one seed"
    )


HEAD = (
    "task", "optimizer", "best of grid", "suggested [interval]", "suggested / best", "diverges at", "cost",
    "loss at best", "loss ratio (allowed)", "right", "torch-lr-finder", "its loss ratio (allowed)", "right",
)  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tasks", default=",".join(TASKS))
    arguments.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "lr_range")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    runs, rows = Runs(given.out), []
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|", flush=True)
    for name in given.tasks.split(","):
        try:
            task = by_loss(ravine.task(name))
        except ravine.RavineError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        for optimizer in GRID:
            rows.append(compare(task, optimizer, runs))
            print(line(rows[-1]), flush=True)
    for name in ("ours", "finder"):
        told = [row for row in rows if row[name] is not None]
        right = sum(row[f"{name}_right"] for row in told)
        diverged = sum(row[f"{name}_diverged"] for row in told)
        print(f"{name}: {right} of {len(rows)} right, {diverged} of {len(told) * len(FRESH)} runs diverged")
    print(covered(rows))
    for steps in sorted({row["steps"] for row in rows}, reverse=True):
        dearest = max(row["found"].cost for row in rows if row["steps"] == steps)
        print(f"cost of a suggestion: at most {dearest} gradient evaluations, {dearest / steps:.0%} of {steps:,} steps")


if __name__ == "__main__":
    main()
