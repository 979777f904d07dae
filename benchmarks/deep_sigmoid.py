"""One table: what brings a net of twenty sigmoid layers, which does not train, near a shallow one, at equal work.

    python benchmarks/deep_sigmoid.py [--workers 2] [--records FILE] [--page FILE]

Every treatment is tuned on seeds of its own and the validation data, then run on ten fresh seeds and judged on the test
data. A run that is done stands in the records; what was cut off goes on from there. With all records at hand
(benchmarks/results/deep-sigmoid.jsonl) it takes seconds; from none, about half an hour of one core. The page and its
picture are made from the records alone.
"""

import argparse
import dataclasses
import math
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import torch
from deep_parts.ledger import Ledger, Line
from deep_parts.page import write
from deep_parts.treatments import SHALLOW, TREATMENTS, Run
from torch import nn

import ravine
from ravine.core.errors import RavineError
from ravine.core.machine import machine, versions
from ravine.weights import fresh

ROOT = Path(__file__).parents[1]
TASK, BUDGET, EVERY, POINTS = "digits-deep-sigmoid", 1000, 50, 3.0
TUNING, SEEDS = (1000, 1001), tuple(range(10))
Job = dict[str, Any]


def header() -> Line:
    """What decides the numbers; records of anything else are refused."""
    return {
        "task": TASK, "budget": BUDGET, "every": EVERY, "points": POINTS, "tuning_seeds": list(TUNING),
        "seeds": list(SEEDS),
    }  # fmt: skip


def untrained() -> Line:
    """How far apart the images are behind each hidden layer of the net as it begins, and how much gradient arrives.

    The spread is the standard deviation over images, averaged over units, in float64, where it can be seen.
    """
    task = ravine.task(TASK)
    model = fresh(task, 0).double()
    x, y = (part[:1024] for part in task.train)
    seen, out = [], x.double()
    for module in model:
        out = module(out)
        if isinstance(module, nn.Sigmoid):
            seen.append(out.std(0).mean().item())
    nn.functional.cross_entropy(out, y).backward()
    first, last = (model[place].weight.grad.norm().item() for place in (0, -1))
    return {"spread": seen, "gradient_ratio": first / last}


def jobs(ledger: Ledger) -> list[Job]:
    """What can be run now: tuning first, and that of the shallow net before all, since it makes the teachers."""
    known, others = ledger.known(), [name for name in TREATMENTS if name != SHALLOW]
    for some in ([SHALLOW], others):
        teacher = ledger.tuned(SHALLOW) if some == others else ""
        for settings, seed in zip((ledger.grid, ledger.finalists), TUNING, strict=True):
            calls = [(name, setting, seed, "valid") for name in some for setting in settings(name)]
            if found := [_job(*call, teacher) for call in calls if call not in known]:
                return found
    calls = [(name, ledger.tuned(name), seed, "test") for seed in SEEDS for name in TREATMENTS]
    return [_job(*call, ledger.tuned(SHALLOW)) for call in calls if call not in known]


def _job(treatment: str, setting: str, seed: int, data: str, teacher: str) -> Job:
    return {"treatment": treatment, "setting": setting, "seed": seed, "data": data, "teacher": teacher}


class Metered:
    """A metric that knows how long the processor has spent in it."""

    def __init__(self, metric: Any) -> None:
        self.metric, self.seconds = metric, 0.0

    def __call__(self, model: nn.Module, data: Any) -> float:
        began = time.process_time()
        found = self.metric(model, data)
        self.seconds += time.process_time() - began
        return float(found)


def done(job: Job) -> Line:
    """One run, as the line of the records."""
    torch.set_num_threads(1)
    task, treatment = ravine.task(TASK), TREATMENTS[job["treatment"]]
    metric = Metered(task.metric)
    task = dataclasses.replace(task, metric=metric, valid=task.test if job["data"] == "test" else task.valid)
    run = Run(task, job["setting"], job["seed"], BUDGET, EVERY if job["data"] == "test" else BUDGET, job["teacher"])
    curve: list[tuple[int, float | None]] = []
    status, began = "done", time.process_time()
    try:
        for work, value in treatment.run(run):
            broken = value is not None and not math.isfinite(value)
            curve.append((work, None if value is None or broken else round(value, 6)))
            status = "diverged" if broken else status
    except RavineError as error:
        status = f"failed: {error}"
    spent = time.process_time() - began - metric.seconds
    told = {key: job[key] for key in ("treatment", "setting", "seed", "data")}
    more = {"teacher": job["teacher"]} if treatment.taught else {}
    return {"line": "run", **told, **more, "status": status, "curve": curve, "observed": {"seconds": round(spent, 3)}}


def carry_out(ledger: Ledger, workers: int) -> None:
    """All runs that are lacking."""
    began = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        while todo := jobs(ledger):
            for number, line in enumerate(pool.imap_unordered(done, todo), 1):
                ledger.add(line)
                left = (time.perf_counter() - began) / number * (len(todo) - number)
                told = f"{line['treatment']} {line['setting']} {line['seed']}: {line['status']} {line['curve'][-1:]}"
                print(f"{number} of {len(todo)}, {left:.0f} s left  {told}", file=sys.stderr, flush=True)
            began = time.perf_counter()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--records", type=Path, default=ROOT / "benchmarks/results/deep-sigmoid.jsonl")
    arguments.add_argument("--page", type=Path, default=ROOT / "docs/deep-sigmoid.md")
    given = arguments.parse_args()
    ledger = Ledger(given.records, header())
    if "untrained" not in ledger.header:
        ledger.note(untrained=untrained(), versions=versions(), machine=machine())
    if jobs(ledger):
        carry_out(ledger, given.workers)
        ledger.prune()
    write(ledger, given.page)
    print(given.page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
