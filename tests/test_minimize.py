"""ravine.minimize: exact facts on quadratics, saddles, and whatever is wrong with a function."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import ravine
from ravine.core.errors import RavineError
from ravine.solvers import Direction

BETAS = ("fletcher_reeves", "polak_ribiere", "hestenes_stiefel", "dai_yuan", "hager_zhang")
ROOM = [name for name, one in Direction.family().items() if one.__module__.startswith("ravine.solvers")]
SOLVERS = [name for name in ROOM if "outputs" not in Direction.registry[name].needs]
SCALAR = [name for name in SOLVERS if "residuals" not in Direction.registry[name].needs]
FORMS = [
    *SCALAR, *(f"cg(beta='{beta}')" for beta in BETAS), "newton(search='trust_region')", "newton(modify='eigenvalues')",
    "newton(modify='cholesky')", "newton_cg(search='trust_region')", "saddle_free(subspace=2)", "lbfgs(damped=true)",
    "coordinate(blocks='tensor')", "lbfgs(search='hager_zhang')", "bfgs(search='armijo')",
]  # fmt: skip


def quadratic(n: int, kappa: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """H with eigenvalues evenly from 1 to kappa, and b; the minimum of x'Hx / 2 - b'x is H^-1 b."""
    g = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))[0]
    return Q @ torch.diag(torch.linspace(1, kappa, n, dtype=torch.float64)) @ Q.T, torch.randn(n, generator=g).double()


def path(f: Any, x0: Tensor, solver: str, **more: Any) -> tuple[list[Tensor], list[Tensor]]:
    """All points and gradients on the way."""
    xs, gs = [x0], []
    t = x0.clone().requires_grad_()
    gs.append(torch.autograd.grad(f(t), t)[0])

    def observe(point: Any) -> None:
        xs.append(point.x)
        gs.append(point.gradient)

    ravine.minimize(f, x0, solver, observe=observe, **more)
    return xs, gs


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.mark.parametrize("spec", FORMS)
def test_every_solver_reaches_the_minimum_of_a_curved_valley(spec: str) -> None:
    x0 = torch.tensor([[0.5, 0.5], [0.3, 0.2]], dtype=torch.float64)

    def f(x: Tensor) -> Tensor:
        return 0.1 * rosenbrock(x.reshape(-1)) + 0.5 * (x - 1).square().sum()

    found = ravine.minimize(f, x0, spec)
    assert found.converged, found.reason
    assert found.x.shape == x0.shape
    assert found.is_minimum is True
    assert torch.allclose(found.x, torch.ones(2, 2, dtype=torch.float64), atol=1e-5)
    leaf = found.x.clone().requires_grad_()
    norm = float(torch.autograd.grad(f(leaf), leaf)[0].norm())
    assert found.gradient_norm == pytest.approx(norm, rel=1e-6, abs=1e-12)
    assert found.test_products == 4


@pytest.mark.parametrize("beta", BETAS)
def test_conjugate_gradients_end_after_n_steps_with_conjugate_directions(beta: str) -> None:
    """The chapter's slide 46, in float64 with an exact line search: all betas are one method on a quadratic."""
    n = 30
    H, b = quadratic(n, 1e2)
    xs, gs = path(lambda x: 0.5 * x @ H @ x - b @ x, torch.zeros(n).double(), f"cg(beta='{beta}', search='exact')",
                  tol=1e-9)  # fmt: skip
    assert float(gs[min(n, len(gs) - 1)].norm()) <= 1e-8 * float(gs[0].norm())
    steps = [after - before for before, after in pairwise(xs[:25])]
    d = torch.stack([step / step.norm() for step in steps])
    inner = d @ H @ d.T
    assert float((inner - torch.diag(inner.diagonal())).abs().max()) <= 1e-8 * float(H.diagonal().max())


def test_bfgs_ends_after_n_steps_and_has_the_inverse_hessian() -> None:
    """Slides 47-48: finite termination, the secant condition and M = H^-1, with an exact line search."""
    from ravine.solvers.function import FunctionProblem

    n = 10
    H, b = quadratic(n, 50.0)
    problem = FunctionProblem(lambda x: 0.5 * x @ H @ x - b @ x, torch.zeros(n).double(), False)
    method, memory = Direction.registry["bfgs"](search="exact(tol=1e-14)"), {}
    point = problem.evaluate(torch.zeros(n).double())
    for _ in range(n):
        before, point = point, method.step(problem, point, memory).point
        s, y = point.x - before.x, point.gradient - before.gradient
        assert float((memory["inverse"] @ y - s).norm()) <= 1e-8 * float(s.norm())
    assert float(point.gradient.norm()) <= 1e-8
    assert float((memory["inverse"] - torch.linalg.inv(H)).abs().max()) <= 1e-8


def test_lbfgs_of_one_pair_is_conjugate_gradients_under_exact_searches() -> None:
    """Slide 49. With M0 a multiple of I, directions agree up to length."""
    n = 12
    H, b = quadratic(n, 1e2, 3)
    f = lambda x: 0.5 * x @ H @ x - b @ x  # noqa: E731
    ours, _ = path(f, torch.zeros(n).double(), "lbfgs(history=1, search='exact(tol=1e-13)')", tol=1e-7)
    theirs, _ = path(f, torch.zeros(n).double(), "cg(beta='polak_ribiere', search='exact(tol=1e-13)')", tol=1e-7)
    for a, c in zip(ours[1:9], theirs[1:9], strict=True):
        assert torch.allclose(a, c, atol=1e-7)


@pytest.mark.parametrize("modify", ["shift", "eigenvalues", "cholesky", "none"])
def test_newton_takes_one_step_on_a_quadratic(modify: str) -> None:
    H, b = quadratic(20, 1e3)
    found = ravine.minimize(lambda x: 0.5 * x @ H @ x - b @ x, torch.zeros(20).double(), f"newton(modify='{modify}')")
    assert (found.evaluations, found.products) == (2, 20)
    assert torch.allclose(found.x, torch.linalg.solve(H, b), atol=1e-10)


def test_on_the_classical_saddle_newton_lands_on_it_and_saddle_free_newton_leaves() -> None:
    """Slide 17: 5 x^2 - y^2 from (0.5, 0.1)."""
    f, x0 = (lambda x: 5 * x[0] ** 2 - x[1] ** 2), torch.tensor([0.5, 0.1], dtype=torch.float64)
    newton = ravine.minimize(f, x0, "newton(modify='none', search='fixed')")
    assert newton.x.abs().max() <= 1e-12
    assert newton.is_minimum is False
    assert "saddle" in newton.reason
    xs, _ = path(f, x0, "saddle_free(search='fixed')", max_evaluations=4)
    assert [x.tolist() for x in xs[1:3]] == [pytest.approx([0, 0.2], abs=1e-12), pytest.approx([0, 0.4], abs=1e-12)]
    krylov, _ = path(f, x0, "saddle_free(subspace=2, search='fixed')", max_evaluations=4)
    assert torch.allclose(krylov[2], xs[2], atol=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 0.1, 0.01])
def test_coordinate_descent_contracts_as_the_algebra_says(alpha: float) -> None:
    """Slide 54: (x1 - x2)^2 + alpha |x|^2, a factor of 1 / (1 + alpha)^2 for each sweep."""
    xs, _ = path(lambda x: (x[0] - x[1]) ** 2 + alpha * (x @ x), torch.tensor([1.0, 1.0]).double(), "coordinate",
                 max_evaluations=16)  # fmt: skip
    ratios = [float(after[1] / before[1]) for before, after in pairwise(xs[1:6])]
    assert ratios == pytest.approx([(1 + alpha) ** -2] * len(ratios), rel=1e-10)


def test_coordinate_descent_stops_at_a_ridge() -> None:
    """The book's guarantee needs smoothness: |x - y| + 0.1 |x|^2 from (1, 1) is no minimum, and no coordinate helps."""
    found = ravine.minimize(
        lambda x: (x[0] - x[1]).abs() + 0.1 * (x @ x), torch.ones(2).double(), "coordinate", max_evaluations=300
    )
    assert not found.converged
    assert "no block lowers the loss" in found.reason
    assert torch.allclose(found.x, torch.ones(2).double(), atol=1e-6)


def test_gauss_newton_minimizes_residuals() -> None:
    def r(x: Tensor) -> Tensor:
        return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])

    for spec in ("gauss_newton", "gauss_newton(search='strong_wolfe')"):
        found = ravine.minimize(r, torch.tensor([-1.2, 1.0]).double(), spec)
        assert found.converged
        assert torch.allclose(found.x, torch.ones(2).double(), atol=1e-6)
        assert found.value == pytest.approx(0.5 * float((r(found.x) ** 2).sum()), abs=1e-15)


@pytest.mark.parametrize("spec", SOLVERS)
def test_near_a_saddle_every_solver_says_so_or_leaves_and_escape_reaches_a_minimum(spec: str) -> None:
    def r(x: Tensor) -> Tensor:
        return torch.stack([x[0], x[1] ** 2 - 1])

    f = r if spec == "gauss_newton" else lambda x: 0.5 * (r(x) ** 2).sum()
    x0 = torch.tensor([1.0, 1e-8], dtype=torch.float64)
    plain = ravine.minimize(f, x0, spec)
    assert plain.converged
    assert plain.is_minimum is (plain.value < 0.1)
    out = ravine.minimize(f, x0, spec, escape=True, generator=torch.Generator().manual_seed(1))
    assert out.is_minimum is True
    assert out.value <= 1e-12
    assert out.evaluations >= plain.evaluations


def test_beyond_500_numbers_the_test_is_lanczos() -> None:
    found = ravine.minimize(lambda x: (x[1:] ** 2).sum() - x[0] ** 2 + 0.25 * x[0] ** 4,
                            torch.cat([torch.zeros(1), torch.ones(600)]).double(), "newton_cg")  # fmt: skip
    assert found.is_minimum is False
    assert 0 < found.test_products < 500


# ---------------------------------------------------------------- what is wrong with a function




class OnceOnly(torch.autograd.Function):
    """x^2, whose backward pass has no derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * g


X = torch.ones(3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("f", "x0", "solver", "message"),
    [
        (lambda x: x, X, "lbfgs", r"f must return a scalar .* got a tensor of shape \(3,\)"),
        (lambda x: x.sum() / 0, X, "lbfgs", r"f\(x0\) or its gradient is not finite"),
        (lambda x: x.sqrt().sum(), 0 * X, "lbfgs", r"f\(x0\) or its gradient is not finite"),
        (lambda x: x.detach().sum(), X, "lbfgs", "does not depend on x"),
        (lambda x: OnceOnly.apply(x).square().sum(), X, "newton", "differentiated twice: the function OnceOnly is"),
        (lambda x: torch.dropout(x, 0.5, True).square().sum(), torch.ones(99), "cg", "bernoulli_ draws random numbers"),
        (lambda x: (x[0] - x[1] - 1).square(), X, "newton(modify='none')", "the Hessian is singular here"),
        (lambda x: x @ x, X, "gauss_newton", "needs the residuals r as a vector, got a scalar"),
        (lambda x: x @ x, X, "coordinate(blocks='0:2')", "1 of 3 parameters are in no block, number 2 among them"),
        (lambda x: x @ x, X, "coordinate(blocks='0:2; 1:3')", "1 of 3 parameters are in more than one block"),
        (lambda x: x @ x, X, "coordinate(blocks='y')", "unknown parameter 'y'"),
        (lambda x: x @ x, X, "lbgfs", "unknown solver 'lbgfs': did you mean 'lbfgs'"),
        (lambda x: x @ x, X, "adam", r"'adam' is an update rule, not a solver: .* by ravine\.train\(task, 'adam'\)"),
        (lambda x: x @ x, X, "", "solver= is empty: a solver's spec looks like lbfgs"),
        (lambda x: x @ x, X, "lbfgs|clip", r"unexpected '\|' at position 5(?s:.*)A solver's spec looks like lbfgs"),
        (lambda x: x @ x, X, "lbfgs + clip", "a solver stands alone"),
        (lambda x: x @ x, X, "lbfgs(max_iter=3)", "max_iter= is torch's name; here it is iterations="),
        (lambda x: (x + 1j).sum(), X, "lbfgs", r"a real number, got one of torch\.complex128"),
        (lambda x: x @ x, X, "coordinate(blocks='layer')", "tells layers by the names of their parameters"),
        (lambda x: x @ x, X[:0], "lbfgs", r"x0 has no numbers, its shape is \(0,\)"),
        (lambda x: x @ x, [1.0], "lbfgs", "x0 must be a tensor of float32 or float64, got list"),
        (lambda x: x @ x, torch.ones(5001), "bfgs", "bfgs is for at most 5,000 parameters, got 5,001: .* Use lbfgs"),
        (lambda x: x @ x, torch.ones(5001), "newton", "Use newton_cg"),
        (lambda x: x @ x, torch.ones(5001), "saddle_free", r"Use saddle_free\(subspace=50\)"),
        (lambda x: x @ x, torch.ones(5001), "coordinate", r"Use coordinate\(blocks='tensor'\)"),
    ],
)  # fmt: skip
def test_bad_input_is_told(f: Any, x0: Any, solver: str, message: str) -> None:
    with pytest.raises(RavineError, match=message):
        ravine.minimize(f, x0, solver)


@pytest.mark.parametrize(
    ("name", "value"),
    [("tol", 0), ("tol", math.nan), ("max_evaluations", 0), ("generator", 3), ("escape", 3)],
)
def test_bad_limits_are_told(name: str, value: float) -> None:
    with pytest.raises(RavineError, match=f"{name} must be"):
        ravine.minimize(lambda x: x @ x, X, **{name: value})


def test_a_tolerance_beyond_the_dtype_is_told() -> None:
    found = ravine.minimize(rosenbrock, torch.tensor([-1.2, 1.0] * 2), tol=1e-12)
    assert not found.converged
    assert "In torch.float32 values differ by rounding only here: use float64, or ask for a larger tol" in found.reason
    assert found.gradient_norm < 1e-2


def test_the_budget_is_kept_and_told() -> None:
    found = ravine.minimize(rosenbrock, torch.tensor([-1.2, 1.0] * 5).double(), max_evaluations=17)
    assert found.evaluations == 17
    assert "max_evaluations=17 are spent" in found.reason
