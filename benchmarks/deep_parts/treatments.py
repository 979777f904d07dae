"""What is done about a net of twenty sigmoid layers that does not train, each as a run at a given budget of work."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import ravine
from ravine import init
from ravine.core.seeds import derive, generator
from ravine.nn import heads_task, with_skips
from ravine.strategies import batch_norm, distill, pretrain
from ravine.strategies.teaching import taught
from ravine.weights import fresh

SHALLOW = "shallow"
Point = tuple[int, float | None]  # work so far, and the metric of the deep net where there is one to judge


@dataclass(frozen=True)
class Run:
    """One run: `teacher` is the setting with which a teacher is trained, where one is needed."""

    task: ravine.Task
    setting: str
    seed: int
    budget: int
    every: int
    teacher: str = ""


@dataclass(frozen=True)
class Treatment:
    """A row of the table. `settings` is its grid, of which tuning takes one; points of `run` come in order of work."""

    name: str
    label: str
    what: str
    settings: tuple[str, ...]
    run: Callable[[Run], Iterator[Point]]
    taught: bool = False


def grid(rule: str, key: str, values: Iterable[float]) -> tuple[str, ...]:
    """A spec for each value."""
    return tuple(f"{rule}({key}={value!r})" for value in values)


def shallow(task: ravine.Task) -> ravine.Task:
    """The first hidden layer of the deep net and its output layer, with nothing between."""

    def make() -> nn.Module:
        model = task.model()
        return nn.Sequential(model[0], model[1], model[-1])

    return dataclasses.replace(task, name="shallow", model=make)


def trained(run: Run, task: ravine.Task, before: int = 0) -> Iterator[Point]:
    """Plain training with what is left of the budget after the work `before`."""
    for moment in ravine.train(task, run.setting, steps=run.budget - before, seed=run.seed, every=run.every):
        yield before + moment.work, moment.metric


def plainly(run: Run) -> Iterator[Point]:
    """The net as it is."""
    return trained(run, run.task)


def with_model(change: Callable[[nn.Module], nn.Module]) -> Callable[[Run], Iterator[Point]]:
    """Training of a changed model."""

    def changed(run: Run) -> Iterator[Point]:
        return trained(run, dataclasses.replace(run.task, model=lambda: change(run.task.model())))

    return changed


def normalized(model: nn.Module) -> nn.Module:
    """Batch normalization between every hidden layer's weights and its sigmoid."""
    batch_norm.insert(model)
    return model


def gained(model: nn.Module) -> nn.Module:
    """Weights drawn anew, with the gain that keeps the signal's size through a sigmoid."""
    init.apply(model, "orthogonal(gain='auto')")
    return model


def searched(run: Run) -> Iterator[Point]:
    """The search over the scales of layers on 256 examples; each of its passes counts as four gradients of 64."""
    model, count = fresh(run.task, run.seed), 0

    def counted(*_: Any) -> None:
        nonlocal count
        count += 1

    x, y = run.task.train
    chosen = torch.randperm(len(x), generator=generator(run.seed, "search"))[:256]
    with model.register_forward_pre_hook(counted):
        init.search(model, (x[chosen], y[chosen]), run.task.loss)
    spent = math.ceil(count * len(chosen) / run.task.batch_size)
    yield 0, run.task.judge(model, run.task.valid)
    yield from trained(run, dataclasses.replace(run.task, model=lambda: copy.deepcopy(model)), spent)


def headed(run: Run) -> Iterator[Point]:
    """A head behind every hidden layer but the last (Lee et al. 2015)."""
    hidden = [name for name, module in run.task.model().named_children() if isinstance(module, nn.Sigmoid)]
    return trained(run, heads_task(run.task, at=hidden[:-1]))


def pretrained(run: Run) -> Iterator[Point]:
    """Half of the budget goes to the layers one by one, half to all of them."""
    layers = sum(isinstance(module, nn.Linear) for module in run.task.model()) - 1
    each = max(1, run.budget // 2 // layers)
    settings = {"steps_per_layer": each, "steps": run.budget - each * layers, "seed": run.seed, "every": run.every}
    for moment in pretrain(run.task, run.setting, **settings):
        yield moment.work, moment.metric if moment.stage == "joint" else None


def hinted(run: Run) -> Iterator[Point]:
    """Two fifths of the budget make the teacher, the shallow net; one fifth hints, two fifths distillation."""
    work, hints = 2 * run.budget // 5, run.budget // 5
    teacher = taught(shallow(run.task), work, derive(run.seed, "teacher"), optimizer=run.teacher)
    settings = {"hint_steps": hints, "steps": run.budget - work - hints, "seed": run.seed, "every": run.every}
    for moment in distill(teacher, None, run.task, run.setting, **settings):
        yield work + moment.work, moment.metric if moment.stage == "distill" else None


MOMENTUM = grid("momentum", "lr", (0.003, 0.01, 0.03, 0.1, 0.3, 1.0))
TREATMENTS = {
    one.name: one
    for one in (
        Treatment(
            SHALLOW, "shallow net", "one hidden layer, the same weights otherwise: what is to be reached", MOMENTUM,
            lambda run: trained(run, shallow(run.task)),
        ),
        Treatment("plain", "plain momentum", "the deep net as it is", MOMENTUM, plainly),
        Treatment("adam", "Adam", "instead of momentum", grid("adam", "lr", (0.001, 0.003, 0.01, 0.03)), plainly),
        Treatment(
            "kfac", "K-FAC", "a second-order solver: Kronecker-factored curvature",
            grid("kfac", "damping", (0.1, 1.0, 10.0, 100.0)), plainly,
        ),
        Treatment(
            "hessian-free", "Hessian-free", "a second-order solver: Gauss-Newton and conjugate gradients",
            grid("hessian_free", "damping", (0.1, 1.0, 10.0, 100.0)), plainly,
        ),
        Treatment(
            "gain", "gains", "`ravine.init.apply`, orthogonal(gain='auto')", MOMENTUM, with_model(gained)
        ),
        Treatment("search", "init search", "`ravine.init.search` with the loss, on 256 examples", MOMENTUM, searched),
        Treatment(
            "batch-norm", "batch norm", "`ravine.strategies.batch_norm.insert`", MOMENTUM, with_model(normalized)
        ),
        Treatment(
            "residual", "residual skips",
            "`ravine.nn.with_skips(every=1)`, residual, each branch times a scalar from 0",
            MOMENTUM, with_model(lambda model: with_skips(model, every=1)),
        ),
        Treatment(
            "highway", "highway skips", "`ravine.nn.with_skips(every=1, kind='highway')`", MOMENTUM,
            with_model(lambda model: with_skips(model, every=1, kind="highway")),
        ),
        Treatment(
            "heads", "auxiliary heads", "`ravine.nn.heads_task`, behind each hidden layer but the last", MOMENTUM,
            headed,
        ),
        Treatment(
            "pretraining", "greedy pretraining", "`ravine.strategies.pretrain`, half of the budget layer by layer",
            MOMENTUM, pretrained,
        ),
        Treatment(
            "hints", "hints from a teacher",
            "`ravine.strategies.distill`; the teacher is the shallow net, two fifths of the budget", MOMENTUM, hinted,
            taught=True,
        ),
    )
}  # fmt: skip
