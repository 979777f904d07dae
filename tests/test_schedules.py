"""Schedules: their factors by hand, their product, their horizon, and what they refuse."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

import ravine
from ravine.core.errors import RavineError
from ravine.core.spec import parse_schedules
from ravine.rules import SGD
from ravine.schedules import (
    Product,
    Schedule,
    constant,
    cosine,
    exponential,
    inverse,
    inverse_root,
    linear,
    make_schedule,
    one_cycle,
    polynomial,
    product,
    step,
    warmup,
    wsd,
)

HALF = math.sqrt(0.5)


def factors(schedule: Schedule, count: int) -> list[float]:
    return [schedule(k) for k in range(count)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (constant(), [1, 1, 1]),
        (constant(0.3), [0.3, 0.3, 0.3]),
        (linear(4, final=0.2), [1, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2]),  # book eq. 8.14: (1 - k/tau) e_0 + k/tau e_tau
        (linear(2), [1, 0.505, 0.01, 0.01]),
        (linear(2, final=3), [1, 2, 3, 3]),
        (warmup(4), [0.25, 0.5, 0.75, 1, 1]),
        (warmup(1), [1, 1]),
        (cosine(4), [1, (1 + HALF) / 2, 0.5, (1 - HALF) / 2, 0, 0, 0]),
        (cosine(2, final=0.5), [1, 0.75, 0.5, 0.5]),
        (warmup(2) * cosine(4), [0.5, (1 + HALF) / 2, 0.5, (1 - HALF) / 2, 0, 0]),
        (constant(2) * linear(2, final=0) * constant(0.5), [1, 0.5, 0, 0]),
    ],
    ids=lambda value: str(value) if isinstance(value, Schedule) else "torch",
)
def test_factors(schedule: Schedule, expected: list[float]) -> None:
    assert factors(schedule, len(expected)) == pytest.approx(expected, rel=1e-15, abs=1e-16)


@pytest.mark.parametrize("make", Schedule.registry.values(), ids=lambda make: make.name)
def test_every_schedule_is_a_function_of_the_step_with_a_text_and_a_horizon(make: type[Schedule]) -> None:
    schedule = make()
    bound = schedule.bound(10)
    values = factors(bound, 25)
    assert all(math.isfinite(value) and value >= 0 for value in values)
    assert factors(bound, 25) == values  # nothing is remembered between calls
    assert make_schedule(parse_schedules(str(bound))) == bound
    assert make_schedule(parse_schedules(str(schedule))) == schedule
    assert bound.bound(99) == bound  # what is known stays


def test_an_open_horizon_is_filled_in_and_a_known_one_stays() -> None:
    assert cosine().bound(7) == cosine(7)
    assert cosine(5, final=0.1).bound(7) == cosine(5, final=0.1)
    assert warmup(3).bound(7) == warmup(3)
    assert (warmup(3) * linear(final=0.5)).bound(7) == warmup(3) * linear(7, final=0.5)


def test_schedules_multiply_in_any_grouping() -> None:
    a, b, c = warmup(3), cosine(9), constant(0.5)
    assert (a * b) * c == a * (b * c) == product(a, b, c) == Product((a, b, c))
    assert str(a * b * c) == "warmup(steps=3) * cosine(steps=9) * constant(factor=0.5)"
    assert product(a) is a
    assert make_schedule(()) == constant()
    with pytest.raises(TypeError):
        a * 0.5  # type: ignore[operator]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: warmup(0), "warmup: steps must be in [1, inf), got 0"),
        (lambda: warmup(2.5), "warmup: steps must be a whole number, got 2.5"),
        (lambda: warmup(None), "warmup: steps must be a whole number, got None"),
        (lambda: cosine(True), "cosine: steps must be a whole number or none, got True"),
        (lambda: cosine(9, final=-0.1), "cosine: final must be in [0, inf), got -0.1"),
        (lambda: linear(9, final="low"), "linear: final must be a number, got 'low'"),
        (lambda: constant(math.nan), "constant: factor must be in [0, inf), got nan"),
        (lambda: Product((cosine(3), 0.1)), "schedules multiply with schedules, got 0.1"),
        (lambda: make_schedule(parse_schedules("cosin")), "unknown schedule 'cosin': did you mean 'cosine'? Allowed: "),
        (
            lambda: make_schedule(parse_schedules("warmup(step=3)")),
            "unknown argument of schedule 'warmup' 'step': did you mean 'steps'? Allowed: steps.",
        ),
        (
            lambda: make_schedule(parse_schedules("cosine(warmup)")),
            "schedule 'cosine' wraps nothing, found 'warmup' inside its parentheses; write name=value",
        ),
        (
            lambda: cosine()(0),
            "cosine does not know how long the run is: write cosine(steps=1000); ravine.train and ravine.race fill it",
        ),
        (lambda: (warmup() * linear())(3), "linear does not know how long the run is: write linear(steps=1000)"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_said(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RavineError) as error:
        make()
    assert str(error.value).startswith(message)


def test_the_optimizer_takes_the_factor_of_the_steps_that_are_done() -> None:
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    schedule = warmup(3) * linear(6, final=0.0)
    optimizer = ravine.Optimizer([p], SGD(), lr=0.7, schedule=schedule)
    moved = []
    for _ in range(8):
        before = p.item()
        p.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
        moved.append((before - p.item()) / 0.7)
    assert moved == pytest.approx([1 / 3, 2 / 3 * 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0], abs=1e-14)


def test_an_optimizer_with_an_open_horizon_says_what_to_write() -> None:
    with pytest.raises(RavineError, match=r"^cosine does not know how long the run is: write cosine\(steps=1000\); "):
        ravine.Optimizer([torch.nn.Parameter(torch.zeros(1))], SGD(), schedule=warmup(5) * cosine())


@pytest.mark.parametrize("schedule", [0.5, "cosine(steps=5)", lambda k: 0.5, cosine])
def test_a_schedule_is_a_schedule(schedule: object) -> None:
    with pytest.raises(
        RavineError, match=r"^schedule must be a schedule such as ravine\.schedules\.cosine\(1000\), got "
    ):
        ravine.Optimizer([torch.nn.Parameter(torch.zeros(1))], SGD(), schedule=schedule)  # type: ignore[arg-type]


# ---------------------------------------------------------------- values, beside torch's schedulers and the papers


def torchs(make: Callable[[torch.optim.Optimizer], Any], steps: int) -> list[float]:
    """The factors of a scheduler of torch when 0, 1, ... steps are done."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (step(every=7, gamma=0.3), lambda o: lr_scheduler.StepLR(o, 7, 0.3)),
        (exponential(gamma=0.93), lambda o: lr_scheduler.ExponentialLR(o, 0.93)),
        (polynomial(steps=30, power=1.7), lambda o: lr_scheduler.PolynomialLR(o, 30, 1.7)),
        (linear(steps=25, final=0.2), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.2, 25)),
        (warmup(steps=10), lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 9)),
        (cosine(steps=40, final=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, 40, 0.1)),
        (cosine(steps=40, restarts=3), lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 10)),
        (cosine(steps=70, restarts=2, stretch=2.0), lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 10, 2)),
    ],
    ids=lambda value: str(value) if isinstance(value, Schedule) else "torch",
)
def test_a_schedule_has_the_values_of_torchs_scheduler(ours: Schedule, theirs: Callable[..., Any]) -> None:
    assert [ours(k) for k in range(40)] == pytest.approx(torchs(theirs, 40), rel=1e-12, abs=1e-12)


def test_one_cycle_has_the_shape_of_torchs() -> None:
    """torch counts its phases to the last step and not to the end of it: a difference of a step at most."""
    theirs = torchs(lambda o: lr_scheduler.OneCycleLR(o, 1.0, 1000), 1000)
    ours = [one_cycle(steps=1000)(k) for k in range(1001)]
    assert ours[:1000] == pytest.approx(theirs, abs=0.006)
    assert (ours[0], ours[300], ours[1000]) == pytest.approx((1 / 25, 1.0, 1 / 25 / 1e4), rel=1e-12)


def test_warm_up_stable_decay_rises_stays_and_falls() -> None:
    schedule = wsd(steps=100, warmup=10, decay=0.2, final=0.1)
    assert [schedule(k) for k in (0, 4, 9, 10, 50, 80)] == pytest.approx([0.1, 0.5, 1, 1, 1, 1])
    assert [schedule(k) for k in (90, 95, 100, 150)] == pytest.approx([0.55, 0.325, 0.1, 0.1])


def test_inverse_root_with_warm_up_is_the_transformers() -> None:
    """Vaswani et al. 2017, eq. 3, scaled so that its peak is 1: min(s^-0.5, s w^-1.5) sqrt(w) at s = k + 1."""
    schedule = warmup(steps=50) * inverse_root(steps=50)
    for k in range(400):
        s = k + 1
        wanted = min(s**-0.5, s * 50**-1.5) * 50**0.5
        assert schedule(k) == pytest.approx(wanted, rel=1e-12)


def test_one_over_k_has_an_infinite_sum_of_which_the_squares_have_a_finite_one() -> None:
    schedule = inverse(steps=10)
    assert [schedule(k) for k in (0, 10, 90)] == pytest.approx([1, 0.5, 0.1])
    sums = [math.fsum(schedule(k) for k in range(n)) for n in (10**3, 10**4, 10**5)]
    squares = [math.fsum(schedule(k) ** 2 for k in range(n)) for n in (10**3, 10**4, 10**5)]
    assert sums[2] - sums[1] > 0.99 * (sums[1] - sums[0]) > 20  # each decade adds 10 log 10
    assert squares[2] - squares[1] < 0.2 * (squares[1] - squares[0])


def test_the_books_linear_decay() -> None:
    """Eq. 8.14: eps_k = (1 - a) eps_0 + a eps_tau with a = k / tau, and constant after tau."""
    schedule = linear(steps=8, final=0.01)
    assert [schedule(k) for k in (0, 2, 8, 100)] == pytest.approx([1, 0.75 + 0.25 * 0.01, 0.01, 0.01])
