"""Training: reproducible to the bit, resumed to the bit, stopped early, looked at by probes."""

import itertools
import json
import math
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import ravine
from ravine import probes, resume
from ravine.assembly import assemble
from ravine.checks import check_probe
from ravine.core.dry_run import hash_tensors
from ravine.core.errors import RavineError
from ravine.core.probe import Moment, Probe
from ravine.core.record import Damaged, read
from ravine.core.seeds import GlobalStream, derive, generator
from ravine.core.spec import parse, parse_links
from ravine.core.task import Task
from ravine.loop import Run
from ravine.probes import GradNorm, UpdateRatio
from ravine.rules import Adam, StochasticSign, adamw

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Augmentation from all three global generators."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        noise = random.gauss(0, 0.1) + np.random.normal(0, 0.1) + 0.1 * torch.randn(())  # noqa: NPY002
        return X[i] + noise, Y[i]


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def task(**changes: Any) -> Task:
    """Chance everywhere: in the weights, the order, the data, the model while it trains, and the metric."""
    settings: dict[str, Any] = {
        "name": "chancy", "model": make_model, "criterion": nn.CrossEntropyLoss(), "train": Noisy(), "valid": (X, Y),
        "metric": lambda outputs, targets: nn.functional.cross_entropy(outputs + 0.1 * torch.randn(3), targets),
        "better": "lower", "batch_size": 8,
    }  # fmt: skip
    return ravine.supervised(**settings | changes)


def plain(**changes: Any) -> Task:
    """The same without chance in data and metric."""
    return task(**{"train": (X, Y), "metric": "loss"} | changes)


def told(moments: Iterator[Moment]) -> tuple[list[dict[str, Any]], str]:
    """What a run says, without what the clock has to do with, and its last weights."""
    rows = []
    for moment in moments:
        rows.append({key: value for key, value in moment.row().items() if key != "observed"})
    return rows, hash_tensors(moment.model.state_dict())


def said(attempt: Callable[[], object]) -> str:
    with pytest.raises(RavineError) as error:
        attempt()
    return str(error.value)


def scramble() -> None:
    torch.manual_seed(99), np.random.seed(99), random.seed(99)  # noqa: NPY002


def drawn() -> tuple[float, float, float]:
    return torch.rand(()).item(), np.random.rand(), random.random()  # noqa: NPY002


# ---------------------------------------------------------------- the same seed, the same numbers


def test_the_same_seed_gives_the_same_numbers_to_the_bit() -> None:
    rows, weights = told(ravine.train(task(), "adam(lr=0.01)", steps=30, seed=4))
    assert (rows, weights) == told(ravine.train(task(), "adam(lr=0.01)", steps=30, seed=4))
    other, others = told(ravine.train(task(), "adam(lr=0.01)", steps=30, seed=5))
    assert weights != others
    assert all(a["metric"] != b["metric"] for a, b in zip(rows, other, strict=True))


def test_noise_within_rules_is_the_runs_own() -> None:
    """The same rule on the same parameters: only its noise can differ."""

    def noise(seed: int) -> list[float]:
        def make(model: nn.Module) -> ravine.Optimizer:
            return ravine.Optimizer(model.parameters(), StochasticSign(), lr=0.1)

        run = Run(task(), make, seed, torch.device("cpu"))
        p = next(p for p in run.model.parameters() if p.ndim == 2)
        with torch.no_grad():
            p.zero_()
        p.grad = torch.linspace(-1, 1, p.numel()).view_as(p)
        run.optimizer.step()
        return p.flatten().tolist()

    assert noise(1) == noise(1) != noise(2)


def test_what_happens_between_moments_does_not_reach_the_run_nor_the_run_the_caller() -> None:
    expected = told(ravine.train(task(), "adam", steps=20, every=5))

    def disturbed() -> Iterator[Moment]:
        scramble()
        for moment in ravine.train(task(), "adam", steps=20, every=5):
            before = drawn()
            assert before == undisturbed  # the caller draws as if nothing ran in between
            yield moment
            scramble()

    scramble()
    undisturbed = drawn()
    assert told(disturbed()) == expected


def test_two_runs_may_take_turns() -> None:
    alone = [told(ravine.train(task(), "sgd", steps=20, every=4, seed=seed))[0] for seed in (0, 1)]
    both = zip(*(ravine.train(task(), "sgd", steps=20, every=4, seed=seed) for seed in (0, 1)), strict=True)
    turns = [
        [{k: v for k, v in moment.row().items() if k != "observed"} for moment in run]
        for run in zip(*both, strict=True)
    ]  # fmt: skip
    assert turns == alone


def test_how_often_one_looks_changes_nothing() -> None:
    seldom, last = told(ravine.train(task(), "adam", steps=20, every=20))
    often, others = told(ravine.train(task(), "adam", steps=20, every=1))
    assert last == others
    assert seldom[-1]["metric"] == often[-1]["metric"]
    assert seldom[-1]["loss"] == pytest.approx(sum(row["loss"] for row in often[1:]) / 20, rel=1e-6)


def test_weights_and_order_do_not_depend_on_the_optimizer() -> None:
    def start(optimizer: Any) -> tuple[str, list[str]]:
        batches, weights = [], ""
        for moment in ravine.train(plain(), optimizer, steps=6, every=1, seed=3):
            weights = weights or hash_tensors(moment.model.state_dict())
            batches += [hash_tensors([moment.batch])] if moment.step else []
        return weights, batches

    def drawing(model: nn.Module) -> torch.optim.Optimizer:
        drawn()
        return torch.optim.SGD(model.parameters(), lr=0.1)

    expected = start("sgd")
    assert len(set(expected[1])) == 6
    assert start("adam(lr=0.1) @ cosine") == start(drawing) == expected


def test_an_optimizer_that_draws_is_reproducible_and_leaves_the_callers_chance_alone() -> None:
    seen = []

    def drawing(model: nn.Module) -> torch.optim.Optimizer:
        seen.append(drawn())
        return torch.optim.SGD(model.parameters(), lr=0.1)

    scramble()
    expected = drawn()
    for _ in range(2):
        scramble()
        ravine.train(plain(), drawing, steps=3)
        assert drawn() == expected
    assert seen[0] == seen[1] != expected


def test_streams_of_chance_are_apart() -> None:
    assert derive(0, "init") == derive(0, "init") != derive(0, "shuffle") != derive(1, "shuffle")
    assert len({derive(seed, name) for seed in range(50) for name in ("init", "shuffle", "chance")}) == 150
    assert torch.rand(3, generator=generator(1, "a")).tolist() == torch.rand(3, generator=generator(1, "a")).tolist()


def test_a_stream_goes_on_where_it_was_left_and_can_be_kept() -> None:
    scramble()
    outside = drawn()
    scramble()
    stream = GlobalStream(7)
    with stream:
        first = drawn()
    state = json.loads(json.dumps({k: v for k, v in stream.state_dict().items() if k == "python"}))
    assert len(state["python"]) == 3
    kept = stream.state_dict()
    with stream:
        second = drawn()
    with stream.again():
        third = drawn()
    with stream.again():
        assert drawn() == third
    assert drawn() == outside
    assert len({first, second, third}) == 3
    fresh = GlobalStream(8)
    fresh.load_state_dict(kept)
    with fresh:
        assert (drawn(), drawn()) == (second, third)
    with pytest.raises(KeyError), stream:
        raise KeyError  # the caller's states come back all the same
    scramble()
    assert drawn() == outside


# ---------------------------------------------------------------- the grid


@pytest.mark.parametrize(
    ("steps", "every", "grid"),
    [
        (10, 3, [0, 3, 6, 9, 10]),
        (10, 5, [0, 5, 10]),
        (3, 7, [0, 3]),
        (1, None, [0, 1]),
        (60, None, list(range(61))),
        (120, None, list(range(0, 121, 2))),
    ],
)
def test_moments_come_on_a_grid(steps: int, every: int | None, grid: list[int]) -> None:
    moments = list(ravine.train(plain(), "sgd", steps=steps, every=every))
    assert [moment.work for moment in moments] == [moment.step for moment in moments] == grid
    assert [moment.examples for moment in moments] == [8 * work for work in grid]
    assert moments[0].loss is None
    assert all(math.isfinite(moment.loss) for moment in moments[1:])
    assert not any(moment.diverged or moment.replayed for moment in moments)
    seconds = [moment.seconds for moment in moments]
    assert seconds == sorted(seconds)
    assert all(0 < moment.evaluation_seconds <= moment.seconds for moment in moments)


def test_the_loss_of_a_moment_is_the_mean_since_the_last() -> None:
    losses: list[float] = []

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(output, target)
        losses.append(loss.item())
        return loss

    moments = list(
        ravine.train(plain(criterion=criterion, metric="accuracy", better="higher"), "sgd", steps=7, every=3)
    )
    taken = losses[1:]  # the first was the dry batch
    expected = [sum(taken[a:b]) / (b - a) for a, b in ((0, 3), (3, 6), (6, 7))]
    assert [moment.loss for moment in moments[1:]] == pytest.approx(expected, rel=1e-6)


def test_a_size_of_ones_own_counts_examples() -> None:
    sized = Task(
        name="sized", model=lambda: nn.Linear(4, 3), loss=lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]),
        train=(X, Y), valid=None, metric=lambda m, d: 0.0, better="lower", batch_size=6, size=lambda b: 100,
    )  # fmt: skip
    assert [moment.examples for moment in ravine.train(sized, "sgd", steps=2, every=1)] == [0, 100, 200]


def test_training_is_what_a_plain_loop_does() -> None:
    simple = plain(model=lambda: nn.Linear(4, 3))
    last = list(ravine.train(simple, Adam(), lr=0.05, steps=12, seed=2))[-1]
    with GlobalStream(derive(2, "init")):
        model = nn.Linear(4, 3)
    optimizer = ravine.Optimizer(model.parameters(), Adam(), 0.05)
    order = generator(2, "shuffle")
    step = 0
    while step < 12:
        epoch = torch.randperm(60, generator=order)
        for start in range(0, 56, 8):
            if step < 12:
                index = epoch[start : start + 8]
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(X[index]), Y[index]).backward()
                optimizer.step()
                step += 1
    assert hash_tensors(model.state_dict()) == hash_tensors(last.model.state_dict())
    with torch.no_grad():
        assert last.metric == pytest.approx(nn.functional.cross_entropy(model(X), Y).item(), rel=1e-6)


# ---------------------------------------------------------------- optimizers of every kind


@pytest.mark.parametrize(
    ("optimizer", "lr"),
    [
        (Adam(beta1=0.8), 0.02),
        (parse("adam(beta1=0.8)"), 0.02),
        ("adam(beta1=0.8)", 0.02),
        ("adam(lr=0.02, beta1=0.8)", None),
        (lambda model: ravine.Optimizer(model.parameters(), Adam(beta1=0.8), 0.02), None),
        (lambda model: assemble("mine=adam(lr=0.02, beta1=0.8)", model, 10), None),
    ],
)
def test_an_optimizer_may_be_written_in_many_ways(optimizer: Any, lr: float | None) -> None:
    expected = told(ravine.train(plain(), "adam(lr=0.02, beta1=0.8)", steps=10))
    assert told(ravine.train(plain(), optimizer, lr=lr, steps=10)) == expected


def test_a_rule_or_a_composition_as_it_stands_is_its_default() -> None:
    assert told(ravine.train(plain(), Adam, steps=5)) == told(ravine.train(plain(), "adam", steps=5))
    assert told(ravine.train(plain(), adamw, lr=0.1, steps=5)) == told(ravine.train(plain(), "adamw(lr=0.1)", steps=5))


def test_a_schedule_without_a_horizon_takes_the_runs() -> None:
    open_, known = "sgd(lr=0.1) @ cosine()", "sgd(lr=0.1) @ cosine(steps=12)"
    assert told(ravine.train(plain(), open_, steps=12)) == told(ravine.train(plain(), known, steps=12))


def lbfgs(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)


def test_work_counts_gradient_evaluations() -> None:
    calls = []
    smooth = plain(
        model=lambda: nn.Linear(4, 3),
        criterion=lambda output, target: calls.append(0) or nn.functional.cross_entropy(output, target),
        metric="accuracy", better="higher",
    )  # fmt: skip
    moments = list(ravine.train(smooth, lbfgs, steps=30, every=10))
    work = [moment.work for moment in moments]
    assert work[-1] == len(calls) - 1  # one was the dry batch
    assert all(at >= point for at, point in zip(work, [0, 10, 20, 30], strict=True))
    assert moments[-1].step < moments[-1].work
    assert moments[-1].examples == 8 * moments[-1].step


def test_a_step_that_costs_more_than_the_grid_leaves_moments_without_loss() -> None:
    moments = list(ravine.train(plain(model=lambda: nn.Linear(4, 3)), lbfgs, steps=12, every=1))
    assert [moment.loss is None for moment in moments].count(True) > 4
    assert len(moments) == 13
    assert not any(moment.diverged for moment in moments)


class Lazy(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:
        pass


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: ravine.train("digits-mlp"), "train needs a ravine.Task such as ravine.task('digits-mlp'), got str"),
        (lambda: ravine.train(plain(), steps=0), "steps must be in [1, inf), got 0"),
        (lambda: ravine.train(plain(), steps=10.0), "steps must be a whole number, got 10.0"),
        (lambda: ravine.train(plain(), steps=True), "steps must be a whole number, got True"),
        (lambda: ravine.train(plain(), every=0), "every must be in [1, inf), got 0"),
        (lambda: ravine.train(plain(), every=-3), "every must be in [1, inf), got -3"),
        (lambda: ravine.train(plain(), seed=-1), "seed must be in [0, inf), got -1"),
        (lambda: ravine.train(plain(), seed="x"), "seed must be a whole number, got 'x'"),
        (lambda: ravine.train(plain(), 3), "optimizer must be a rule, a spec or a function of the model, got 3"),
        (lambda: ravine.train(plain(), "adamm"), "unknown optimizer 'adamm': did you mean 'adam'?"),
        (lambda: ravine.train(plain(), "adam("), "expected the name of an optimizer or schedule, found the end"),
        (lambda: ravine.train(plain(), "adam", lr=-1.0), "adam: lr must be in [0, inf), got -1.0"),
        (lambda: ravine.train(plain(), "adam", lr="big"), "adam: lr must be a number, got 'big'"),
        (lambda: ravine.train(plain(), "adam(lr=0.1)", lr=0.1), "lr is given beside 'adam(lr=0.1)', which has one of"),
        (
            lambda: ravine.train(plain(), lbfgs, lr=0.1),
            "lr is given beside a function that makes the optimizer: set it",
        ),
        (lambda: ravine.train(plain(), "embedding: sgd; rest: adam"), "no parameter of this model has the role 'embed"),
        (lambda: ravine.train(plain(), lambda model: None), "the function that makes the optimizer returned None"),
        (lambda: ravine.train(plain(), device="abacus"), "device 'abacus' cannot be used here ("),
        (lambda: ravine.train(plain(), device="cuda:77"), "device 'cuda:77' cannot be used here ("),
        (
            lambda: ravine.train(plain(), probes=["grad_norm"]),
            "a probe is made as in ravine.probes.GradNorm(), got 'gr",
        ),
        (
            lambda: ravine.train(plain(), probes=[GradNorm]),
            "a probe is made as in ravine.probes.GradNorm(), got <class",
        ),
        (
            lambda: ravine.train(plain(model=lambda: nn.Linear(5, 3))),
            "task 'chancy': the loss of one batch failed with",
        ),
        (
            lambda: list(ravine.train(plain(), lambda model: Lazy(model.parameters(), lr=0.1), steps=2)),
            "Lazy.step(closure) never called the closure: it took no gradient",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(attempt: Callable[[], object], message: str) -> None:
    assert said(attempt).startswith(message)


# ---------------------------------------------------------------- divergence


def test_a_run_that_diverges_ends_with_a_moment_that_says_so(tmp_path: Path) -> None:
    moments = list(ravine.train(ravine.task("quadratic"), "sgd(lr=1e30)", steps=50, every=5, out=tmp_path))
    last = moments[-1]
    assert [moment.diverged for moment in moments] == [False] * (len(moments) - 1) + [True]
    assert last.work < 50
    assert math.isnan(last.metric) or math.isinf(last.metric)
    record = read(tmp_path / "record.jsonl")
    assert (record.status, record.rows[-1]["metric"]) == ("diverged", None)
    again = list(ravine.train(ravine.task("quadratic"), "sgd(lr=1e30)", steps=50, every=5, out=tmp_path))
    assert [moment.replayed for moment in again] == [True] * len(moments)
    assert again[-1].diverged
    assert math.isnan(again[-1].metric)


def test_a_loss_that_is_not_finite_is_not_judged() -> None:
    judged = []

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output, target) * (math.nan if len(judged) > 2 else 1)

    def metric(outputs: Tensor, targets: Tensor) -> float:
        judged.append(0)
        return 1.0

    moments = list(ravine.train(plain(criterion=criterion, metric=metric), "sgd", steps=20, every=2))
    assert math.isnan(moments[-1].loss)
    assert math.isnan(moments[-1].metric)
    assert (moments[-1].diverged, moments[-1].work) == (True, 4)
    assert len(judged) == 3  # the dry batch, the start, and after two steps


def test_a_metric_that_is_not_finite_ends_the_run() -> None:
    values = iter([1.0, 0.5, math.inf])
    moments = list(ravine.train(plain(metric=lambda o, t: next(values, 0.0)), "sgd", steps=20, every=2))
    assert [(moment.work, moment.diverged) for moment in moments] == [(0, False), (2, True)]


# ---------------------------------------------------------------- probes


@pytest.mark.parametrize("name", Probe.registry)
def test_every_probe_keeps_the_contract(name: str) -> None:
    check_probe(Probe.registry[name]())


def test_probes_measure_what_they_say() -> None:
    class Point(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.tensor([3.0, 4.0]))

    bowl = Task(
        name="bowl", model=Point, loss=lambda model, batch: model.x.square().sum(), train=(torch.zeros(4),), valid=None,
        metric=lambda model, data: model.x.norm(), better="lower", batch_size=1,
    )  # fmt: skip
    start, *rest = ravine.train(bowl, "sgd(lr=0.1)", steps=4, every=2, probes=[GradNorm(), UpdateRatio()])
    assert dict(start.probes) == {}
    for moment in rest:  # x shrinks by 0.8 a step, and g = 2x where the step began
        assert moment.probes["grad_norm"] == pytest.approx(2 * 5 * 0.8 ** (moment.step - 1), rel=1e-6)
        assert moment.probes["update_ratio"] == pytest.approx(0.2, rel=1e-6)
        assert moment.before["x"].tolist() == pytest.approx(
            [3 * 0.8 ** (moment.step - 1), 4 * 0.8 ** (moment.step - 1)]
        )
        assert moment.row()["grad_norm"] == moment.probes["grad_norm"]


def test_the_gradient_norm_is_over_all_parameters_and_takes_sparse_ones() -> None:
    model = nn.Sequential(nn.Embedding(5, 2, sparse=True), nn.Linear(2, 1))
    moment = Moment(1, 1, 1, 0.0, 0.0, 0.0, 0.0, False, model, None, plain())
    assert GradNorm()(moment) == {}
    model(torch.tensor([1, 1, 3])).sum().backward()
    expected = math.sqrt(sum(float(p.grad.to_dense().double().square().sum()) for p in model.parameters()))
    assert GradNorm()(moment)["grad_norm"] == pytest.approx(expected, rel=1e-12)
    assert UpdateRatio()(moment) == {}


@pytest.mark.parametrize(("cycle", "always"), [([2, 3, 5], True), ([2, 1, 4], False)])
def test_the_parameters_before_a_step_of_unknown_cost_are_those_before_the_last_step(
    cycle: list[int], always: bool
) -> None:
    """A step that costs more than the one before it, after one that cost a single evaluation, comes by surprise."""
    costs, starts = itertools.cycle(cycle), []

    class Changing(torch.optim.SGD):
        def step(self, closure: Any) -> Any:  # type: ignore[override]
            starts.append([p.detach().clone() for p in self.param_groups[0]["params"]])
            for _ in range(next(costs) - 1):
                closure()
            return super().step(closure)

    moments = ravine.train(
        plain(), lambda model: Changing(model.parameters(), lr=0.1), steps=60, every=7, probes=[UpdateRatio()]
    )
    for moment in moments:
        if moment.loss is not None and (always or moment.before is not None):
            assert moment.probes["update_ratio"] > 0
            for before, start in zip(moment.before.values(), starts[-1], strict=True):
                assert torch.equal(before, start)


def test_probes_have_names_and_are_made_from_text() -> None:
    made = [probes.make(call) for call in parse_links("grad_norm + update_ratio")]
    assert made == [GradNorm(), UpdateRatio()]
    assert said(lambda: probes.make(parse_links("grad_nrom")[0])) == (
        "unknown probe 'grad_nrom': did you mean 'grad_norm'? Allowed: grad_norm, update_ratio."
    )
    assert said(lambda: probes.make(parse_links("grad_norm(p=1)")[0])) == (
        "unknown argument of probe 'grad_norm' 'p': None is allowed here."
    )


def test_probes_that_draw_change_nothing_and_are_reproducible() -> None:
    @dataclass(frozen=True)
    class Drawing(Probe, register=False):
        name = "drawing"

        def __call__(self, moment: Moment) -> dict[str, float]:
            return {"drawn": np.float32(sum(drawn()))}  # type: ignore[dict-item]

    without = told(ravine.train(task(), "sgd", steps=8, every=2))
    rows, weights = told(ravine.train(task(), "sgd", steps=8, every=2, probes=[Drawing()]))
    assert ([{k: v for k, v in row.items() if k != "drawn"} for row in rows], weights) == without
    assert (rows, weights) == told(ravine.train(task(), "sgd", steps=8, every=2, probes=[Drawing()]))
    assert all(type(row["drawn"]) is float for row in rows[1:])


def broken_probe(look: Callable[[Moment], Any], **facts: Any) -> Probe:
    kind = type("Looking", (Probe,), {"__call__": lambda self, moment: look(moment), "name": "looking"} | facts)
    return dataclass(frozen=True)(kind)()


def touch(moment: Moment) -> dict[str, float]:
    with torch.no_grad():
        next(moment.model.parameters()).mul_(1.01)
    return {"x": 1.0}


def train_forward(moment: Moment) -> dict[str, float]:
    moment.model.train()
    return {"x": moment.model(moment.batch[0]).mean().item()}


def zero_gradients(moment: Moment) -> dict[str, float]:
    moment.optimizer.zero_grad()
    return {"x": 1.0}


def slow_down(moment: Moment) -> dict[str, float]:
    moment.optimizer.param_groups[0]["lr"] = 1e-3
    return {"x": 1.0}


COUNT = itertools.count()


@pytest.mark.parametrize(
    ("look", "message"),
    [
        (touch, "'looking' writes to weights, buffers, gradients or data"),
        (zero_gradients, "'looking' writes to weights, buffers, gradients or data"),
        (train_forward, "'looking' writes to weights, buffers, gradients or data"),
        (lambda m: m.model.eval() and {"x": 1.0}, "'looking' leaves another train/eval mode"),
        (slow_down, "'looking' changes the run that it looks at"),
        (lambda m: [1.0], "'looking' gives list, not a dict of named numbers"),
        (lambda m: m.batch[0].zero_() is not None and {"x": 1.0}, "'looking' writes to weights, buffers, gradients or"),
        (lambda m: {"x": float(next(COUNT))}, "'looking' gives other numbers when it looks again"),
        (lambda m: {"x": math.nan}, "'looking' gives x = nan, not a finite float"),
        (lambda m: {"x": torch.ones(())}, "'looking' gives x = tensor(1.), not a finite float"),
        (lambda m: {"loss": 1.0}, "'looking' names a number 'loss', a name that records use"),
        (lambda m: {}, "'looking' gives no number after three steps"),
    ],
)
def test_a_broken_probe_is_found(look: Callable[[Moment], Any], message: str) -> None:
    try:
        with pytest.raises(AssertionError) as error:
            check_probe(broken_probe(look))
    finally:
        del Probe.registry["looking"]
    assert str(error.value).startswith(message)


def test_a_probe_that_asks_for_what_there_is_not_is_found() -> None:
    try:
        with pytest.raises(AssertionError, match=r"^'looking' needs \['after'\], which no run provides$"):
            check_probe(broken_probe(lambda m: {"x": 1.0}, needs=frozenset({"after", "before"})))
    finally:
        del Probe.registry["looking"]


# ---------------------------------------------------------------- cut off, and going on


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint at every moment."""
    monkeypatch.setattr(resume, "_EVERY_SECONDS", -1.0)
    monkeypatch.setattr(resume, "_EVERY_COSTS", 0.0)


def endless(chance: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """From the generator and from the global one."""
    while True:
        index = torch.randint(len(X), (8,), generator=chance)
        yield X[index] + 0.1 * torch.randn(8, 4), Y[index]


RUNS: dict[str, tuple[Callable[[], Task], Any]] = {
    "adam": (task, "adam(lr=0.01) @ warmup(steps=5) * cosine"),
    "groups": (task, "hidden: momentum; rest: nadamw(lr=0.01)"),
    "endless": (lambda: task(train=endless), "nesterov"),
    "lbfgs": (lambda: plain(model=lambda: nn.Linear(4, 3)), lbfgs),
}  # fmt: skip
RUNS["groups"] = (task, "output: momentum; rest: nadamw(lr=0.01)")


def cut(moments: Iterator[Moment], after: int) -> None:
    """Take some moments and let go, as if the process had died there."""
    for _ in itertools.islice(moments, after):
        pass


@pytest.mark.parametrize("cuts", [[1], [4], [2, 3, 6, 7], [9, 10, 10]])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_was_cut_off_ends_with_the_same_numbers(
    eager: None, tmp_path: Path, name: str, cuts: list[int]
) -> None:
    make, optimizer = RUNS[name]

    def start(out: Path) -> Iterator[Moment]:
        return ravine.train(make(), optimizer, steps=20, every=2, seed=3, probes=[GradNorm()], out=out)

    expected = told(start(tmp_path / "whole"))
    for after in cuts:
        cut(start(tmp_path / "cut"), after)
    resumed = list(start(tmp_path / "cut"))
    assert [moment.replayed for moment in resumed] == [True] * cuts[-1] + [False] * (11 - cuts[-1])
    assert told(iter(resumed)) == expected
    whole, found = read(tmp_path / "whole" / "record.jsonl"), read(tmp_path / "cut" / "record.jsonl")
    assert found.finished
    assert found.header == whole.header
    assert [{**row, "observed": 0} for row in found.rows] == [{**row, "observed": 0} for row in whole.rows]


def test_going_on_leaves_the_callers_chance_alone(eager: None, tmp_path: Path) -> None:
    def start() -> Iterator[Moment]:
        return ravine.train(task(train=endless), "adam", steps=20, every=2, out=tmp_path)

    cut(start(), 4)
    scramble()
    expected = drawn()
    scramble()
    cut(start(), 6)
    assert drawn() == expected


def test_rows_after_the_last_checkpoint_are_done_again(
    eager: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(out: Path) -> Iterator[Moment]:
        return ravine.train(task(), "adam", steps=20, every=2, out=out)

    expected = told(start(tmp_path / "whole"))
    moments = start(tmp_path / "cut")
    cut(moments, 3)
    monkeypatch.setattr(resume, "_EVERY_SECONDS", 1e9)
    cut(moments, 4)
    del moments
    assert len(read(tmp_path / "cut" / "record.jsonl").rows) == 7
    resumed = list(start(tmp_path / "cut"))
    assert [moment.replayed for moment in resumed] == [True] * 3 + [False] * 8
    assert told(iter(resumed)) == expected


def test_before_the_first_checkpoint_a_run_starts_again(tmp_path: Path) -> None:
    def start(out: Path) -> Iterator[Moment]:
        return ravine.train(task(), "adam", steps=20, every=2, out=out)

    cut(start(tmp_path / "cut"), 5)
    assert not (tmp_path / "cut" / "checkpoint.pt").exists()
    resumed = list(start(tmp_path / "cut"))
    assert not any(moment.replayed for moment in resumed)
    assert told(iter(resumed)) == told(start(tmp_path / "whole"))


def test_a_checkpoint_that_knows_more_rows_than_the_record_is_not_used(eager: None, tmp_path: Path) -> None:
    def start(out: Path) -> Iterator[Moment]:
        return ravine.train(task(), "adam", steps=20, every=2, out=out)

    cut(start(tmp_path), 6)
    record = tmp_path / "record.jsonl"
    record.write_bytes(record.read_bytes()[:-9])
    resumed = list(start(tmp_path))
    assert not any(moment.replayed for moment in resumed)
    assert len(read(record).rows) == 11


@pytest.mark.parametrize("optimizer", ["adam", "sgd(lr=1e30)"])
def test_killed_just_before_the_closing_row_a_run_is_closed(
    eager: None, tmp_path: Path, optimizer: str
) -> None:  # fmt: skip
    """Also where it diverged: it does not go on from weights that are not finite."""

    def start() -> Iterator[Moment]:
        return ravine.train(ravine.task("quadratic"), optimizer, steps=20, every=2, out=tmp_path)

    expected = told(start())
    record = tmp_path / "record.jsonl"
    status = read(record).status
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join(lines[:-1]))
    resumed = list(start())
    assert all(moment.replayed for moment in resumed)
    assert len(resumed) == len(expected[0])
    assert read(record).status == status == ("done" if optimizer == "adam" else "diverged")


def test_a_finished_run_is_told_again_and_not_run(tmp_path: Path) -> None:
    def start() -> Iterator[Moment]:
        return ravine.train(task(), "adam", steps=20, every=2, probes=[UpdateRatio()], out=tmp_path)

    expected = told(start())
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.iterdir()}
    assert set(before) == {"record.jsonl", "checkpoint.pt"}
    again = list(start())
    assert all(moment.replayed for moment in again)
    assert told(iter(again)) == expected
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.iterdir()} == before


def test_a_replay_may_be_left_in_the_middle(eager: None, tmp_path: Path) -> None:
    def start() -> Iterator[Moment]:
        return ravine.train(task(), "adam", steps=20, every=2, out=tmp_path)

    cut(start(), 6)
    cut(start(), 2)  # among the replayed ones: no file is left open, no row is lost
    assert len(read(tmp_path / "record.jsonl").rows) == 6
    assert [moment.replayed for moment in start()] == [True] * 6 + [False] * 5


SCRIPT = """
import sys, ravine
from ravine import resume
resume._EVERY_SECONDS, resume._EVERY_COSTS = -1.0, 0.0
import torch
torch.set_num_threads(1)
for moment in ravine.train(ravine.task("digits-mlp"), "adam(lr=0.003)", steps=40, every=4, out=sys.argv[1]):
    print(moment.step, flush=True)
"""


def test_a_run_killed_with_sigkill_ends_with_the_same_numbers(tmp_path: Path) -> None:
    def start(out: Path) -> Iterator[Moment]:
        return ravine.train(ravine.task("digits-mlp"), "adam(lr=0.003)", steps=40, every=4, out=out)

    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "cut")], stdout=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 16:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    resumed = list(start(tmp_path / "cut"))
    assert sum(moment.replayed for moment in resumed) >= 4
    assert not resumed[-1].replayed
    assert told(iter(resumed)) == told(start(tmp_path / "whole"))
    whole, found = read(tmp_path / "whole" / "record.jsonl"), read(tmp_path / "cut" / "record.jsonl")
    assert [{**row, "observed": 0} for row in found.rows] == [{**row, "observed": 0} for row in whole.rows]
    assert found.finished


# ---------------------------------------------------------------- folders


def test_the_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    list(ravine.train(plain(), "adam", steps=4, out=tmp_path))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for changes, message in (
        ({"optimizer": "sgd"}, "spec is 'adam', not 'sgd'"),
        ({"steps": 5}, "steps is 4, not 5"),
        ({"seed": 1}, "seed is 0, not 1"),
        ({"every": 2, "optimizer": "adam(lr=0.1)"}, "spec is 'adam', not 'adam(lr=0.1)', every is 1, not 2"),
        ({"probes": [GradNorm()]}, "probes is [], not ['grad_norm']"),
        ({"task": plain(name="other")}, "task is 'chancy', not 'other'"),
    ):
        settings = {"task": plain(), "optimizer": "adam", "steps": 4, "out": tmp_path} | changes
        assert said(lambda settings=settings: ravine.train(**settings)) == (
            f"{tmp_path} holds another run ({message}): choose another --out, or remove the folder"
        )
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_the_folder_of_a_race_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    message = said(lambda: ravine.train(plain(), "adam", steps=4, out=tmp_path))
    assert message == f"{tmp_path} holds a race: choose another --out"
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    list(ravine.train(plain(), "adam", steps=4, out=tmp_path))
    record = tmp_path / "record.jsonl"
    record.write_bytes(record.read_bytes().replace(b'"step": 2', b'"step": 3'))
    with pytest.raises(Damaged) as error:
        ravine.train(plain(), "adam", steps=4, out=tmp_path)
    assert str(error.value) == (
        f"{record}: the checksum of its closing row does not match what stands before; remove the folder to start again"
    )


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    list(ravine.train(plain(), "adam", steps=4, out=tmp_path))
    checkpoint = tmp_path / "checkpoint.pt"
    whole = checkpoint.read_bytes()
    for content in (b"", b"nonsense", whole[: len(whole) // 2]):
        checkpoint.write_bytes(content)
        with pytest.raises(Damaged) as error:
            list(ravine.train(plain(), "adam", steps=4, out=tmp_path))
        assert str(error.value).startswith(f"{checkpoint} cannot be used (")
        assert str(error.value).endswith("; remove the folder to start again")
        assert "\n" not in str(error.value)


def test_a_folder_of_another_model_is_refused_by_its_fingerprint(tmp_path: Path) -> None:
    list(ravine.train(plain(), "adam", steps=4, out=tmp_path))
    wider = plain(model=lambda: nn.Linear(4, 3))
    with pytest.raises(RavineError, match=r"holds another run \(fingerprint is '\w+', not '\w+'\): choose another"):
        ravine.train(wider, "adam", steps=4, out=tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "run"
    assert said(lambda: ravine.train(plain(), "adam", steps=4, out=out)) == (
        f"cannot write to {out}: Not a directory. Nothing written before is lost: make room or choose another --out, "
        "then run the same command again"
    )


FULL = """
import resource, sys, torch, ravine
from ravine import resume
resume._EVERY_SECONDS, resume._EVERY_COSTS = -1.0, 0.0
torch.set_num_threads(1)
for room in (2_000, 25_000):
    moments = ravine.train(ravine.task("quadratic"), "adam", steps=200, every=1, out=f"{sys.argv[1]}/{room}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        for moment in moments: pass
    except ravine.RavineError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits act as a full disk on Linux")
def test_a_full_disk_is_said_and_the_run_goes_on_where_there_is_room(tmp_path: Path) -> None:
    """There is room for a few rows, or for the checkpoint and some rows."""
    settings: dict[str, Any] = {"optimizer": "adam", "steps": 200, "every": 1}
    expected = told(ravine.train(ravine.task("quadratic"), **settings))
    lines = subprocess.check_output([sys.executable, "-c", FULL, str(tmp_path)], text=True).splitlines()
    for line, room in zip(lines, (2_000, 25_000), strict=True):
        out = tmp_path / str(room)
        assert line.startswith(f"cannot write to {out}: ")
        assert line.endswith("then run the same command again")
        resumed = list(ravine.train(ravine.task("quadratic"), **settings, out=out))
        assert resumed[3].replayed == (room > 2_000)
        assert not resumed[-1].replayed
        assert told(iter(resumed)) == expected


def test_checkpoints_cost_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one waits until the last is twenty times its own cost old."""
    clock = itertools.count(0.0, 1.0)  # each look at the clock takes a second; so does a checkpoint
    monkeypatch.setattr(resume.time, "monotonic", lambda: next(clock))
    saves: list[int] = []
    save = resume.Folder._save
    monkeypatch.setattr(resume.Folder, "_save", lambda self, run: (saves.append(run.step), save(self, run)))
    list(ravine.train(plain(), "sgd", steps=100, every=1, out=tmp_path))
    assert saves[0] == 2  # two seconds after the start
    gaps = [b - a for a, b in itertools.pairwise(saves[:-1])]
    assert gaps
    assert min(gaps) >= 20
    assert saves[-1] == 100


# ---------------------------------------------------------------- early stopping

METRICS = [5.0, 4.0, 3.0, 3.5, 2.9, 3.0, 3.1, 3.2, 1.0, 0.9, 0.8]


def scripted(values: list[float] = METRICS, better: str = "lower") -> Task:
    """A run whose metric at work k is what is written down; the weights tell the step."""

    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.zeros(1))

    return Task(
        name="scripted", model=Counter, loss=lambda model, batch: -model.x.sum(), train=(torch.zeros(4),), valid=None,
        metric=lambda model, data: values[round(model.x.item())], better=better, batch_size=1,
    )  # fmt: skip


def stopped(moments: Iterator[Moment], **settings: Any) -> tuple[list[int], int]:
    """The points that were reached, and the weights that remain."""
    seen = list(ravine.early_stopping(moments, **settings))
    return [moment.work for moment in seen], round(seen[-1].model.x.item())


@pytest.mark.parametrize(
    ("settings", "end", "weights"),
    [
        ({"patience": 1}, 3, 2),
        ({"patience": 2}, 6, 4),
        ({"patience": 3}, 7, 4),
        ({"patience": 4}, 10, 10),
        ({"patience": 99}, 10, 10),
        ({"patience": 2, "min_delta": 0.5}, 4, 2),
        ({"patience": 2, "restore": False}, 6, 6),
        ({"patience": 3, "min_delta": 1.0}, 5, 2),
        ({"patience": 1, "min_delta": 1.0}, 1, 0),
    ],
)
def test_it_stops_when_the_metric_no_longer_improves(settings: dict[str, Any], end: int, weights: int) -> None:
    def run() -> Iterator[Moment]:
        return ravine.train(scripted(), "sgd(lr=1)", steps=10, every=1)

    assert stopped(run(), **settings) == (list(range(end + 1)), weights)
    up = scripted([-value for value in METRICS], "higher")
    assert stopped(ravine.train(up, "sgd(lr=1)", steps=10, every=1), **settings) == (list(range(end + 1)), weights)


def test_a_run_that_diverges_gets_its_best_weights_back() -> None:
    values = [5.0, 4.0, 4.5, math.nan, 1.0]
    moments = ravine.train(scripted(values), "sgd(lr=1)", steps=4, every=1)
    assert stopped(moments, patience=9) == ([0, 1, 2, 3], 1)


def test_left_by_its_consumer_a_run_still_gets_its_best_weights_back() -> None:
    moments = ravine.early_stopping(ravine.train(scripted(), "sgd(lr=1)", steps=10, every=1), patience=5)
    for moment in moments:
        if moment.work == 3:
            break
    moments.close()  # type: ignore[attr-defined]
    assert moment.model.x.item() == 2.0


@pytest.mark.parametrize("cuts", [[3], [5, 6], [7]])
def test_the_best_weights_are_kept_across_a_cut(eager: None, tmp_path: Path, cuts: list[int]) -> None:
    def run() -> Iterator[Moment]:
        moments = ravine.train(scripted(), "sgd(lr=1)", steps=10, every=1, out=tmp_path / "run")
        return ravine.early_stopping(moments, patience=3, keep=tmp_path / "kept" / "best.pt")

    for after in cuts:
        moments = run()
        cut(moments, after)
        del moments
    seen = list(run())
    assert [moment.work for moment in seen] == list(range(8))
    assert [moment.replayed for moment in seen] == [True] * cuts[-1] + [False] * (8 - cuts[-1])
    assert seen[-1].model.x.item() == 4.0
    assert torch.load(tmp_path / "kept" / "best.pt", weights_only=True)["x"].item() == 4.0
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["best.pt"]


def test_without_a_place_to_keep_them_the_best_weights_are_lost_and_it_is_said(eager: None, tmp_path: Path) -> None:
    def run() -> Iterator[Moment]:
        return ravine.train(scripted(), "sgd(lr=1)", steps=10, every=1, out=tmp_path)

    cut(run(), 6)
    message = said(lambda: list(ravine.early_stopping(run(), patience=2)))
    assert message == "the best weights were lost when the run was cut off: give early_stopping keep=FILE"


def test_weights_that_cannot_be_kept_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    moments = ravine.train(scripted(), "sgd(lr=1)", steps=10, every=1)
    message = said(lambda: list(ravine.early_stopping(moments, 2, keep=tmp_path / "file" / "best.pt")))
    assert message.startswith(f"cannot keep the best weights in {tmp_path / 'file' / 'best.pt'}: ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 0}, "patience must be in [1, inf), got 0"),
        ({"patience": 2.5}, "patience must be a whole number, got 2.5"),
        ({"patience": 2, "min_delta": -0.1}, "min_delta must be in [0, inf), got -0.1"),
    ],
)
def test_what_is_wrong_with_early_stopping_is_said_at_once(settings: dict[str, Any], message: str) -> None:
    assert said(lambda: ravine.early_stopping(iter(()), **settings)) == message
