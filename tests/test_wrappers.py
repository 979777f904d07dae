"""What stands around a rule: schedule-free averaging, Lookahead, SAM and gradient accumulation, against naive code."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import ravine
from ravine.assembly import parts
from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.engine.execution import cannot_compile
from ravine.engine.group import lr_of
from ravine.rules import (
    SAM,
    SGD,
    Accumulate,
    Adam,
    Cautious,
    ClipNorm,
    Decay,
    Lookahead,
    Momentum,
    Nesterov,
    RMSProp,
    ScheduleFree,
    adamw,
    chain,
)
from ravine.schedules import warmup

WAYS = ["loop"] if cannot_compile("cpu") else ["loop", "compiled"]
both_ways = pytest.mark.parametrize("way", WAYS)
F64 = torch.float64


def slope(x: float, i: int, t: int) -> float:
    return (1 + i) * x + math.sin(3 * x + i) + 0.3 * math.cos(i + 7 * t)


def step(optimizer: ravine.Optimizer, p: nn.Parameter, t: int) -> None:
    p.grad = torch.tensor([slope(x, i, t) for i, x in enumerate(p.tolist())], dtype=F64)
    optimizer.step()


def begun(size: int = 5) -> nn.Parameter:
    return nn.Parameter(torch.linspace(-1, 1, size, dtype=F64))


def judged(optimizer: ravine.Optimizer, p: nn.Parameter) -> list[float]:
    with optimizer.swapped():
        return p.tolist()


def same(a: list[float], b: list[float]) -> None:
    torch.testing.assert_close(torch.tensor(a, dtype=F64), torch.tensor(b, dtype=F64), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- schedule-free


@both_ways
@pytest.mark.parametrize(("momentum", "r", "power"), [(0.9, 0.0, 2.0), (0.7, 0.5, 1.0)])
@pytest.mark.parametrize("adaptive", [False, True])
def test_schedule_free_equals_algorithm_1(way: str, momentum: float, r: float, power: float, adaptive: bool) -> None:
    """z, x and y of their own, Defazio et al. 2024, with a warm-up of lr, which the weights follow."""
    beta2, eps, decay, lr = 0.95, 1e-8, 0.1, 0.05
    inner: Rule = chain(RMSProp(beta2, eps, corrected=True), Decay(decay)) if adaptive else SGD()
    p = begun()
    rule = chain(inner, ScheduleFree(momentum, r, power))
    optimizer = ravine.Optimizer([p], rule, lr, schedule=warmup(10), execution=way)
    z, x = p.tolist(), p.tolist()
    squares, weights, largest = [0.0] * 5, 0.0, 0.0
    for t in range(1, 41):
        y = [(1 - momentum) * a + momentum * b for a, b in zip(z, x, strict=True)]
        same(p.tolist(), y)
        rate = lr * warmup(10)(t - 1)
        largest = max(largest, rate)
        weight = t**r * largest**power
        weights += weight
        for i in range(5):
            g = slope(y[i], i, t)
            if adaptive:
                squares[i] = beta2 * squares[i] + (1 - beta2) * g * g
                g = g / (math.sqrt(squares[i] / (1 - beta2**t)) + eps) + decay * y[i]
            z[i] -= rate * g
            x[i] += weight / weights * (z[i] - x[i])
        step(optimizer, p, t)
        same(judged(optimizer, p), x)


def test_schedule_free_goes_on_where_the_momentum_changes_between_steps() -> None:
    p = begun()
    optimizer = ravine.Optimizer([p], chain(SGD(), ScheduleFree()), 0.05)
    z, x = p.tolist(), p.tolist()
    for t, momentum in enumerate((0.9, 0.5, 0.8), 1):
        optimizer.param_groups[0]["momentum"] = momentum
        y = p.tolist()
        step(optimizer, p, t)
        z = [a - 0.05 * slope(b, i, t) for i, (a, b) in enumerate(zip(z, y, strict=True))]
        x = [b + (a - b) / t for a, b in zip(z, x, strict=True)]
        same(judged(optimizer, p), x)
        same(p.tolist(), [(1 - momentum) * a + momentum * b for a, b in zip(z, x, strict=True)])


def test_schedule_free_may_begin_with_a_rate_of_zero() -> None:
    p = begun()
    before = p.tolist()
    optimizer = ravine.Optimizer([p], chain(SGD(), ScheduleFree()), 0.0)
    step(optimizer, p, 1)
    assert p.tolist() == judged(optimizer, p) == before


# ---------------------------------------------------------------- Lookahead


@both_ways
@pytest.mark.parametrize(("alpha", "k"), [(0.5, 5), (0.8, 3), (1.0, 1)])
def test_lookahead_equals_algorithm_1(way: str, alpha: float, k: int) -> None:
    p = begun()
    rule = chain(Momentum(0.9), Lookahead(alpha, k))
    optimizer = ravine.Optimizer([p], rule, 0.05, execution=way)
    slow, t = p.tolist(), 0
    velocity = [0.0] * 5
    for _ in range(6):
        fast = list(slow)
        for _ in range(k):
            t += 1
            for i in range(5):
                velocity[i] = 0.9 * velocity[i] + slope(fast[i], i, t)
                fast[i] -= 0.05 * velocity[i]
            step(optimizer, p, t)
            if t % k:
                same(p.tolist(), fast)
                same(judged(optimizer, p), slow)
        slow = [a + alpha * (b - a) for a, b in zip(slow, fast, strict=True)]
        same(p.tolist(), slow)
        same(judged(optimizer, p), slow)


def test_lookahead_takes_rules_that_apply_lr_themselves() -> None:
    """At a constant lr the book's momentum is torch's, also inside."""
    a, b = begun(), begun()
    one = ravine.Optimizer([a], chain(Momentum(0.9, form="book"), Lookahead()), 0.05)
    other = ravine.Optimizer([b], chain(Momentum(0.9), Lookahead()), 0.05)
    for t in range(12):
        step(one, a, t)
        step(other, b, t)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    book = ravine.Optimizer([a], chain(Nesterov(0.9, form="book"), Lookahead()), 0.05)
    for t in range(12):
        step(book, a, t)
    assert all(math.isfinite(x) for x in judged(book, a))


# ---------------------------------------------------------------- SAM


def bowl(x: list[float]) -> list[float]:
    """The gradient of a coupled function of two numbers."""
    return [x[0] ** 3 + 0.5 * x[1], 2 * x[1] + 0.5 * x[0]]


def climb(x: list[float], rho: float, eta: float, adaptive: bool) -> list[float]:
    """The gradient at the top of the ball: Foret et al. 2021, eq. 2; Kwon et al. 2021, eq. 10."""
    g = bowl(x)
    t = [abs(a) + eta if adaptive else 1.0 for a in x]
    norm = math.hypot(*(a * b for a, b in zip(t, g, strict=True)))
    return bowl([a + rho * s * s * b / norm for a, s, b in zip(x, t, g, strict=True)])


@both_ways
@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_equals_the_paper(way: str, adaptive: bool) -> None:
    """Over two groups, whose norm is one; with momentum behind it; and everything is put back to the bit."""
    ps = [nn.Parameter(torch.tensor([value], dtype=F64)) for value in (0.7, -0.4)]
    rule = chain(Momentum(0.8), SAM(0.3, 0.01, adaptive))
    optimizer = ravine.Optimizer([{"params": [p]} for p in ps], rule, 0.1, execution=way)
    x, velocity, places = [0.7, -0.4], [0.0, 0.0], []

    def closure() -> float:
        places.append([p.item() for p in ps])
        optimizer.zero_grad()
        for p, g in zip(ps, bowl(places[-1]), strict=True):
            p.grad = torch.tensor([g], dtype=F64)
        return len(places)

    for t in range(20):
        g = climb(x, 0.3, 0.01, adaptive)
        velocity = [0.8 * v + a for v, a in zip(velocity, g, strict=True)]
        x = [a - 0.1 * v for a, v in zip(x, velocity, strict=True)]
        assert optimizer.step(closure) == 2 * t + 1  # the loss is that of the place where the step began
        same([p.item() for p in ps], x)
    assert len(places) == 40


def test_sam_puts_the_parameters_back_when_the_closure_fails() -> None:
    p = begun()
    before = p.detach().clone()
    optimizer = ravine.Optimizer([p], chain(SGD(), SAM()), 0.1)
    calls: list[int] = []

    def closure() -> float:
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("out of memory")
        p.grad = torch.ones_like(p)
        return 1.0

    with pytest.raises(ValueError, match="out of memory"):
        optimizer.step(closure)
    assert torch.equal(p.detach(), before)


def test_sam_looks_for_nan_at_both_places() -> None:
    p = begun()
    before = p.detach().clone()
    optimizer = ravine.Optimizer([p], chain(SGD(), SAM()), 0.1, nonfinite="skip")
    values = iter([1.0, math.nan])

    def closure() -> float:
        p.grad = torch.full_like(p, next(values))
        return 1.0

    optimizer.step(closure)
    assert optimizer.skipped == 1
    assert torch.equal(p.detach(), before)


def test_sam_at_a_gradient_of_zero_stays() -> None:
    p = begun()
    before = p.detach().clone()

    def closure() -> float:
        p.grad = torch.zeros_like(p)
        return 0.0

    ravine.Optimizer([p], chain(SGD(), SAM()), 0.1).step(closure)
    assert torch.equal(p.detach(), before)


def test_training_with_sam_counts_two_gradients_a_step() -> None:
    moments = list(ravine.train(ravine.task("quadratic"), "sgd(lr=0.1) + sam(rho=0.01)", steps=20, every=10))
    assert [(moment.step, moment.work) for moment in moments] == [(0, 0), (5, 10), (10, 20)]


# ---------------------------------------------------------------- accumulation


@both_ways
def test_accumulation_is_a_larger_batch(way: str) -> None:
    a, b = begun(), begun()
    gathered = ravine.Optimizer([a], chain(Accumulate(3), adamw()), 0.05, schedule=warmup(5), execution=way)
    whole = ravine.Optimizer([b], adamw(), 0.05, schedule=warmup(5))
    for t in range(6):
        gradients = [
            torch.tensor([slope(x, i, 3 * t + j) for i, x in enumerate(b.tolist())], dtype=F64) for j in (0, 1, 2)
        ]
        for j, g in enumerate(gradients):
            a.grad = g.clone()
            gathered.step()
            assert torch.equal(a.grad, g)
            if j < 2:
                same(a.tolist(), b.tolist())
        b.grad = (gradients[0] + gradients[1] + gradients[2]) / 3
        whole.step()
        same(a.tolist(), b.tolist())
    assert gathered.param_groups[0]["steps"] == whole.param_groups[0]["steps"] == 6


def test_accumulation_goes_on_from_a_checkpoint_between_its_calls() -> None:
    def run(saved: bool) -> list[float]:
        p = begun()
        optimizer = ravine.Optimizer([p], chain(Accumulate(4), Momentum()), 0.05)
        for t in range(10):
            if t == 6 and saved:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = ravine.Optimizer([p], chain(Accumulate(4), Momentum()), 0.05)
                optimizer.load_state_dict(state)
            step(optimizer, p, t)
        return p.tolist()

    assert run(True) == run(False)


def test_a_parameter_without_a_gradient_in_the_last_call_moves_too() -> None:
    p, q = begun(2), begun(2)
    optimizer = ravine.Optimizer([p, q], chain(Accumulate(2), SGD()), 1.0)
    before = q.detach().clone()
    p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
    optimizer.step()
    q.grad = None
    optimizer.step()
    torch.testing.assert_close(q.detach(), before - 0.5)
    assert q.grad is None


def test_the_norm_that_is_clipped_is_that_of_the_mean() -> None:
    p = nn.Parameter(torch.zeros(1, dtype=F64))
    optimizer = ravine.Optimizer([p], chain(Accumulate(2), ClipNorm(1.0), SGD()), 1.0)
    for g in (3.0, 5.0):
        p.grad = torch.tensor([g], dtype=F64)
        optimizer.step()
    assert p.item() == pytest.approx(-1, rel=1e-5)


# ---------------------------------------------------------------- spelling, nesting, checkpoints


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("schedule_free(sgd)", "sgd + schedule_free"),
        ("lookahead(adam(lr=0.01, beta2=0.99), k=3)", "adam(beta2=0.99) + lookahead(k=3)"),
        ("lookahead(adam + decay(weight_decay=0.1))", "adam + decay(weight_decay=0.1) + lookahead"),
        ("sam(lookahead(sgd), rho=0.1)", "sgd + lookahead + sam(rho=0.1)"),
    ],
)
def test_a_wrapper_may_be_written_around(text: str, plain: str) -> None:
    (part,) = parts(text)
    assert str(part.rule) == plain
    assert part.rule == parts(plain)[0].rule
    assert part.lr == (0.01 if "lr" in text else part.rule.lr)
    assert ravine.Optimizer([{"params": [begun()], "rule": text}]).param_groups[0]["lr"] == part.lr


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: chain(SGD(), ScheduleFree(), Lookahead()),
            "'schedule_free' and 'lookahead' cannot nest: both say where",
        ),
        (lambda: chain(SGD(), ScheduleFree(), ScheduleFree()), "cannot nest: both say where the parameters rest"),
        (lambda: chain(Nesterov(form="book"), ScheduleFree()), "cannot nest"),
        (
            lambda: chain(SGD(), SAM(), SAM()),
            "'sam' and 'sam' cannot nest: each takes the gradient at a place of its own",
        ),
        (lambda: chain(SGD(), Accumulate()), "'accumulate' gathers gradients, so it stands first: 'accumulate + sgd'"),
        (lambda: chain(SGD(), Lookahead(), Momentum(form="book")), "both apply the learning rate"),
    ],
)
def test_what_cannot_nest_is_said(make: Callable[[], Rule], said: str) -> None:
    with pytest.raises(RavineError) as error:
        make()
    assert said in str(error.value)


def test_a_closure_that_is_missing_is_said_before_anything_happens() -> None:
    p = begun()
    p.grad = torch.ones_like(p)
    before = p.detach().clone()
    with pytest.raises(RavineError, match="'adam \\+ sam' needs the gradient at a second place: give step a closure"):
        ravine.Optimizer([p], chain(Adam(), SAM()), 0.1).step()
    assert torch.equal(p.detach(), before)


def test_gradscaler_is_refused_where_it_cannot_unscale() -> None:
    p = nn.Parameter(torch.ones(3))
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(p.sum()).backward()
    with pytest.raises(
        RavineError, match="'sgd \\+ sam' takes more than the gradient, which GradScaler cannot unscale"
    ):
        scaler.step(ravine.Optimizer([p], chain(SGD(), SAM()), 0.1))
    scaler.step(ravine.Optimizer([p], SGD(), 0.1))
    torch.testing.assert_close(p.detach(), torch.full((3,), 0.9))


@both_ways
@pytest.mark.parametrize(
    "spec", ["schedule_free_adamw", "lookahead(adam, k=3)", "accumulate(k=2) + lookahead(momentum, k=2)"]
)
def test_wrappers_continue_from_a_checkpoint_in_any_group(spec: str, way: str) -> None:
    def run(saved: bool) -> list[Tensor]:
        ps = [begun(3), begun(4)]
        groups = [{"params": [ps[0]]}, {"params": [ps[1]], "rule": "adam"}]
        optimizer = ravine.Optimizer(groups, parts(spec)[0].rule, 0.02, execution=way)
        for t in range(9):
            if t == 5 and saved:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = ravine.Optimizer(groups, parts(spec)[0].rule, 0.02, execution=way)
                optimizer.load_state_dict(state)
            for p in ps:
                p.grad = torch.tensor([slope(x, i, t) for i, x in enumerate(p.tolist())], dtype=F64)
            optimizer.step()
        with optimizer.swapped():
            return [p.detach().clone() for p in ps]

    assert all(map(torch.equal, run(True), run(False)))


# ---------------------------------------------------------------- what is easily got wrong


def test_frozen_parameters_do_not_move_with_gathered_gradients() -> None:
    p, q = begun(2), begun(2)
    optimizer = ravine.Optimizer([p, q], chain(Accumulate(2), Adam(), Decay(0.1)), 0.1)
    for _ in "12":
        p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
        optimizer.step()
    q.requires_grad_(False)
    q.grad = None
    before = q.detach().clone()
    for _ in "1234":
        optimizer.step()
    assert torch.equal(q.detach(), before)
    assert optimizer.state[q]["step"] == 1


def test_a_mask_behind_accumulation_looks_at_the_mean() -> None:
    p = nn.Parameter(torch.zeros(2, dtype=F64))
    optimizer = ravine.Optimizer([p], chain(Accumulate(2), SGD(), Cautious()), 0.1)
    for g in ([4.0, 4.0], [-1.0, 1.0]):
        p.grad = torch.tensor(g, dtype=F64)
        optimizer.step()
    assert p[0] < 0
    assert p[1] < 0


def test_an_open_schedule_ends_with_the_budget_whatever_a_step_costs() -> None:
    """20 gradient evaluations: 20 steps of SGD, 10 of SAM or AdaHessian, 5 moves where four gradients are gathered."""
    moved = {"sgd": 20, "sam(sgd)": 10, "adahessian(lr=0.01)": 10, "accumulate(sgd, k=4)": 5}
    for spec, steps in moved.items():
        *_, last = ravine.train(ravine.task("digits-mlp"), f"{spec} @ cosine()", steps=20)
        (group,) = last.optimizer.param_groups
        assert group["steps"] == steps
        assert lr_of(group) == pytest.approx(0, abs=1e-12)


def test_sam_needs_no_closure_that_zeroes() -> None:
    p = nn.Parameter(torch.ones(1, dtype=F64))
    optimizer = ravine.Optimizer([p], chain(SGD(), SAM(0.05)), 0.1)

    def closure() -> Tensor:
        loss = p.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    assert p.item() == pytest.approx(1 - 0.1 * 2.1, rel=1e-12)


def test_a_step_where_it_would_be_undone_is_refused() -> None:
    p = begun()
    optimizer = ravine.Optimizer([p], chain(SGD(), ScheduleFree()), 0.1)
    step(optimizer, p, 1)
    with optimizer.swapped(), pytest.raises(RavineError, match=r"a step inside swapped\(\) would be undone at its end"):
        optimizer.step()


def test_accumulation_may_be_written_around() -> None:
    assert str(parts("accumulate(adamw(lr=0.1), k=2)")[0].rule) == "accumulate(k=2) + adam + decay"
