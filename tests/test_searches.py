"""Searches by themselves: what they promise of the step they return, and what they say where there is none."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.solvers import Search
from ravine.solvers.base import Direction, Found, Line
from ravine.solvers.function import FunctionProblem
from ravine.solvers.newton_cg import KEPT, Path
from ravine.solvers.quadratic_model import SpectralModel

LINE = [name for name, one in Search.family().items() if not one.region]


def run(name: str, phi: Callable[[Tensor], Tensor], first: float = 1.0, **settings: float) -> tuple[Found, Line]:
    """A search from 0 along +1 of a function of one number."""
    x = torch.zeros(1, dtype=torch.float64)
    problem = FunctionProblem(lambda x: phi(x[0]), x, False)
    line = Line(problem, problem.evaluate(x), torch.ones(1, dtype=torch.float64))
    return Search.registry[name](**settings).along(line, first, {}), line


# phi and a minimizer; the last two are the functions of More & Thuente 1994, eq. 5.1 and 5.2
CURVES: dict[str, Callable[[Tensor], Tensor]] = {
    "quadratic": lambda a: (a - 3) ** 2,
    "far": lambda a: (a / 1000 - 1) ** 2,
    "near": lambda a: (1000 * a - 1) ** 2,
    "quartic": lambda a: (a - 0.1) ** 4 - a,
    "more_thuente_1": lambda a: -a / (a**2 + 2),
    "more_thuente_2": lambda a: (a + 0.004) ** 5 - 2 * (a + 0.004) ** 4,
}


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("first", [1e-3, 1.0, 10.0])
def test_strong_wolfe_keeps_both_conditions(curve: str, first: float) -> None:
    for c2 in (0.1, 0.9):
        found, line = run("strong_wolfe", CURVES[curve], first, c1=1e-4, c2=c2)
        assert not found.reason
        slope = float(found.gradient[0])
        assert found.value <= line.start.value + 1e-4 * found.alpha * line.start.slope
        assert abs(slope) <= c2 * abs(line.start.slope)


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("first", [1e-3, 1.0, 10.0])
def test_hager_zhang_keeps_the_wolfe_conditions_or_the_approximate_ones(curve: str, first: float) -> None:
    delta, sigma, epsilon = 0.1, 0.4, 1e-6
    found, line = run("hager_zhang", CURVES[curve], first, delta=delta, sigma=sigma)
    assert not found.reason
    start, slope = line.start, float(found.gradient[0])
    assert slope >= sigma * start.slope
    wolfe = found.value - start.value <= delta * found.alpha * start.slope
    near = found.value <= start.value + epsilon * abs(start.value) and slope <= (2 * delta - 1) * start.slope
    assert wolfe or near


def test_armijo_takes_the_first_of_its_row_that_is_low_enough() -> None:
    phi = CURVES["near"]
    found, line = run("armijo", phi, 1.0)
    tried = [0.5**k for k in range(20)]
    low = [a for a in tried if (1000 * a - 1) ** 2 <= 1 + 1e-4 * a * -2000.0]
    assert found.alpha == low[0]
    assert line.problem.evaluations == 2 + tried.index(low[0])


def test_exact_finds_the_minimum_of_a_quadratic_in_two_trials() -> None:
    found, line = run("exact", CURVES["quadratic"])
    assert found.alpha == pytest.approx(3.0, abs=1e-12)
    assert line.problem.evaluations == 3


@pytest.mark.parametrize("name", LINE)
def test_what_is_not_finite_counts_as_too_high(name: str) -> None:
    """The logarithm's argument is negative beyond 0.5: torch.optim.LBFGS steps into the NaN there."""
    found, _ = run(name, lambda a: -torch.log(1 - 2 * a) - 4 * a, 10.0)
    assert math.isfinite(found.value)
    assert 0 < found.alpha < 0.5
    assert not found.reason or name == "exact"


@pytest.mark.parametrize("name", [name for name in LINE if name != "fixed"])
def test_a_search_uphill_says_so_and_stays(name: str) -> None:
    found, _ = run(name, lambda a: a**2 + a)
    assert found.alpha == 0
    assert "downhill" in found.reason


@pytest.mark.parametrize("name", ["strong_wolfe", "hager_zhang", "exact"])
def test_a_line_without_end_is_told(name: str) -> None:
    found, line = run(name, lambda a: -a)
    assert "the loss still falls at a step of" in found.reason
    assert "it may be unbounded below" in found.reason
    assert found.falling
    assert found.value == line.best.value < 0


@pytest.mark.parametrize("name", ["strong_wolfe", "hager_zhang"])
def test_a_search_of_few_trials_does_not_take_a_far_minimum_for_none(name: str) -> None:
    found, _ = run(name, lambda a: (a / 1e6 - 1) ** 2, most=3)
    assert "the loss still falls" in found.reason
    assert not found.falling


def trust(f: Callable[[Tensor], Tensor], x: Tensor, memory: dict[str, float]) -> Found:
    """A step inside a trust region with the whole Hessian."""
    problem = FunctionProblem(f, x, True)
    newton = Direction.registry["newton"](search="trust_region")
    return newton.searcher.inside(newton.model(point := problem.evaluate(x), {}, problem), problem, point, memory)


def test_a_trust_region_that_finds_no_step_keeps_its_radius() -> None:
    """Where the gradient points to a wall: the derivative of relu at 0 is 0."""
    memory = {"radius": 0.5}
    found = trust(lambda x: (9 * torch.relu(x) - x).sum(), torch.zeros(1, dtype=torch.float64), memory)
    assert "no step lowers the loss as the model foretells" in found.reason
    assert found.alpha == 0
    assert memory == {"radius": 0.5}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("radius", [1e-30, 1.0, 1e15])
def test_the_exact_trust_region_goes_to_the_edge_where_there_is_no_curvature(dtype: torch.dtype, radius: float) -> None:
    g = torch.tensor([3.0, 0.0, 4.0], dtype=dtype)
    p, fall = SpectralModel(torch.zeros(3, dtype=dtype), g, torch.eye(3, dtype=dtype)).within(radius)
    assert torch.allclose(p.double() / radius, -g.double() / 5, atol=2e-3)
    assert fall == pytest.approx(5 * radius, rel=2e-3)


def test_the_path_of_conjugate_gradients_is_cut_where_its_iterates_are_and_goes_on_where_curvature_is_none() -> None:
    """Against the whole path, kept: thinned out it is of the same length and hardly higher on the model."""
    n = 120
    H = torch.diag(torch.logspace(0, 4, n, dtype=torch.float64))
    g = torch.ones(n, dtype=torch.float64)
    operator = Operator(n, lambda v: H @ v, dtype=torch.float64, device=g.device)
    path = Path(operator, g, 1e-7, 20 * n)
    end = path.within(1e9)[0]
    assert len(path.iterates) <= KEPT
    assert float((H @ end + g).norm()) <= 1e-6
    x, r = torch.zeros_like(g), -g
    p, whole = r, [torch.zeros_like(g)]
    for _ in range(n):
        alpha = (r @ r) / (p @ H @ p)
        x, left = x + alpha * p, r - alpha * (H @ p)
        p, r = left + (left @ left) / (r @ r) * p, left
        whole.append(x)
    for radius in (1e-4, 1e-2, 0.3, 0.9):
        cut, fall = path.within(radius)
        i = next(i for i, one in enumerate(whole) if float(one.norm()) >= radius)
        a, d = whole[i - 1], whole[i] - whole[i - 1]
        b, c = float(a @ d) / float(d @ d), (float(a @ a) - radius**2) / float(d @ d)
        best = a + (-b + (b * b - c) ** 0.5) * d
        assert float(cut.norm()) == pytest.approx(radius, rel=1e-9)
        assert fall >= 0.9 * float(-g @ best - 0.5 * best @ H @ best)
    H = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    flat = Path(Operator(2, lambda v: H @ v, dtype=torch.float64, device=g.device), H[1] * 0 + 1, 1e-10, 2)
    assert float(flat.within(50.0)[0].norm()) == pytest.approx(50.0)


def test_a_search_that_fails_leaves_the_best_point() -> None:
    found, line = run("strong_wolfe", lambda a: 1e-3 * torch.sin(40 * a) - a, 1.0, c2=1e-9, most=6)
    assert found.reason
    assert found.value == line.best.value < line.start.value


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("radius", [1e-3, 0.5, 3.0, 1e4])
def test_the_exact_trust_region_meets_its_optimality_conditions(seed: int, radius: float) -> None:
    """More & Sorensen 1983, lemma 2.1: (B + lam I) p = -g, B + lam I has no negative eigenvalue."""
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(6, 6, generator=g, dtype=torch.float64)
    B = A + A.T + (4.0 if seed % 2 else 0.0) * torch.eye(6, dtype=torch.float64)
    b = torch.randn(6, generator=g, dtype=torch.float64)
    values, Q = torch.linalg.eigh(B)
    p, fall = SpectralModel(values, Q.T @ b, Q).within(radius)
    lam = float(-(p @ (B @ p + b)) / (p @ p))
    assert float((B @ p + lam * p + b).norm()) <= 1e-8 * float(b.norm() + B.norm() * p.norm())
    assert lam >= -1e-9
    assert float(values[0]) + lam >= -1e-9
    assert float(p.norm()) <= radius * 1.002
    assert lam <= 1e-9 or float(p.norm()) >= radius * 0.998
    assert fall == pytest.approx(float(-(b @ p) - 0.5 * p @ B @ p), rel=1e-9)


def test_the_hard_case_goes_to_the_edge_along_the_lowest_eigenvector() -> None:
    values = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    p, fall = SpectralModel(values, torch.tensor([0.0, 1.0], dtype=torch.float64), torch.eye(2).double()).within(2.0)
    assert float(p.norm()) == pytest.approx(2.0, rel=1e-9)
    assert float(p[1]) == pytest.approx(-1 / 3)
    assert fall > 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("strong_wolf", "unknown search 'strong_wolf': did you mean 'strong_wolfe'"),
        ("strong_wolfe(c3=1)", "unknown argument of search 'strong_wolfe' 'c3'"),
        ("strong_wolfe(c2=2)", r"strong_wolfe: c2 must be in \(0, 1\), got 2"),
        ("armijo + fixed", "search= names one search"),
        ("trust_region", "lbfgs has no trust-region form: search= may be armijo, exact, fixed, hager_zhang"),
    ],
)
def test_a_search_that_is_no_search_is_refused(spec: str, message: str) -> None:
    with pytest.raises(RavineError, match=message):
        Direction.registry["lbfgs"](search=spec)
