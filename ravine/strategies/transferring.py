"""Transfer: how well the first layers learnt on one task serve another, with the controls of Yosinski et al. 2014."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ravine.core.batches import to
from ravine.core.declared import check_value
from ravine.core.dry_run import dry_run
from ravine.core.errors import RavineError, unknown
from ravine.core.evidence import Estimate
from ravine.core.probe import Moment
from ravine.core.record import read_json, write_json
from ravine.core.seeds import derive
from ravine.core.task import Task
from ravine.loop import train
from ravine.nn.layers import Layer
from ravine.nn.tracing import example_batch, in_running_order, run_on
from ravine.racing.estimate import mean
from ravine.strategies.copying import copy_layers
from ravine.strategies.labels import check_labels
from ravine.strategies.stages import check_budget, check_task, claim
from ravine.weights import fresh, settled

TREATMENTS = ("BnB", "BnB+", "AnB", "AnB+")
BASES = ("baseA", "baseB")
Observe = Callable[[str, int, int], None] | None
Runs = dict[tuple[str, int], list[float]]


@dataclass(frozen=True)
class Matrix:
    """How a transfer went: the metric on task B at the end of every run.

    values: for each treatment and number of copied layers one number a seed; the bases stand at 0 layers. baseA is
    judged on task A.
    """

    task_a: str
    task_b: str
    spec: str
    steps: int
    metric_name: str
    better: str
    layers: tuple[int, ...]
    seeds: tuple[int, ...]
    values: Runs
    work: int

    def estimate(self, treatment: str, layers: int = 0) -> Estimate:
        """The mean over seeds with Student's interval at 95 %; unbounded for one seed."""
        return mean(self.values[treatment, layers])

    def gain(self, treatment: str, layers: int) -> Estimate:
        """How much better than baseB, seed by seed."""
        sign = 1 if self.better == "higher" else -1
        pairs = zip(self.values[treatment, layers], self.values["baseB", 0], strict=True)
        return mean([sign * (a - b) for a, b in pairs])

    def content(self) -> dict[str, Any]:
        """As JSON keeps it."""
        cells = [
            {"treatment": treatment, "layers": k, "values": found, "mean": (e := mean(found)).value}
            | {"low": e.low, "high": e.high}
            for (treatment, k), found in self.values.items()
        ]
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "values"}
        return named | {"cells": cells}


def transfer(
    task_a: Task,
    task_b: Task,
    optimizer: Any = "adam",
    lr: float | None = None,
    *,
    layers: Iterable[int] | None = None,
    treatments: Sequence[str] = TREATMENTS,
    steps: int = 500,
    seeds: int = 3,
    seed: int = 0,
    device: str = "cpu",
    out: str | Path | None = None,
    observe: Observe = None,
) -> Matrix:
    """Train on A and on B, copy the first n layers into a new model for B, train the rest; for every n and treatment.

    AnB, BnB: the copied layers, learnt on A or on B itself, stay frozen. AnB+, BnB+: they are fine-tuned with the rest.
    BnB is the control for layers that need those above them as they were when they learnt together ("fragile
    co-adaptation"), and BnB+ for the longer training (Yosinski et al. 2014, section 2 and figure 1).

    layers: which n; all but the last layer unless given. steps: the budget of every run, in gradient evaluations.
    seeds: how often the whole is repeated. Of one seed all new models begin with the same weights above the copied
    layers and see the same batches, so that treatments are compared in pairs.
    out: a folder with the record of every run and `transfer.json`; what was cut off goes on there.
    observe: is told the run, the work done and all work.

    Layers are those of `ravine.nn.layers`, in the order in which the model for B runs them. Raises `RavineError` before
    anything is trained where the layers of the models for A and B do not fit, and where a run diverges.
    """
    plan = _Plan(task_a, task_b, optimizer, lr, steps, device, None if out is None else Path(out), observe)
    check_budget(steps=steps, seeds=seeds)
    check_value("seed", seed, int, "[0, inf)")
    for treatment in treatments:
        if treatment not in TREATMENTS:
            raise unknown("treatment", str(treatment), TREATMENTS)
    chosen = plan.fitting(layers, treatments)
    every = tuple(seed + i for i in range(seeds))
    plan.runs = len(every) * (1 + any(t.startswith("A") for t in treatments) + len(treatments) * len(chosen))
    if plan.out is not None:
        what = {"strategy": "transfer", "tasks": [task_a.name, task_b.name], "fingerprints": plan.fingerprints}
        claim(plan.out, what | {"seed": seed, "steps": steps, "spec": str(optimizer), "lr": lr})
    values: Runs = {}
    for one in every:
        for key, value in plan.seed(one, chosen, treatments).items():
            values.setdefault(key, []).append(value)
    found = Matrix(
        task_a.name, task_b.name, str(optimizer), steps, task_b.metric_name, task_b.better, tuple(chosen), every,
        values, plan.work,
    )  # fmt: skip
    if plan.out is not None:
        write_json(plan.out / "transfer.json", found.content())
    return found


def load(folder: str | Path) -> Matrix:
    """The matrix that `transfer(out=folder)` left."""
    content = read_json(Path(folder) / "transfer.json")
    values = {(cell["treatment"], cell["layers"]): cell["values"] for cell in content.pop("cells")}
    return Matrix(**content | {"values": values} | {key: tuple(content[key]) for key in ("layers", "seeds")})


@dataclass
class _Plan:
    """The two tasks and how each run of the matrix is made."""

    a: Task
    b: Task
    optimizer: Any
    lr: float | None
    steps: int
    device: str
    out: Path | None
    observe: Observe
    runs: int = 0
    work: int = 0
    there: list[Layer] = field(default_factory=list)
    """The layers of the models, in the order in which B's runs them."""
    fingerprints: list[str] = field(default_factory=list)
    """What the two tasks compute."""

    def fitting(self, layers: Iterable[int] | None, treatments: Sequence[str]) -> list[int]:
        """The numbers of layers, once it is sure that so many can be copied."""
        for task in (self.a, self.b):
            check_task("transfer", task)
            check_labels(task)
            self.fingerprints.append(dry_run(task, self.device).fingerprint)
        model = fresh(self.b, 0, self.device)
        self.there = in_running_order(model, run_on(self.b, to(example_batch(self.b), next(model.parameters()).device)))
        depth = len(self.there)
        chosen = list(range(1, depth)) if layers is None else list(layers)
        for n in chosen:
            if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n < depth:
                raise RavineError(
                    f"layers={n!r} cannot be copied: the model of task '{self.b.name}' has {depth} layers, of which "
                    f"1 to {depth - 1} can be, and the last is trained anew"
                )
        if not chosen:
            raise RavineError(f"there is no layer to copy: the model of task '{self.b.name}' has {depth}")
        if any(treatment.startswith("A") for treatment in treatments):
            copy_layers(fresh(self.a, 0, self.device), copy.deepcopy(model), self._first(max(chosen)))
        return chosen

    def seed(self, seed: int, layers: Sequence[int], treatments: Sequence[str]) -> dict[tuple[str, int], float]:
        """All runs of one seed."""
        found: dict[tuple[str, int], float] = {}
        bases: dict[str, nn.Module] = {}
        for name, task in zip(BASES, (self.a, self.b), strict=True):
            if name == "baseB" or any(treatment.startswith("A") for treatment in treatments):
                found[name, 0], bases[name[-1]] = self.run(name, task, seed, derive(seed, name))
        for n in layers:
            for treatment in treatments:
                task = self._copied(bases[treatment[0]], n, frozen="+" not in treatment)
                name = f"{treatment[0]}{n}{treatment[2:]}"
                found[treatment, n], _ = self.run(name, task, seed, derive(seed, "transfer"))
        return found

    def _first(self, n: int) -> list[str]:
        """The modules of the first n layers."""
        return [name for layer in self.there[:n] for name in layer.names]

    def _copied(self, base: nn.Module, n: int, frozen: bool) -> Task:
        def model() -> nn.Module:
            made = self.b.model().to(next(base.parameters()).device)
            copy_layers(base, made, self._first(n), freeze=frozen)
            return made

        return dataclasses.replace(self.b, model=model)

    def run(self, name: str, task: Task, seed: int, own: int) -> tuple[float, nn.Module]:
        """Train; the metric at the end, and the model."""
        place = None if self.out is None else self.out / f"seed-{seed}" / name
        last: Moment | None = None
        for last in train(task, self.optimizer, self.lr, self.steps, own, device=self.device, out=place):
            if self.observe is not None:
                self.observe(f"{name}, seed {seed}", self.work + last.work, self.runs * self.steps)
        assert last is not None
        self.work += last.work
        if last.diverged or math.isnan(last.metric):
            raise RavineError(f"{name}, seed {seed}: '{self.optimizer}' diverged after {last.work} steps: lower its lr")
        return last.metric, settled(last)
