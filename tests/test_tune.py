"""Learning rates: what is decided from losses, what a test costs, what it leaves alone, and where it does not know."""

import copy
import dataclasses
import json
import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from commands import run
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ravine
from ravine import data
from ravine.core.dry_run import hash_tensors
from ravine.core.errors import RavineError
from ravine.core.task import Task
from ravine.tune import draw, lr_range
from ravine.tune.decide import Sweep, Try, alike, best, bound, difference, horizon, settled, smooth, still, torn

SMALL = {"budget": 120, "seeds": 1}
TASKS = {"digits-mlp": None, "digits-cnn": None, "fashion-mlp": "fashion_mnist", "moby-lm": "moby_dick"}


class Point(nn.Module):
    """A place in a bowl of five dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.randn(5))


CURVATURES = torch.tensor([1.0, 0.5, 0.2, 0.1, 0.05])


def bowl(noise: float = 0.0, scale: float = 1.0, loss: Any = None, **changes: Any) -> Task:
    """sum(c x^2) / 2 with curvatures c up to `scale`, and a random slope: above 2 / scale gradient descent diverges."""

    def draws(generator: torch.Generator):
        while True:
            yield noise * torch.randn(4, 5, generator=generator)

    def value(model: nn.Module, batch: Tensor) -> Tensor:
        return scale * (0.5 * (CURVATURES * model.x**2).sum() + (batch.mean(0) * model.x).sum())

    settings: dict[str, Any] = {
        "name": "bowl", "model": Point, "loss": loss or value, "train": draws, "valid": (), "batch_size": 4,
        "metric": lambda model, _: value(model, torch.zeros(4, 5)).item(), "better": "lower",
    }  # fmt: skip
    return Task(**settings | changes)


def classes(**changes: Any) -> Task:
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(3))
    layers = lambda: (nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))  # noqa: E731
    settings: dict[str, Any] = {
        "name": "classes", "model": lambda: nn.Sequential(*layers()),
        "criterion": nn.CrossEntropyLoss(), "train": (x, (x.sum(1) > 0).long()), "valid": (x, (x.sum(1) > 0).long()),
        "batch_size": 20,
    }  # fmt: skip
    return ravine.supervised(**settings | changes)


# ---------------------------------------------------------------- decisions


def test_the_smoothed_loss_is_the_weighted_mean_of_all_losses_so_far() -> None:
    losses = [3.0, -1.0, 2.5, 7.0, 0.25]
    for t, found in enumerate(smooth(losses, 0.6), 1):
        weights = [0.6 ** (t - i) for i in range(1, t + 1)]
        assert found == pytest.approx(sum(w * loss for w, loss in zip(weights, losses, strict=False)) / sum(weights))


def test_a_sweep_tears_at_the_lr_before_the_loss_that_shows_it() -> None:
    lrs = [10.0**k for k in range(8)]
    calm = [1.0, 1.1, 0.9, 1.05, 0.95, 0.8, 0.5, 0.4]
    assert torn(calm, lrs, 4) is None
    assert torn([*calm[:7], 9.0], lrs, 4) == lrs[6]
    assert torn([1.0, math.nan], lrs[:2], 4) == lrs[0]
    assert torn([*calm[:5], math.inf], lrs[:6], 4) == lrs[4]
    fell = [5.0, 5.0, 5.0, 5.0, 1.0, 1.0, 1.0, 9.0]
    assert torn(fell, lrs, 4) is None, "smoothed it is back near the level, and it had fallen by as much"


def test_the_bound_is_the_median_over_seeds_and_none_where_most_held() -> None:
    def sweep(diverged: float | None) -> Sweep:
        return Sweep(0, [1.0], [1.0], [1.0], 1.0, 0.1, diverged, 1)

    assert bound([sweep(3.0), sweep(1.0), sweep(None)]) == 3.0
    assert bound([sweep(3.0), sweep(None), sweep(None)]) is None


def test_runs_are_compared_step_by_step_at_their_ends() -> None:
    noise = np.random.default_rng(0).normal(size=20)
    a, b = list(2 + noise), list(1.9 + noise)
    found = difference(a, b)
    assert found.mean == pytest.approx(0.1)
    assert found.error == pytest.approx(0, abs=1e-12), "the batches' noise is in both"
    b = list(np.random.default_rng(1).normal(size=20))
    pairs = np.array(a[13:]) - np.array(b[13:])  # the last 35 % of 20
    assert difference(a, b) == pytest.approx((pairs.mean(), pairs.std(ddof=1) / math.sqrt(7)))
    assert settled([1.0] * 19 + [math.nan]) == math.inf
    assert still([1.0, math.inf])[0] != still([1.0, math.inf])[0]


def attempt(lr: float, loss: list[float], failed: bool = False) -> Try:
    return Try(0, lr, loss, failed, len(loss))


def test_the_lower_lr_is_taken_where_the_higher_is_not_clearly_better() -> None:
    rough = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]
    tries = [attempt(1.0, rough), attempt(0.3, [1.7] * 10), attempt(0.1, [1.8] * 10), attempt(9.0, [0.0] * 10, True)]
    assert best(tries).lr == 0.3, "1.0 is too rough to be called better; 0.1 is clearly worse than 0.3"
    assert best(tries[-1:]) is None
    assert [one.lr for one in alike(tries, tries[1])] == [1.0, 0.3]


def test_longer_runs_want_lower_lrs_by_the_published_power() -> None:
    assert horizon(100, 1000) == pytest.approx(10**-0.32)
    assert horizon(100, 1000, 0.5) == pytest.approx(10**-0.5)
    assert horizon(100, 50) == 1


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_in_a_bowl_the_bound_is_where_gradient_descent_diverges(noise: float) -> None:
    found = lr_range(bowl(noise), "sgd")
    assert found.suggestion is not None
    assert found.low <= found.suggestion <= found.high < found.diverges_at
    assert 2 <= found.diverges_at <= 2 * 10**1.25, (
        "nothing below 2 / curvature diverges; a sweep sees it some steps late"
    )
    assert 0.05 <= found.suggestion < 2
    assert found.spec == f"sgd(lr={found.suggestion})"
    assert found.lrs == (found.suggestion,)


def test_a_loss_in_other_units_is_answered_with_an_lr_in_other_units() -> None:
    plain = lr_range(bowl(0.3), "sgd", span=(1e-3, 16.0))
    scaled = lr_range(bowl(0.3, scale=0.25), "sgd", span=(4e-3, 64.0))
    assert scaled.suggestion == pytest.approx(4 * plain.suggestion, rel=0.05), "rounded to two digits"
    assert scaled.diverges_at == pytest.approx(4 * plain.diverges_at)


def test_the_same_seed_gives_the_same_answer_and_a_longer_run_a_lower_lr() -> None:
    first, again = lr_range(classes(), "adam"), lr_range(classes(), "adam")
    assert first == again
    assert lr_range(classes(), "adam", steps=8000).suggestion == pytest.approx(first.suggestion * 8**-0.32, rel=0.06)
    assert lr_range(classes(), "adam", seed=1).curve != first.curve


@pytest.mark.parametrize(
    "spec",
    [
        "sgd", "adam", "prodigy", "adadelta", "rprop", "sam(sgd)", "accumulate(k=2) + adam", "adahessian",
        "schedule_free(sgd)", "lars", "momentum(form='book')", "sophia",
    ],
)  # fmt: skip
def test_all_that_is_computed_is_counted_and_within_the_budget(spec: str) -> None:
    calls = 0
    task = classes()

    def counted(model: nn.Module, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return task.loss(model, batch)

    counting = ravine.Task(**{f: getattr(task, f) for f in task.__dataclass_fields__} | {"loss": counted})
    found = lr_range(counting, spec, budget=200)
    assert found.cost <= 200
    assert len(found.reason) > 40
    products = spec in ("adahessian", "sophia")  # a product costs an evaluation, from the graph of the same loss
    assert calls == found.cost if not products else calls <= found.cost
    told = [*found.curve["sweeps"], *found.curve["validation"]]
    assert found.cost == 1 + sum(run["evaluations"] for run in told)
    if found.suggestion is not None:
        assert [part.lr for part in ravine.assembly.parts(found.spec)] == list(found.lrs)


def test_groups_keep_the_ratio_of_their_lrs_and_schedules_stay_in_the_spec() -> None:
    model = lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))  # noqa: E731
    found = lr_range(classes(model=model), "hidden: muon(lr=0.02); rest: adam(lr=0.004) @ cosine()")
    assert found.lrs[0] == found.suggestion
    assert found.lrs[0] / found.lrs[1] == pytest.approx(5, rel=0.01)
    assert found.spec == f"hidden: muon(lr={found.lrs[0]}); rest: adam(lr={found.lrs[1]}) @ cosine"
    assert ravine.parse(found.spec)


def test_lr_is_written_where_it_belongs_and_a_best_at_the_upper_end_is_no_answer() -> None:
    assert lr_range(classes(), "clip_norm + adam").spec.startswith("clip_norm + adam(lr=")
    assert lr_range(classes(), "lookahead(adam(lr=0.5))").spec.endswith(" + lookahead")
    found = lr_range(bowl(), "sgd", span=(1e-4, 1e-1))
    assert found.suggestion is None
    assert "the best lies above. Give a higher span" in found.reason


def test_the_book_takes_one_grid_step_above_the_best_of_a_hundred_iterations() -> None:
    found = lr_range(bowl(0.3), "sgd", method="book", seeds=1)
    tries = {run["lr"]: run["end"] for run in found.curve["validation"] if not run["failed"]}
    lowest = min(tries, key=tries.get)
    assert found.low == lowest
    assert found.suggestion == pytest.approx(
        lowest * 10 ** (1 / 3) if lowest * 2.2 < found.diverges_at else lowest, rel=0.05
    )
    assert max(run["evaluations"] for run in found.curve["validation"]) == 100
    assert found.cost == 1 + 8 + sum(run["evaluations"] for run in found.curve["validation"])


# ---------------------------------------------------------------- not knowing


def nothing(model: nn.Module, batch: Tensor) -> Tensor:
    return 0 * model.x.sum() + 3.0


@pytest.mark.parametrize("method", ["range", "book"])
@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda model, batch: (model.x.sum() - torch.inf).log(), ("no number", "smallest|before the first step")),
        (nothing, ("flat|ends where it began", "span")),
        (lambda model, batch: batch.mean() + 0 * model.x.sum(), ("noise|ends where it began", "Give")),
    ],
    ids=["nan", "flat", "noise"],
)
def test_where_nothing_can_be_told_the_reason_says_what_to_do(method: str, loss: Any, words: tuple[str, str]) -> None:
    import re

    found = lr_range(bowl(1.0, loss=loss), "sgd", method=method, seeds=2)
    assert found.suggestion is found.low is found.high is None
    assert found.lrs == ()
    assert found.spec == "sgd"
    for word in words:
        assert re.search(word, found.reason), found.reason
    json.dumps(found.content(), allow_nan=False)


def test_below_a_span_that_lies_too_high_it_looks_by_itself() -> None:
    found = lr_range(bowl(scale=1e6), "sgd", span=(1.0, 1e4), seeds=2)
    assert found.suggestion is not None
    assert found.suggestion < 2e-6 < found.diverges_at


def test_a_loss_that_only_rises_is_said() -> None:
    steps = iter(range(10**6))
    found = lr_range(bowl(loss=lambda model, batch: next(steps) + 0 * model.x.sum()), "sgd", seeds=2)
    assert found.suggestion is None
    assert "all diverged or ended above where they began. Give a lower span, such as span=(" in found.reason


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "digits-mlp"}, "lr_range needs a ravine.Task such as ravine.task"),
        ({"spec": "adamm"}, "did you mean 'adam'"),
        ({"spec": 3}, "spec must be a spec such as 'adam'"),
        ({"spec": "sgd(lr=0)"}, "a group whose lr is 0"),
        ({"method": "rnge"}, "unknown method of finding a learning rate 'rnge': did you mean 'range'"),
        ({"seeds": 0}, "seeds must be in"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"budget": 50}, "budget=50 is too small for 3 seeds: sweeps and runs need 120 or more"),
        ({"seeds": 10, "budget": 150}, "budget=150 is too small for 10 seeds"),
        ({"span": (1.0, 2.0)}, "a factor of ten apart"),
        ({"span": 3}, "span must be two lrs"),
        ({"model": "mlp"}, "model= is a live nn.Module"),
        ({"device": "gpu"}, "device 'gpu' cannot be used here"),
        ({"spec": torch.optim.SGD(Point().parameters(), lr=0.1)}, "a live optimizer needs the model that it moves"),
        (
            {"spec": torch.optim.SGD(Point().parameters(), lr=0.1), "model": Point()},
            "parameters that are not the model's",
        ),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else None,
)
def test_what_cannot_be_tested_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RavineError, match=message):
        lr_range(**{"task": bowl(), "spec": "sgd"} | arguments)


# ---------------------------------------------------------------- what is left alone


def world() -> tuple[Any, ...]:
    """The global random states."""
    legacy = np.random.get_state()  # noqa: NPY002
    return hash_tensors([torch.get_rng_state()]), str(legacy), str(random.getstate())


def held(task: Task, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """Hashes of the task's data, the model with buffers and gradients, the optimizer with its state and settings."""
    content = optimizer.state_dict()
    settings = str([{k: v for k, v in group.items() if k != "params"} for group in content["param_groups"]])
    state = content["state"]
    data = [part for part in (task.train, task.valid) if not callable(part)]
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    modes = str([module.training for module in model.modules()])
    parts = (data, list(model.state_dict().values()), gradients, state)
    return (*map(hash_tensors, parts), settings, modes)


@pytest.mark.parametrize("spec", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("name", TASKS)
def test_task_model_optimizer_and_chance_are_as_before(name: str, spec: str) -> None:
    if TASKS[name] and not data.available(TASKS[name]):
        pytest.skip(f"ravine data fetch {TASKS[name]}")
    task = whole = ravine.task(name)
    if name == "moby-lm":  # four windows of text instead of 32, which take as many seconds as this file may
        task = dataclasses.replace(task, loss=lambda model, batch: whole.loss(model, [part[:4] for part in batch]))
    model = task.model()
    optimizer = ravine.assemble(spec, model, 100)
    batch = next(ravine.core.batches.batches(task.train, task.batch_size, torch.Generator()))
    task.loss(model, batch).backward()
    optimizer.step()
    before = held(task, model, optimizer), world()
    live = lr_range(task, optimizer, model=model, **SMALL)
    assert (held(task, model, optimizer), world()) == before
    assert live.cost <= 120
    lr_range(task, spec, **SMALL)
    assert (held(task, model, optimizer), world()) == before


@pytest.mark.parametrize("ours", [True, False])
def test_live_buffers_optimizer_and_loader_are_as_before(ours: bool) -> None:
    task = classes()
    torch.manual_seed(1)
    model = task.model().eval()
    theirs = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = ravine.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) if ours else theirs
    loader = DataLoader(TensorDataset(*task.train), 20, shuffle=True, generator=torch.Generator().manual_seed(5))
    for batch in loader:
        optimizer.zero_grad()
        task.loss(model.train(), batch).backward()
        optimizer.step()
    before = held(task, model, optimizer), world(), hash_tensors([loader.generator.get_state()])
    expected = [x for x, _ in copy.deepcopy(loader)]
    found = lr_range(task, optimizer, model=model, **SMALL)
    assert (held(task, model, optimizer), world(), hash_tensors([loader.generator.get_state()])) == before
    assert all(torch.equal(a, b) for a, (b, _) in zip(expected, loader, strict=True))
    assert found.cost <= 120
    assert found.spec.startswith("momentum") == ours, "of torch's optimizer no spec can be written"


def test_a_live_model_is_where_the_test_starts() -> None:
    task, model = classes(), classes().model()
    for _ in range(60):  # trained: its loss begins lower than that of fresh models
        for p, g in zip(
            model.parameters(), torch.autograd.grad(task.loss(model, task.train), list(model.parameters())), strict=True
        ):
            p.data -= 0.5 * g
    fresh, live = lr_range(task, "sgd", **SMALL), lr_range(task, "sgd", model=model, **SMALL)
    assert live.curve["sweeps"][0]["level"] < 0.5 * fresh.curve["sweeps"][0]["level"]


# ---------------------------------------------------------------- shown


@pytest.mark.parametrize(("name", "method"), [("picture.png", "range"), ("deep/picture.svg", "book")])
@pytest.mark.parametrize(
    "loss", [None, nothing, lambda model, batch: model.x.sum() * torch.nan], ids=["found", "flat", "nan"]
)
def test_a_picture_is_drawn_of_every_answer(name: str, method: str, loss: Any, tmp_path) -> None:
    found = lr_range(bowl(0.3, loss=loss), "sgd", method=method, seeds=1)
    assert draw(found, tmp_path / name).stat().st_size > 5000
    with pytest.raises(RavineError, match=r"must end in .png or .svg, got '.*picture.gif'"):
        draw(found, tmp_path / "picture.gif")


def test_the_command_prints_the_answer_or_json_alone(capsys, monkeypatch, tmp_path) -> None:
    small = ["lr", "quadratic", "--optimizer", "sgd", "--seeds", "1", "--budget", "150"]
    status, out, err = run(capsys, monkeypatch, *small, "--json", "--out", str(tmp_path / "lr.svg"))
    found = json.loads(out)
    assert status == 0
    assert {"suggestion", "low", "high", "diverges_at", "reason", "curve", "spec", "cost", "method"} <= set(found)
    assert found["cost"] <= 150
    assert "lr.svg" in err
    assert (tmp_path / "lr.svg").read_text().startswith("<?xml")
    status, out, _ = run(capsys, monkeypatch, *small)
    assert status == 0
    assert "suggestion" in out
    assert "gradient evaluations" in out


def test_the_command_refuses_before_it_works(capsys, monkeypatch) -> None:
    status, _, err = run(capsys, monkeypatch, "lr", "quadratic", "--out", "picture.gif")
    assert status == 2
    assert "--out must end in .png or .svg" in err
    status, _, err = run(capsys, monkeypatch, "lr", "quadratik")
    assert status == 2
    assert "did you mean 'quadratic'" in err
    status, _, err = run(capsys, monkeypatch, "lr", "quadratic", "--method", "bok")
    assert status == 2
