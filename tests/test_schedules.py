"""Schedules: their factors by hand, their product, their horizon, and what they refuse."""

import math
from collections.abc import Callable

import pytest
import torch

import ravine
from ravine.core.errors import RavineError
from ravine.core.spec import parse_schedules
from ravine.rules import SGD
from ravine.schedules import Product, Schedule, constant, cosine, linear, make_schedule, product, warmup

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
    ids=str,
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
