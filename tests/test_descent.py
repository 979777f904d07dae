"""What the claims on descent share: walks of the rules, and exponents with intervals."""

import pytest
import torch

from ravine.claims._descent import exponent, seen, spread, steps_until, walk
from ravine.rules import SGD, Nesterov
from ravine.schedules import inverse


def test_a_walk_is_that_of_the_formula() -> None:
    places = seen(walk(SGD(), 0.1, torch.tensor([1.0, 2.0]), torch.clone), [0, 3, 10])
    expected = torch.tensor([[1.0, 2.0]], dtype=torch.float64) * 0.9 ** torch.tensor([[0.0], [3.0], [10.0]]).double()
    torch.testing.assert_close(places, expected, rtol=1e-14, atol=0)


def test_a_walk_follows_the_schedule() -> None:
    (end,) = seen(walk(SGD(), 0.25, torch.ones(()), torch.clone, inverse(2) * inverse(2)), [999])
    assert end.item() == pytest.approx((1 + 1 / 1000) / 2, rel=1e-12)  # the product of 1 - 1/k² from k = 2 to 1000


def test_nesterov_is_seen_where_it_is_judged_and_not_where_it_looks_ahead() -> None:
    """Algorithm 8.3 of the book, written out."""
    theta, v, expected = 1.0, 0.0, [1.0]
    for _ in range(5):
        v = 0.9 * v - 0.1 * 2 * (theta + 0.9 * v)
        theta += v
        expected.append(theta)
    places = seen(walk(Nesterov(0.9, form="book"), 0.1, torch.ones(()), lambda x: 2 * x), range(6))
    assert places.tolist() == pytest.approx(expected, rel=1e-13)


def test_steps_until_counts_to_the_first_place_inside() -> None:
    assert steps_until(walk(SGD(), 0.5, torch.ones(()), torch.clone), 0.2) == 3  # 1, 1/2, 1/4, 1/8


def test_the_exponent_of_a_power_law_and_its_interval() -> None:
    steps = spread(10, 1000, 12)
    assert steps[0] == 10
    assert steps[-1] == 1000
    chance = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 400, generator=chance, dtype=torch.float64)
    k = torch.tensor(steps, dtype=torch.float64)[:, None]
    found = exponent(steps, k**-0.5 * (1 + noise))  # the same factor at every step of a replica
    assert found.value == pytest.approx(-0.5, abs=1e-12)
    wild = exponent(steps, k**-1.0 * torch.randn(len(steps), 400, generator=chance, dtype=torch.float64).square())
    assert wild.low < -1 < wild.high
    assert wild.n == 20
