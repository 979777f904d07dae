"""Solvers that look at outputs: steps against the papers in float64, damping, what is refused, and checkpoints."""

import io
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ravine
from ravine import solvers
from ravine.core.errors import RavineError
from ravine.curvature.problem import Problem as Within
from ravine.solvers import EKFAC, KFAC, HessianFree, LevenbergMarquardt, OutputSolver
from ravine.solvers.outputs import OutputsProblem
from tests import reference_outputs as naive

NAMES = ("kfac", "ekfac", "hessian_free", "levenberg_marquardt")
F64 = torch.float64
Batch = tuple[Tensor, Tensor]


def mlp(dtype: torch.dtype = F64) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)


def drawn(n: int, seed: int, dtype: torch.dtype = F64) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=draw, dtype=dtype), torch.randint(3, (n,), generator=draw)


def cross_entropy(outputs: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(outputs, batch[1])  # a plain function: no draws are known, so the curvature is exact


def squared(outputs: Tensor, batch: Batch) -> Tensor:
    return (outputs - batch[1]).square().sum() / (2 * len(outputs))


def close(found: Tensor, wanted: Tensor, rel: float = 1e-8) -> None:
    assert float((found - wanted).norm()) <= rel * float(wanted.norm())


# ---------------------------------------------------------------- K-FAC and E-KFAC


def test_kfac_is_the_papers_from_its_whole_history() -> None:
    damping, steps, decay = 0.3, 6, 0.6
    model, batches = mlp(), [drawn(12, seed) for seed in range(steps)]
    opt = KFAC(
        model, criterion=cross_entropy, damping=damping, adapt=0, share=1.0, refresh=5, decay=decay
    )  # fmt: skip
    reference, last, seen = mlp(), None, []
    inverted: list[tuple[Tensor, Tensor]] = []
    for t, (x, y) in enumerate(batches, 1):
        seen.append(naive.factors(reference, x))
        if t <= 3 or t % 5 == 0:
            inverted = [
                tuple(naive.averaged([one[i][j] for one in seen], decay) for j in (0, 1)) for i in range(2)
            ]  # type: ignore[misc]
        g = naive.gradient(reference, x, y)
        parts = zip(inverted, naive.matrices(reference, g), strict=True)
        d = -naive.joined([naive.damped(A, G, damping, V) for (A, G), V in parts])
        B = naive.gauss_newton(reference, x) + damping * torch.eye(len(g), dtype=F64)
        last = naive.best_of([d] if last is None else [d, last], g, B)
        naive.loaded(reference, naive.flat(reference) + last)
        opt.step((x, y))
        close(naive.flat(model), naive.flat(reference))


def test_ekfac_is_the_papers_and_its_values_are_the_diagonal_in_the_basis() -> None:
    damping, decay = 0.3, 0.6
    model, batches = mlp(), [drawn(12, seed) for seed in range(5)]
    opt = EKFAC(model, criterion=cross_entropy, damping=damping, adapt=0, share=1.0, decay=decay, momentum=False)
    reference, seen = mlp(), []
    bases: list[tuple[Tensor, Tensor]] = []
    S: list[Tensor] = []
    for t, (x, y) in enumerate(batches, 1):
        seen.append(naive.factors(reference, x))
        C, g = naive.gauss_newton(reference, x), naive.gradient(reference, x, y)
        if t <= 3:
            eigen = [
                [torch.linalg.eigh(naive.averaged([one[i][j] for one in seen], decay)) for j in (0, 1)]
                for i in range(2)
            ]
            bases = [(a[1], b[1]) for a, b in eigen]
            S = [torch.outer(b[0].clamp(min=0), a[0].clamp(min=0)) for a, b in eigen]
        else:
            starts = (0, 25)
            for i, ((QA, QG), start) in enumerate(zip(bases, starts, strict=True)):
                rows, columns = len(QG), len(QA)
                weights = torch.arange(rows * (columns - 1)).view(rows, -1)
                order = torch.cat([weights, rows * (columns - 1) + torch.arange(rows)[:, None]], 1).reshape(-1)
                block = C[start + order][:, start + order]
                Q = torch.kron(QG, QA)
                fresh = (Q.T @ block @ Q).diagonal().view(rows, columns)
                S[i] = S[i] + max(1 - min(1 - 1 / t, decay), 1 - decay) * (fresh - S[i])
        made = []
        for (QA, QG), values, V in zip(bases, S, naive.matrices(reference, g), strict=True):
            made.append(QG @ (QG.T @ V @ QA / (values + damping)) @ QA.T)
        d = naive.best_of([-naive.joined(made)], g, C + damping * torch.eye(len(g), dtype=F64))
        naive.loaded(reference, naive.flat(reference) + d)
        opt.step((x, y))
        close(naive.flat(model), naive.flat(reference))


@pytest.mark.parametrize("kind", [KFAC, EKFAC])
def test_one_example_of_a_linear_model_is_done_in_a_step(kind: Any) -> None:
    """There A ⊗ G is the Gauss-Newton matrix, and the fitted step the minimum's, but for the damping."""
    model = nn.Linear(3, 2).double()
    batch = (torch.randn(1, 3, dtype=F64), torch.randn(1, 2, dtype=F64))
    before = squared(model(batch[0]), batch).item()
    kind(model, criterion=squared, damping=1e-6, least=1e-9).step(batch)
    assert squared(model(batch[0]), batch).item() < 1e-9 * before


def test_damping_follows_the_models_foresight() -> None:
    """On a linear model with squared error ρ = (gᵀδ + ½ δᵀGδ) / (½ gᵀδ) is above 3/4: the damping falls, to `least`."""
    model = nn.Linear(3, 2).double()
    batch = (torch.randn(20, 3, dtype=F64), torch.randn(20, 2, dtype=F64))
    opt = KFAC(model, criterion=squared, damping=2.0, least=1.5, adapt=2)
    found = []
    for _ in range(8):
        opt.step(batch)
        found.append(opt.memory["damping"])
    step = (19 / 20) ** 2
    assert found == pytest.approx([2.0, 2 * step, 2 * step, 2 * step**2, 2 * step**2, 1.5, 1.5, 1.5])


def test_a_step_that_makes_the_loss_far_worse_is_taken_back() -> None:
    model, batch = mlp(), drawn(10, 0)
    opt = KFAC(model, criterion=cross_entropy, adapt=1, damping=1.0)
    opt.step(batch)
    before = naive.flat(model)
    opt.problem.value = lambda x: math.inf  # type: ignore[method-assign]
    damping = opt.memory["damping"]
    opt.step(batch)
    assert torch.equal(naive.flat(model), before)
    assert opt.memory["damping"] == 2 * damping
    told = r"a step raised the loss of the batch from \d\.\d+ to inf and was taken back; the damping is doubled to \d"
    assert re.match(told, opt.reason)


class Mixed(nn.Module):
    """Layers with factors and without: an embedding, a norm, a grouped convolution, weights used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(7, 4), nn.LayerNorm(4)
        self.conv, self.grouped = nn.Conv1d(4, 4, 3, padding=1), nn.Conv1d(4, 4, 1, groups=2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.norm(self.table(x)).transpose(1, 2)).tanh()
        return self.head(self.grouped(x).mean(2))


def sequences(n: int) -> Batch:
    draw = torch.Generator().manual_seed(1)
    x = torch.randint(7, (n, 5), generator=draw)
    return x, (x[:, 0] + x[:, 1]) % 3


@pytest.mark.parametrize("name", ["kfac", "ekfac", "hessian_free", "levenberg_marquardt"])
def test_layers_without_factors_are_trained_too(name: str) -> None:
    model, batch = Mixed(), sequences(64)
    opt = OutputSolver(model, f"{name}(damping=0.1)", criterion=nn.CrossEntropyLoss())
    losses = [opt.step(batch).item() for _ in range(25)]
    assert losses[-1] < 0.5 * losses[0]
    if name in ("kfac", "ekfac"):
        left_out = opt.problem.passes(batch).left_out
        assert {name.split(".")[0] for name in left_out} == {"table", "norm", "grouped"}
        assert "2 groups" in left_out["grouped.weight"]


def problem_of(model: nn.Module, criterion: Any, sample: Any = None, hidden: Any = None) -> OutputsProblem:
    forward: Callable[..., Any] = lambda model, batch: model(batch[0])  # noqa: E731
    return OutputsProblem(Within(model), forward, criterion, sample, hidden, "test", torch.Generator().manual_seed(0))


def test_the_diagonal_of_parameters_in_no_layer_is_right_on_average() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor([0.5, -1.0, 2.0, 1.5], dtype=F64))
            self.head = nn.Linear(4, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.scale * x)

    model, batch = Scaled(), drawn(6, 3)
    problem = problem_of(model, cross_entropy)
    problem.batch = batch
    found = torch.stack([problem.diagonal(problem.passed(batch)) for _ in range(2000)])
    exact = naive.gauss_newton(model, batch[0]).diagonal()[:4]
    assert ((found.mean(0) - exact).abs() < 5 * found.std(0) / 2000**0.5).all()


# ---------------------------------------------------------------- Hessian-free, Levenberg and Marquardt


def test_hessian_free_solves_the_damped_equation_and_adapts() -> None:
    model, batch = nn.Linear(4, 3).double(), drawn(30, 0)
    start = naive.flat(model)
    g, C = naive.gradient(model, *batch), naive.gauss_newton(model, batch[0])
    opt = HessianFree(model, criterion=cross_entropy, damping=0.2, gain=1e-12, most=200)
    opt.step(batch)
    d = torch.linalg.solve(C + 0.2 * torch.eye(len(g), dtype=F64), -g)
    close(opt.memory["last"], d, 1e-5)
    before = naive.mean_loss(naive.loaded(nn.Linear(4, 3).double(), start), *batch).item()
    rho = (naive.mean_loss(model, *batch).item() - before) / float(g @ d + 0.5 * d @ C @ d)
    assert rho > 0.75
    close(naive.flat(model) - start, d, 1e-5)
    assert opt.memory["damping"] == pytest.approx(0.2 * 2 / 3)


def test_conjugate_gradients_stop_when_little_is_gained() -> None:
    products = {}
    for gain in (0.5, 1e-10):
        model, batch = mlp(), drawn(40, 0)
        opt = HessianFree(model, criterion=cross_entropy, damping=1e-4, gain=gain)
        opt.step(batch)
        products[gain] = opt.products
    assert products[0.5] == 11 + 1  # k = 10 iterates and one more, and the curvature along the step
    assert products[1e-10] > 25


def test_conjugate_gradients_begin_near_the_last_step() -> None:
    """With one iterate: d = .95 v + α M⁻¹ r, r = -g - .95 B v, α = rᵀM⁻¹r / (M⁻¹r)ᵀB(M⁻¹r)."""
    model, (x, y) = mlp(), drawn(30, 0)
    g, n = naive.gradient(model, x, y), 43
    B = naive.gauss_newton(model, x) + 0.5 * torch.eye(n, dtype=F64)
    each = torch.stack([naive.gradient(model, x[i : i + 1], y[i : i + 1]).square() for i in range(30)])
    v = 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(5), dtype=F64)
    opt = HessianFree(model, criterion=cross_entropy, damping=0.5, most=1)
    opt.memory["last"] = v.clone()
    opt.step((x, y))
    r = -g - 0.95 * B @ v
    p = r / (each.mean(0) + 0.5) ** 0.75
    close(opt.memory["last"], 0.95 * v + (r @ p) / (p @ B @ p) * p)


def test_the_preconditioner_is_the_mean_of_squares_of_the_examples_gradients() -> None:
    from ravine.solvers.hessian_free import _mean_of_squares

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)).double()
    x, y = torch.randn(6, 1, 4, 4, dtype=F64), torch.tensor([0, 1, 2, 2, 1, 0])
    problem = problem_of(model, cross_entropy)
    problem.batch = (x, y)
    each = [naive.gradient(model, x[n : n + 1], y[n : n + 1]).square() for n in range(6)]
    close(_mean_of_squares(problem, (x, y)), torch.stack(each).mean(0))


def test_structural_damping_is_the_curvature_of_hidden_states() -> None:
    model, batch = mlp(), drawn(7, 0)
    problem = problem_of(model, cross_entropy, hidden=lambda model, batch: model[:2](batch[0]))
    C = torch.zeros(43, 43, dtype=F64)
    for n in range(7):
        h = model[:2](batch[0][n])
        parameters = list(model.parameters())
        rows = [torch.autograd.grad(one, parameters, retain_graph=True, materialize_grads=True) for one in h]
        J = torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])
        C += J.T @ J / 7
    close(problem.gauss_newton(batch, 0.3).dense(), naive.gauss_newton(model, batch[0]) + 0.3 * C)
    with pytest.raises(RavineError, match="structural damping looks at hidden states: give hidden=, a function of"):
        HessianFree(model, criterion=cross_entropy, structural=0.1)


def test_levenberg_marquardt_on_squares_is_exact_and_trusts_its_model() -> None:
    model = nn.Linear(3, 2).double()
    batch = (torch.randn(20, 3, dtype=F64), torch.randn(20, 2, dtype=F64))
    start = naive.flat(model)
    found = torch.autograd.grad(squared(model(batch[0]), batch), list(model.parameters()))
    g = torch.cat([one.reshape(-1) for one in found])
    opt = LevenbergMarquardt(model, criterion=squared, damping=0.7, tol=1e-10)
    C = problem_of(model, squared).gauss_newton(batch).dense()
    opt.step(batch)
    close(naive.flat(model) - start, torch.linalg.solve(C + 0.7 * torch.eye(8, dtype=F64), -g), 1e-7)
    assert opt.memory["damping"] == pytest.approx(0.7 / 3)  # ρ = 1


def test_levenberg_marquardt_tries_anew_with_more_damping() -> None:
    """lr=3 goes past the minimum by as much again and more, until damping has made the step short enough."""
    model = nn.Linear(3, 2).double()
    batch = (torch.randn(20, 3, dtype=F64), torch.randn(20, 2, dtype=F64))
    before = squared(model(batch[0]), batch).item()
    opt = LevenbergMarquardt(model, criterion=squared, damping=0.01, tol=1e-10, lr=3.0)
    opt.step(batch)
    assert squared(model(batch[0]), batch).item() < before
    assert opt.products > 16  # more than one solution of 8 products
    assert opt.memory["damping"] > 0.01
    stuck = LevenbergMarquardt(model, criterion=squared, damping=1e-9, tol=1e-10, lr=3.0, tries=1)
    at = naive.flat(model)
    stuck.step(batch)
    assert torch.equal(naive.flat(model), at)
    assert stuck.reason == "the loss did not fall in 1 tries; the damping is doubled to 2e-09"


# ---------------------------------------------------------------- checkpoints, errors


@pytest.mark.parametrize("spec", [f"{name}(damping=0.5)" for name in NAMES])
def test_a_saved_solver_goes_on_to_the_bit(spec: str) -> None:
    def made() -> tuple[nn.Sequential, OutputSolver]:
        model = mlp(torch.float32)
        return model, OutputSolver(model, spec, criterion=nn.CrossEntropyLoss())

    batches = [drawn(48, seed, torch.float32) for seed in range(24)]
    model, opt = made()
    for batch in batches[:13]:
        opt.step(batch)
    kept = io.BytesIO()
    torch.save({"model": model.state_dict(), "opt": opt.state_dict()}, kept)
    for batch in batches[13:]:
        opt.step(batch)
    kept.seek(0)
    state = torch.load(kept, weights_only=True)
    again, other = made()
    again.load_state_dict(state["model"])
    other.load_state_dict(state["opt"])
    for batch in batches[13:]:
        other.step(batch)
    assert torch.equal(naive.flat(model), naive.flat(again))
    assert (opt.evaluations, opt.products) == (other.evaluations, other.products)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_the_users_are_left_alone(name: str) -> None:
    model = mlp()
    opt = OutputSolver(model, name, criterion=nn.CrossEntropyLoss())
    opt.step(drawn(16, 0))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: KFAC(mlp().parameters(), criterion=cross_entropy), "kfac needs the model itself, an nn.Module"),
        (lambda: KFAC(mlp()), "kfac looks at outputs: give criterion="),
        (lambda: KFAC(mlp(), criterion=3), "criterion= must be a function, got 3"),
        (lambda: KFAC(mlp(), criterion=cross_entropy, search="armijo"), "has no search='armijo'"),
        (lambda: KFAC(mlp(), criterion=cross_entropy, share=0.0), r"kfac: share must be in \(0, 1\], got 0.0"),
        (lambda: KFAC(mlp(), criterion=cross_entropy).step(lambda: 0), "is stepped with a batch, not a closure"),
        (lambda: solvers.Solver(mlp().parameters(), "kfac").step(lambda: mlp()(torch.ones(1, 4, dtype=F64)).sum()),
         "kfac looks at the outputs of a network"),
        (lambda: ravine.minimize(lambda x: (x**2).sum(), torch.ones(2), solver="kfac"),
         "kfac looks at the outputs of a network, and a plain function has none"),
        (lambda: KFAC(nn.Sequential(nn.Dropout(), mlp()), criterion=cross_entropy).step(drawn(9, 0)),
         "draws random numbers .dropout in train mode, perhaps."),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(attempt: Callable[[], object], message: str) -> None:
    with pytest.raises(RavineError, match=message):
        attempt()


def test_a_loss_that_is_not_finite_leaves_everything_as_it_was() -> None:
    model = mlp()
    opt = KFAC(model, criterion=cross_entropy)
    before = naive.flat(model)
    x, y = drawn(8, 0)
    x[3] = math.nan
    with pytest.raises(RavineError, match="the loss or its gradient is not finite at the start"):
        opt.step((x, y))
    assert torch.equal(naive.flat(model), before)
