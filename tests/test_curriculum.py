"""Curricula and continuation: what is drawn when, what the loss is when, and runs that resume to the bit."""

import dataclasses
import math

import pytest
import small_nets as nets
import torch
from torch import nn
from torch.nn import functional as F

import ravine
from ravine.core.batches import batches
from ravine.core.errors import RavineError
from ravine.core.seeds import generator
from ravine.strategies import blended, curriculum, smoothed

N = 100
DATA = (torch.arange(N, dtype=torch.float32)[:, None], torch.arange(N))
HARD = (torch.arange(N) * 37) % N  # a difficulty in another order than the data's


@pytest.fixture(autouse=True)
def checkpoints_at_every_row(monkeypatch):
    """So that what was cut off goes on in the middle of a run, and does not begin anew."""
    monkeypatch.setattr("ravine.resume._EVERY_SECONDS", -1.0)
    monkeypatch.setattr("ravine.resume._EVERY_COSTS", 0.0)


def drawn(draw, count, seed=0):
    source = batches(draw, 8, generator(seed, "test"))
    return [next(source)[1] for _ in range(count)]


@pytest.mark.parametrize(("pace", "share"), [
    ("linear", lambda t: 0.2 + 0.8 * t),
    ("root", lambda t: math.sqrt(t * (1 - 0.04) + 0.04)),
    ("steps", lambda t: 0.2 + 0.8 * math.floor(5 * t) / 4),
    (lambda t: 0.5 if t < 0.5 else 0.8, lambda t: 0.5 if t < 0.5 else 0.8),
])  # fmt: skip
def test_only_the_easiest_share_is_drawn(pace, share):
    found = drawn(curriculum(DATA, HARD, pace, steps=20, batch_size=8, start=0.2), 20)
    for t, batch in enumerate(found):
        easiest = set(HARD.argsort()[: math.ceil(share(t / 20) * N - 1e-9)].tolist())
        assert set(batch.tolist()) <= easiest
        assert len(set(batch.tolist())) == 8


def test_the_whole_of_the_share_is_drawn_from():
    """Over 200 seeds each of the 20 easiest turns up in a first batch: one is missed with probability 0.6^200."""
    seen = {
        int(i)
        for seed in range(200)
        for i in drawn(curriculum(DATA, HARD, steps=10, batch_size=8, start=0.2), 1, seed)[0]
    }
    assert seen == set(HARD.argsort()[:20].tolist())


def test_afterwards_epochs_go_over_everything():
    found = drawn(curriculum(DATA, HARD, steps=3, batch_size=10), 13)
    assert sorted(int(i) for batch in found[3:] for i in batch) == list(range(N))


def test_hardest_first_is_the_control():
    found = drawn(curriculum(DATA, HARD, steps=20, batch_size=8, reverse=True), 1)[0]
    assert HARD[found].min() >= 90


def test_difficulty_may_be_a_function_of_an_example():
    a = drawn(curriculum(DATA, lambda example: float(HARD[example[1]]), steps=9, batch_size=8), 9)
    b = drawn(curriculum(DATA, HARD, steps=9, batch_size=8), 9)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("data", "difficulty", "settings", "message"), [
    (DATA, HARD[:9], {}, "one number for each of 100 examples, got shape"),
    (DATA, HARD.float().log(), {}, "must be finite, got -inf for example 0"),
    (DATA, HARD, {"pace": "liner"}, "unknown pace 'liner': did you mean 'linear'"),
    (DATA, HARD, {"pace": lambda t: math.nan}, "pace must give a share of the data, from 0 to 1, .*; at 0.0 nan"),
    (DATA, HARD, {"pace": lambda t: 0.5 - t}, r"pace must give a share .* at any time; at 0.6 -0\.0?9"),
    (DATA, HARD, {"pace": lambda t: None}, "pace must give a share .* at any time; at 0.0 None"),
    (DATA, HARD, {"batch_size": 101}, r"batch_size must be in \[1, 100\]"),
    (DATA, HARD, {"start": 0.0}, "start must be in"),
    (lambda g: iter(()), HARD, {}, "data without an end cannot be sorted"),
])  # fmt: skip
def test_curricula_refuse(data, difficulty, settings, message):
    with pytest.raises(RavineError, match=message):
        curriculum(data, difficulty, **{"steps": 5, "batch_size": 8, **settings})


def weighted(task):
    return dataclasses.replace(
        task, train=curriculum(task.train, torch.arange(len(task.train[0])), steps=5, batch_size=task.batch_size)
    )


MADE = {
    "curriculum": weighted,
    "weights": lambda task: smoothed(task, 5, 0.1, samples=2),
    "inputs": lambda task: smoothed(task, 5, 0.1, of="inputs"),
    "blended": lambda task: blended(task, lambda model, batch: 0.5 * task.loss(model, batch), 5),
}


@pytest.mark.parametrize("kind", nets.KINDS)
@pytest.mark.parametrize("made", MADE)
def test_killed_and_resumed_it_ends_as_if_undisturbed(kind, made, tmp_path):
    task = MADE[made](nets.task(kind))
    if made == "inputs" and kind in ("lstm", "transformer"):
        with pytest.raises(RavineError, match="noise cannot be added: use of='weights'"):
            list(ravine.train(task, steps=2))
        return
    whole = nets.told(ravine.train(task, "adam", steps=8, every=2))
    for moment in ravine.train(task, "adam", steps=8, every=2, out=tmp_path / "run"):
        if moment.work == 4:
            break
    nets.same(nets.told(ravine.train(task, "adam", steps=8, every=2, out=tmp_path / "run")), whole)


# continuation


def test_smoothing_the_weights_is_the_mean_over_moved_weights():
    """J(theta) = E L(theta + sigma e): of a quadratic loss it is L + sigma² tr(H) / 2, to within 4 standard errors."""
    model = nn.Linear(3, 1, bias=False).double()
    x, y = torch.randn(16, 3).double(), torch.randn(16, 1).double()
    task = ravine.supervised(
        name="line",
        model=lambda: model,
        criterion=nn.MSELoss(),
        train=(x, y),
        valid=(x, y),
        metric="loss",
        batch_size=16,
    )
    sigma = 0.5
    found = smoothed(task, 10, sigma, samples=1)
    torch.manual_seed(0)
    with torch.no_grad():
        values = torch.stack([found.loss(model, ((x, y), 0)) for _ in range(4000)])
    hessian = 2 * x.T @ x / 16
    expected = task.loss(model, (x, y)) + sigma**2 * hessian.trace() / 2
    assert abs(values.mean() - expected) < 4 * values.std() / 4000**0.5


def test_smoothing_goes_away_with_time():
    task = nets.task("mlp")
    found = smoothed(task, 10, 0.5, fade=lambda t: (1 - t) ** 2)
    model = task.model()
    batch = task.train[0][:8], task.train[1][:8]
    true = task.loss(model, batch)

    def spread(time):
        torch.manual_seed(1)
        with torch.no_grad():
            return float(torch.stack([found.loss(model, (batch, time)) - true for _ in range(30)]).std())

    assert spread(0) > 2 * spread(5) > 0
    assert all(torch.equal(found.loss(model, (batch, late)), true) for late in (10, 11, 1000))


def test_the_smoothed_gradient_arrives_at_the_weights():
    task = nets.task("mlp")
    model = task.model()
    smoothed(task, 10, 1e-6).loss(model, ((task.train[0][:8], task.train[1][:8]), 0)).backward()
    moved = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    task.loss(model, (task.train[0][:8], task.train[1][:8])).backward()
    for a, p in zip(moved, model.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad, rtol=1e-3, atol=1e-5)


def test_blends_go_from_the_easy_loss_to_the_true_one():
    task = nets.task("mlp")

    def easy(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=0.5)

    found, model = blended(task, easy, 4), task.model()
    batch = task.train[0][:8], task.train[1][:8]
    a, b = easy(model, batch), task.loss(model, batch)
    for time, share in ((0, 1.0), (1, 0.75), (3, 0.25), (4, 0.0), (9, 0.0)):
        torch.testing.assert_close(found.loss(model, (batch, time)), share * a + (1 - share) * b)


def test_an_optimizer_that_counts_examples_still_does():
    *_, last = ravine.train(smoothed(nets.task("mlp"), 4), "adam", steps=4)
    assert last.examples == 4 * 16


def test_continuation_refuses():
    task = nets.task("mlp")
    for settings, message in (
        ({"sigma": 0.0}, "sigma must be in"),
        ({"of": "weight"}, "did you mean 'weights'"),
        ({"samples": 0}, "samples must"),
    ):
        with pytest.raises(RavineError, match=message):
            smoothed(task, 5, **settings)
    with pytest.raises(RavineError, match="easy must be a loss"):
        blended(task, 0.5, 5)
    with pytest.raises(RavineError, match=r"needs a ravine.Task"):
        smoothed("digits-mlp", 5)
