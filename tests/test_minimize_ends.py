"""How a minimization ends where there is no minimum to end at, and what it still gives then."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import ravine
from ravine.core.errors import RavineError

DEFAULTS = [
    "lbfgs", "bfgs", "cg", "steepest_descent", "newton", "newton_cg", "saddle_free", "saddle_free(subspace=2)",
    "coordinate", "coordinate(blocks='tensor')", "newton(search='trust_region')", "newton_cg(search='trust_region')",
    "newton(modify='eigenvalues')", "newton(modify='cholesky')", "lbfgs(search='hager_zhang')",
]  # fmt: skip
X = torch.tensor([-1.2, 1.0], dtype=torch.float64)
BOTTOMLESS = {"sum": lambda x: x.sum(), "square": lambda x: -(x**2).sum(), "exponential": lambda x: -x.exp().sum()}


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("f", BOTTOMLESS)
@pytest.mark.parametrize("spec", DEFAULTS)
def test_unbounded_below_is_told_soon(spec: str, f: str, dtype: torch.dtype) -> None:
    found = ravine.minimize(BOTTOMLESS[f], X.to(dtype), spec)
    assert found.reason.startswith("f is unbounded below, as it seems: it is -")
    assert not found.converged
    assert found.is_minimum is None
    assert found.evaluations <= 200


@pytest.mark.parametrize("spec", DEFAULTS)
@pytest.mark.parametrize(
    ("f", "x0", "tol"),
    [
        (lambda v: 1e10 * ((v - 1) ** 2).sum() - 1e10, torch.zeros(3), 1e4),
        (lambda v: (v**2).sum() - 5e9, torch.ones(3), 1e-4),
        (lambda v: 1e-20 * ((v - 1) ** 2).sum(), torch.zeros(3), 1e-21),
        (lambda v: 1e4 * (v - 1e4).square().sum() - 1e12, torch.zeros(2), 1e5),
    ],
)
def test_bounded_functions_of_any_scale_are_minimized_in_float32(spec: str, f: Any, x0: Tensor, tol: float) -> None:
    found = ravine.minimize(f, x0, spec, tol=tol)
    assert found.converged, found.reason


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spec", DEFAULTS)
def test_regions_without_any_curvature_are_crossed(spec: str, dtype: torch.dtype) -> None:
    """Huber's loss is linear outside [-1, 1], where the Hessian is zero."""
    found = ravine.minimize(lambda x: F.huber_loss(x, torch.zeros_like(x), reduction="sum"),
                            torch.tensor([5.0, -7.0], dtype=dtype), spec)  # fmt: skip
    assert found.converged, found.reason
    assert found.is_minimum is True
    assert found.evaluations < 30


@pytest.mark.parametrize("spec", ["newton", "saddle_free"])
def test_a_hessian_of_zeros_is_named_where_nothing_helps(spec: str) -> None:
    """The gradient points to a wall: the derivative of relu at 0 is 0."""
    found = ravine.minimize(lambda x: (9 * torch.relu(x) - x).sum(), torch.zeros(2).double(), spec)
    assert not found.converged
    assert "the Hessian is zero to rounding here" in found.reason


@pytest.mark.parametrize("spec", ["lbfgs", "bfgs", "cg", "newton", "newton_cg(search='trust_region')", "coordinate"])
def test_a_spent_budget_gives_the_lowest_point_that_was_seen(spec: str) -> None:
    seen: list[float] = []

    def f(x: Tensor) -> Tensor:
        value = rosenbrock(x)
        seen.append(float(value.detach()))
        return value

    for most in range(1, 40):
        seen.clear()
        found = ravine.minimize(f, 3 * X, spec, max_evaluations=most)
        assert found.evaluations == most
        assert found.value == min(seen)


def test_a_sweep_over_coordinates_that_is_cut_short_counts() -> None:
    found = ravine.minimize(lambda x: (x**2).sum(), torch.ones(200).double(), "coordinate", max_evaluations=100)
    assert found.value == pytest.approx(200 - 99)


def _noisy(kind: str) -> Any:
    own, numpy = torch.Generator().manual_seed(0), np.random.default_rng(0)
    batches = itertools.count(1)
    return {
        "own generator": lambda x: (x**2).sum() + 0.1 * torch.randn((), generator=own, dtype=torch.float64),
        "numpy": lambda x: (x**2).sum() + 0.1 * numpy.standard_normal(),
        "batches": lambda x: (x**2).sum() * next(batches),
        "global": lambda x: (x**2).sum() + 0.1 * torch.randn((), dtype=torch.float64),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("own generator", "randn draws random numbers"),
        ("numpy", "numbers drawn outside torch"),
        ("batches", "each call sees other data"),
        ("global", "randn draws random numbers"),
    ],
)
def test_a_function_that_changes_from_call_to_call_is_refused(kind: str, why: str) -> None:
    with pytest.raises(RavineError, match=why):
        ravine.minimize(_noisy(kind), X)


def test_the_call_that_looks_for_noise_is_not_counted() -> None:
    calls = 0

    def f(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return rosenbrock(x)

    found = ravine.minimize(f, X, max_evaluations=10)
    assert (found.evaluations, calls) == (10, 11)


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 5.0), (torch.float64, 12.0)])
@pytest.mark.parametrize("n", [2, 20, 100])
def test_a_positive_hessian_is_a_minimum_up_to_what_rounding_hides(dtype: torch.dtype, bits: float, n: int) -> None:
    """Eigenvalues from 1 to 10^-bits in a random basis: positive. From 1 to -1 eps: cannot be told."""
    Q = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64))[0]
    for values, told in (
        (torch.logspace(0, -bits + math.log10(n), n, dtype=torch.float64), True),
        (torch.cat([torch.ones(n - 1), -torch.full((1,), torch.finfo(dtype).eps)]).double(), None),
        (torch.cat([torch.ones(n - 1), -torch.full((1,), 10**-bits * n)]).double(), False),
    ):
        H = (Q @ torch.diag(values) @ Q.T).to(dtype)
        found = ravine.minimize(lambda x, H=H: 0.5 * x @ (H @ x), torch.zeros(n, dtype=dtype))
        assert found.converged
        assert found.is_minimum is told
