"""Rules that look at curvature, Sophia and AdaHessian, against naive code with Hessians written down by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

import ravine
from ravine import tasks
from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.engine.chance import signs_for
from ravine.engine.execution import cannot_compile
from ravine.rules import SAM, Accumulate, AdaHessian, Decay, Sophia, chain

WAYS = ["loop"] if cannot_compile("cpu") else ["loop", "compiled"]
both_ways = pytest.mark.parametrize("way", WAYS)
F64 = torch.float64

# f(x) = sum x_i^4 / 4 + sum_{i<j} c_ij x_i x_j, over five numbers in two parameters
COUPLED = [[math.sin(1 + i * j) if i != j else 0.0 for j in range(5)] for i in range(5)]


def gradient(x: list[float]) -> list[float]:
    return [x[i] ** 3 + math.fsum(COUPLED[i][j] * x[j] for j in range(5)) for i in range(5)]


def product(x: list[float], z: list[float]) -> list[float]:
    return [3 * x[i] ** 2 * z[i] + math.fsum(COUPLED[i][j] * z[j] for j in range(5)) for i in range(5)]


def loss(ps: list[nn.Parameter]) -> Tensor:
    x = torch.cat([p.flatten() for p in ps])
    value: Tensor = x.pow(4).sum() / 4 + x @ torch.tensor(COUPLED, dtype=F64) @ x / 2
    return value


def begun() -> list[nn.Parameter]:
    values = torch.tensor([0.9, -0.7, 0.4, 1.1, -1.2], dtype=F64)
    return [nn.Parameter(values[:2].clone()), nn.Parameter(values[2:].clone().view(3, 1))]


def drawn(t: int) -> list[float]:
    """The signs of step t, as the engine draws them."""
    return [s for i, p in enumerate(begun()) for s in signs_for(p, (0, 0, i), t).flatten().tolist()]


def run(rule: Rule, way: str, steps: int, sampled: object = None) -> list[float]:
    ps = begun()
    optimizer = ravine.Optimizer(ps, rule, 0.02, execution=way)
    for _ in range(steps):
        optimizer.step(lambda: loss(ps), sampled)  # type: ignore[arg-type]
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in ps]).isfinite().all(), torch.tensor(True))
    return [x for p in ps for x in p.flatten().tolist()]


def same(a: list[float], b: list[float]) -> None:
    torch.testing.assert_close(torch.tensor(a, dtype=F64), torch.tensor(b, dtype=F64), rtol=1e-12, atol=1e-12)


@both_ways
@pytest.mark.parametrize(("gamma", "every"), [(0.01, 10), (0.5, 3)])
def test_sophia_equals_algorithms_1_and_3(way: str, gamma: float, every: int) -> None:
    beta1, beta2, eps, decay = 0.9, 0.8, 1e-12, 0.1
    x = [v for p in begun() for v in p.flatten().tolist()]
    m, h = [0.0] * 5, [0.0] * 5
    for t in range(1, 26):
        g, z = gradient(x), drawn(t)
        hz = product(x, z)
        for i in range(5):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            if t % every == 1:
                h[i] = beta2 * h[i] + (1 - beta2) * z[i] * hz[i]
        x = [
            v - 0.02 * (max(-1.0, min(1.0, m[i] / max(gamma * h[i], eps))) + decay * v) for i, v in enumerate(x)
        ]  # fmt: skip
    same(run(chain(Sophia(beta1, beta2, gamma, eps, every), Decay(decay)), way, 25), x)


@both_ways
def test_sophia_equals_algorithm_2(way: str) -> None:
    """Gauss-Newton-Bartlett: B g_hat^2, with a loss at "drawn" targets that changes from call to call."""
    ps = begun()
    optimizer = ravine.Optimizer(ps, Sophia(0.9, 0.8, 0.5, every=2, estimator="gauss_newton"), 0.02, execution=way)
    calls: list[int] = []

    def sampled() -> tuple[Tensor, int]:
        calls.append(1)
        return len(calls) * sum((p * p).sum() for p in ps), 16

    x = [v for p in ps for v in p.flatten().tolist()]
    m, h = [0.0] * 5, [0.0] * 5
    for t in range(1, 10):
        g = gradient(x)
        for i in range(5):
            m[i] = 0.9 * m[i] + 0.1 * g[i]
            if t % 2:
                h[i] = 0.8 * h[i] + 0.2 * 16 * ((t + 1) // 2 * 2 * x[i]) ** 2
        x = [v - 0.02 * max(-1.0, min(1.0, m[i] / max(0.5 * h[i], 1e-12))) for i, v in enumerate(x)]

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = loss(ps)
            value.backward()
            return value

        optimizer.step(closure, sampled)  # type: ignore[arg-type]
    assert len(calls) == 5
    same([v for p in ps for v in p.flatten().tolist()], x)


@both_ways
@pytest.mark.parametrize(("power", "every"), [(1.0, 1), (0.5, 3)])
def test_adahessian_equals_algorithm_1(way: str, power: float, every: int) -> None:
    beta1, beta2, eps = 0.9, 0.95, 1e-6
    x = [v for p in begun() for v in p.flatten().tolist()]
    m, v, n = [0.0] * 5, [0.0] * 5, 0
    for t in range(1, 21):
        g, z = gradient(x), drawn(t)
        hz = product(x, z)
        fresh = (t - 1) % every == 0
        n += fresh
        for i in range(5):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * (z[i] * hz[i]) ** 2 if fresh else v[i]
        x = [
            x[i] - 0.02 * m[i] / (1 - beta1**t) / ((v[i] / (1 - beta2**n)) ** (power / 2) + eps) for i in range(5)
        ]  # fmt: skip
    same(run(AdaHessian(beta1, beta2, eps, power, every), way, 20), x)


def test_adahessian_averages_over_a_convolutions_kernel() -> None:
    p = nn.Parameter(torch.linspace(0.5, 2, 2 * 3 * 2 * 2, dtype=F64).view(2, 3, 2, 2))
    optimizer = ravine.Optimizer([p], AdaHessian(), 0.0)
    optimizer.step(lambda: p.pow(3).sum())  # type: ignore[arg-type,return-value]
    averaged = (6 * p.detach()).mean((2, 3), keepdim=True).expand_as(p)
    torch.testing.assert_close(optimizer.state[p]["v"], 0.001 * averaged**2)


@pytest.mark.parametrize("what", ["backward", "a number", "no graph"])
def test_a_closure_that_leaves_no_graph_is_refused(what: str) -> None:
    p = nn.Parameter(torch.ones(3, dtype=F64))
    optimizer = ravine.Optimizer([p], Sophia(), 0.1)

    def closure() -> object:
        value = p.pow(4).sum()
        if what == "backward":
            value.backward()
        return value if what == "backward" else value.detach() if what == "no graph" else value.item()

    with pytest.raises(
        RavineError, match=r"the closure must return the loss and not call backward\(\); nothing was mov"
    ):
        optimizer.step(closure)  # type: ignore[arg-type]
    assert p.tolist() == [1, 1, 1]
    assert not optimizer.state


def test_what_is_missing_is_said() -> None:
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    with pytest.raises(RavineError, match=r"'sophia' needs products of the Hessian: give step a closure that returns"):
        ravine.Optimizer([p], Sophia()).step()
    with pytest.raises(
        RavineError, match=r"needs the loss at targets drawn from the model's own predictions: give step"
    ):
        ravine.Optimizer([p], Sophia(estimator="gauss_newton")).step()
    q = nn.Parameter(torch.ones(3, dtype=torch.complex64))
    with pytest.raises(
        RavineError, match=r"cannot move the parameter number 0 of its group \(3,\): it is complex, and the"
    ):
        ravine.Optimizer([q], Sophia())


def test_maximizing_follows_the_curvature_of_minus_the_loss() -> None:
    p, q = (nn.Parameter(torch.linspace(0.5, 1, 4, dtype=F64)) for _ in "12")
    up = ravine.Optimizer([p], Sophia(every=2), 0.01, maximize=True)
    down = ravine.Optimizer([q], Sophia(every=2), 0.01)
    for _ in range(5):
        up.step(lambda: -p.pow(4).sum())  # type: ignore[arg-type,return-value]
        down.step(lambda: q.pow(4).sum())  # type: ignore[arg-type,return-value]
    assert torch.equal(p, q)


def test_a_loss_without_curvature_and_parameters_without_gradient() -> None:
    p, q = (nn.Parameter(torch.ones(3, dtype=F64)) for _ in "12")
    optimizer = ravine.Optimizer([p, q], AdaHessian(eps=1.0), 0.1)
    optimizer.step(lambda: 2 * p.sum())  # type: ignore[arg-type,return-value]
    assert q.tolist() == [1, 1, 1]
    assert q.grad is None
    torch.testing.assert_close(p.detach(), torch.full((3,), 0.8, dtype=F64))


@pytest.mark.parametrize("rule", [Sophia(), AdaHessian()], ids=str)
def test_attention_is_differentiated_twice_and_its_kernels_come_back(rule: Rule) -> None:
    """Fused attention has no second derivative: the curvature tools of others raise."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    optimizer = ravine.Optimizer(layer.parameters(), rule, 1e-3)
    flags = torch.backends.cuda.flash_sdp_enabled()
    first = optimizer.step(lambda: layer(torch.ones(2, 5, 8)).pow(4).mean())  # type: ignore[arg-type,return-value]
    for _ in range(30):
        last = optimizer.step(lambda: layer(torch.ones(2, 5, 8)).pow(4).mean())  # type: ignore[arg-type,return-value]
    assert last < first
    assert torch.backends.cuda.flash_sdp_enabled() == flags


def test_sophia_with_sam_takes_the_curvature_where_it_stands_and_the_gradient_above() -> None:
    ps = begun()
    optimizer = ravine.Optimizer(ps, chain(Sophia(gamma=1.0), SAM(0.1)), 0.02)
    x = [v for p in ps for v in p.flatten().tolist()]
    g = gradient(x)
    norm = math.hypot(*g)
    top = gradient([a + 0.1 * b / norm for a, b in zip(x, g, strict=True)])
    h = [0.01 * a * b for a, b in zip(drawn(1), product(x, drawn(1)), strict=True)]
    m = [0.04 * b for b in top]
    optimizer.step(lambda: loss(ps))  # type: ignore[arg-type,return-value]
    moved = [a - 0.02 * max(-1.0, min(1.0, b / max(c, 1e-12))) for a, b, c in zip(x, m, h, strict=True)]
    same([v for p in ps for v in p.flatten().tolist()], moved)
    assert optimizer.products == 1


# ---------------------------------------------------------------- in training


@pytest.mark.parametrize(
    ("spec", "work"),
    [("sophia(lr=0.01, every=5)", 12), ("sophia(lr=0.01, every=5, estimator='gauss_newton')", 12), ("adahessian", 20)],
)
def test_training_counts_products_as_work(spec: str, work: int) -> None:
    *_, last = ravine.train(ravine.task("digits-mlp"), spec, steps=work)
    assert (last.step, last.work) == (10, work)


def test_training_says_what_a_task_lacks() -> None:
    with pytest.raises(RavineError, match="for which task 'quadratic' needs forward=, criterion=, sample="):
        list(ravine.train(tasks.task("quadratic"), "sophia(estimator='gauss_newton')", steps=2))


# ---------------------------------------------------------------- what is easily got wrong


@pytest.mark.parametrize("rule", [AdaHessian(), Sophia()], ids=str)
def test_products_that_are_not_finite_are_found_before_anything_moves(rule: Rule) -> None:
    p = nn.Parameter(torch.tensor([0.0, 1.0], dtype=F64))
    optimizer = ravine.Optimizer([p], rule, 0.1)
    with pytest.raises(RavineError, match="a product of the Hessian is not finite; nothing was changed"):
        optimizer.step(lambda: p.abs().pow(1.5).sum())  # type: ignore[arg-type,return-value]
    assert p.tolist() == [0, 1]
    careful = ravine.Optimizer([p], Sophia(estimator="gauss_newton"), 0.1)
    with pytest.raises(RavineError, match="a gradient at drawn targets is not finite"):
        careful.step(lambda: p.sum(), lambda: (p.sum() * math.nan, 2))  # type: ignore[arg-type,return-value]


def test_a_frozen_parameter_with_an_old_gradient_is_told() -> None:
    ps = begun()
    optimizer = ravine.Optimizer(ps, AdaHessian(), 0.1)
    optimizer.step(lambda: loss(ps))  # type: ignore[arg-type,return-value]
    ps[1].requires_grad_(False)
    before = ps[0].detach().clone()
    with pytest.raises(RavineError, match=r"a frozen parameter has an old gradient; call zero_grad\(\) after freezing"):
        optimizer.step(lambda: loss(ps))  # type: ignore[arg-type,return-value]
    assert torch.equal(ps[0].detach(), before)
    optimizer.zero_grad()
    optimizer.step(lambda: loss(ps))  # type: ignore[arg-type,return-value]
    assert not torch.equal(ps[0].detach(), before)


def test_products_are_taken_where_gathering_ends() -> None:
    ps = begun()
    optimizer = ravine.Optimizer(ps, chain(Accumulate(3), AdaHessian()), 0.1)
    for _ in range(6):
        optimizer.step(lambda: loss(ps))  # type: ignore[arg-type,return-value]
    assert optimizer.products == 2


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """DistributedDataParallel does not see gradients that an optimizer takes: each process would go its own way."""
    for name, value in (("is_initialized", True), ("get_world_size", 2)):
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    p = nn.Parameter(torch.ones(2))
    with pytest.raises(RavineError, match="'sophia' takes products or gradients by itself, which several processes"):
        ravine.Optimizer([p], Sophia()).step(lambda: p.sum())  # type: ignore[arg-type,return-value]
