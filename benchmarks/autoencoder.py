"""Second-order methods on the deep autoencoder of curves, beside Nesterov momentum, by CPU time.

    python benchmarks/autoencoder.py [--seeds 0 1 2 3 4] [--seconds 120] [--out benchmarks/results/autoencoder.json]
        [--picture docs/autoencoder.svg]

10,000 images, one thread, all methods of a seed in turn for slices of about four seconds, so that a change in the
machine's pace meets all alike. The time is the process's CPU time, without judging. What is judged is the training
error: the squared error summed over pixels, the mean over all 10,000 images.

Nesterov is that of Sutskever et al. (2013): mu_t = min(1 - 2^(-1 - log2(floor(t / 250) + 1)), 0.99), the gradient
taken at theta + mu_t v, and momentum 0.9 over the last tenth of the time; the best of three learning rates counts.
The floor of K-FAC's damping was chosen on seeds 7, 8 and 9, which are not among
those that are reported. The question is in what share of the time K-FAC reaches the error that Nesterov ends with.
A seed that is in the file already is not run again. --picture draws the curves of the file's seeds.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import ravine
from ravine.core.batches import batches
from ravine.core.figure import Figure, Panel, Series
from ravine.core.machine import machine, versions
from ravine.core.seeds import GlobalStream, derive, generator
from ravine.core.task import Task
from ravine.proving.drawing import alone, svg

RATES = (0.005, 0.01, 0.02)
SLICE, FACTOR = 4.0, 0.75
Advance = Callable[[float], None]


class Competitor:
    """A method under way on a model of its own: it is advanced by slices, and judged between them."""

    def __init__(self, task: Task, seed: int, batch: int) -> None:
        with GlobalStream(derive(seed, "init")):
            self.model = task.model()
        self.task, self.batch, self.seconds, self.passes, self.ended = task, batch, 0.0, 0.0, False
        self.curve: list[tuple[float, float, float]] = []
        self.batches: Iterator[Any] = batches(task.train, batch, generator(seed, "shuffle"))

    def advance(self, until: float) -> None:
        """Steps until so many seconds of its own are spent; then one judgement, which takes none."""
        begun, before = time.process_time(), self.seconds
        while self.seconds < until and not self.ended:
            self.passes += self.step() * self.batch / len(self.task.train[0])
            self.seconds = before + time.process_time() - begun
        error = self.judged()
        self.ended = self.ended or not math.isfinite(error)
        self.curve.append((round(self.seconds, 3), error, round(self.passes, 2)))

    def step(self) -> int:
        """One step; its cost in gradients and products of a batch."""
        raise NotImplementedError

    def judged(self) -> float:
        return self.task.judge(self.model, self.task.train)


class Sutskever(Competitor):
    """Nesterov with the momentum of the step at hand: parameters rest at theta + mu v, where the gradient is taken."""

    def __init__(self, task: Task, seed: int, lr: float, seconds: float) -> None:
        super().__init__(task, seed, 200)
        self.lr, self.end, self.t = lr, 0.9 * seconds, 0
        self.parameters = list(self.model.parameters())
        self.v = [torch.zeros_like(p) for p in self.parameters]
        self.mu = self.momentum()

    def momentum(self) -> float:
        return 0.9 if self.seconds > self.end else min(1 - 2.0 ** (-1 - math.log2(self.t // 250 + 1)), 0.99)

    def step(self) -> int:
        loss = self.task.loss(self.model, next(self.batches))
        gradients = torch.autograd.grad(loss, self.parameters)
        self.ended = not math.isfinite(float(loss.detach()))
        self.t += 1
        after = self.momentum()
        with torch.no_grad():  # p = theta + mu v; v <- mu v - lr g; p <- theta + v + mu' v
            torch._foreach_sub_(self.parameters, self.v, alpha=self.mu)
            torch._foreach_mul_(self.v, self.mu)
            torch._foreach_sub_(self.v, gradients, alpha=self.lr)
            torch._foreach_add_(self.parameters, self.v, alpha=1 + after)
        self.mu = after
        return 1

    def judged(self) -> float:
        with torch.no_grad():
            torch._foreach_sub_(self.parameters, self.v, alpha=self.mu)
            error = super().judged()
            torch._foreach_add_(self.parameters, self.v, alpha=self.mu)
        return error


class Solved(Competitor):
    """A solver of ravine by its spec."""

    def __init__(self, task: Task, seed: int, spec: str, batch: int) -> None:
        super().__init__(task, seed, batch)
        self.solver = ravine.assemble(spec, self.model, horizon=1000, task=task)
        self.solver.generator.manual_seed(derive(seed, "noise"))

    def step(self) -> int:
        batch, solver = next(self.batches), self.solver
        before = solver.evaluations + solver.products
        loss = solver.step(batch if solver.needs_outputs else lambda: self.task.loss(self.model, batch))
        self.ended = not math.isfinite(float(loss))
        return int(solver.evaluations + solver.products - before)


def race(task: Task, seed: int, seconds: float, solvers: dict[str, tuple[str, int]]) -> dict[str, Any]:
    """The curves of all methods from one seed: (seconds, error, passes through the data) of each."""
    field: dict[str, Competitor] = {f"nesterov, lr {lr:g}": Sutskever(task, seed, lr, seconds) for lr in RATES}
    field |= {name: Solved(task, seed, *given) for name, given in solvers.items()}
    grid = [SLICE * i for i in range(1, round(seconds / SLICE))] + [seconds]
    for until in grid:
        for one in field.values():
            if not one.ended:
                one.advance(until)
        now = "  ".join(f"{name} {one.curve[-1][1]:.3f}" for name, one in field.items())
        print(f"  {until:5.0f} s  {now}", flush=True)
    return {name: one.curve for name, one in field.items()}


def crossing(curve: list[Any], goal: float) -> float:
    """The seconds after which the error is at the goal and stays so at the next judgement; inf where it never is."""
    for (seconds, error, _), after in zip(curve, [*curve[1:], curve[-1]], strict=True):
        if error <= goal and after[1] <= goal:
            return float(seconds)
    return math.inf


def report(runs: dict[str, Any], seconds: float) -> None:
    """Of each seed the goal and when it was reached; the medians at the end."""
    shares: list[float] = []
    for seed, curves in runs.items():
        ends = {name: curve[-1][1] for name, curve in curves.items() if name.startswith("nesterov")}
        best = min(ends, key=lambda name: ends[name] if math.isfinite(ends[name]) else math.inf)
        share = crossing(curves["kfac"], ends[best]) / seconds
        shares.append(share)
        others = ", ".join(f"{name} {curve[-1][1]:.3f}" for name, curve in curves.items() if name not in ends)
        print(f"seed {seed}: {best} ends at {ends[best]:.3f}, K-FAC is there in {share:.2f} of the time; {others}")
    print("\nmedians over seeds             error after", *(f"{s:>7.0f} s" for s in _at(seconds)), "   passes")
    for name in next(iter(runs.values())):
        found = [[_error(curves[name], s) for s in _at(seconds)] for curves in runs.values()]
        middle = [statistics.median(column) for column in zip(*found, strict=True)]
        passes = statistics.median(curves[name][-1][2] for curves in runs.values())
        print(f"{name:42}", *(f"{one:9.3f}" for one in middle), f"{passes:9.0f}")
    median = statistics.median(shares)
    print(f"\nK-FAC's share of the time, median of {len(shares)} seeds: {median:.2f} (goal: at most {FACTOR})")


def picture(runs: dict[str, Any], out: Path) -> None:
    """Errors by processor time and by passes through the data: medians of the seeds, from the least to the greatest."""
    panels = []
    for label, column in (("seconds of one core", 0), ("passes through the data", 2)):
        series = []
        for name in next(iter(runs.values())):
            curves = [one[name] for one in runs.values()]
            length = min(len(curve) for curve in curves)  # a run that diverged has ended
            rows = [[curve[i] for curve in curves] for i in range(length)]
            errors = [[one[1] for one in row] for row in rows]
            along = [statistics.median(one[column] for one in row) for row in rows]
            middle, low, high = ([*map(each, errors)] for each in (statistics.median, min, max))
            series.append(Series(name, along, middle, low, high))
        panels.append(Panel(label, "training error", series, log="xy" if column else "y"))
    caption = f"The deep autoencoder of curves: median of {len(runs)} seeds, and their range."
    out.write_text(alone(svg(Figure(caption, panels), "autoencoder")))


def _at(seconds: float) -> list[float]:
    return [seconds * part for part in (0.25, 0.375, 0.5, 0.625, 0.75, 1.0)]


def _error(curve: list[Any], seconds: float) -> float:
    return float(min(curve, key=lambda row: abs(row[0] - seconds))[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/autoencoder.json"))
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    task = ravine.task("autoencoder-curves")
    solvers = {
        "kfac": ("kfac(damping=100, least=0.0003)", 500), "lbfgs": ("lbfgs", 10_000),
        "hessian_free": ("hessian_free(most=50, share=0.25)", 2000),
    }  # fmt: skip
    kept = json.loads(given.out.read_text()) if given.out.exists() else {}
    settings = {"seconds": given.seconds, "solvers": {name: list(one) for name, one in solvers.items()}}
    runs = kept.get("runs", {}) if kept.get("settings") == settings else {}
    for seed in given.seeds:
        if str(seed) not in runs:
            print(f"seed {seed}", flush=True)
            runs[str(seed)] = race(task, seed, given.seconds, solvers)
            content = {"settings": settings, "versions": versions(), "machine": machine(), "runs": runs}
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps(content))
    shown = {str(seed): runs[str(seed)] for seed in given.seeds}
    report(shown, given.seconds)
    if given.picture:
        picture(shown, given.picture)


if __name__ == "__main__":
    main()
