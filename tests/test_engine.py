"""What the engine does beyond one update: lr inside a state, sums over all parameters, swapping, numbers not finite."""

import copy
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ravine
from ravine import optim
from ravine.assembly import parts
from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.engine.execution import cannot_compile
from ravine.engine.finite import NonFinite
from ravine.probes import UpdateRatio
from ravine.rules import Adam, ClipNorm, Decay, DeltaBarDelta, Momentum, Nesterov, RMSProp, Rprop, chain

F64 = torch.float64
RATES = [0.03, 0.05, 0.01, 0.0, 0.02, 0.04]


def slope(x: float, t: int) -> float:
    return 2 * x + math.sin(5 * x) + 0.3 * math.cos(7 * t)


def walked(rule: Rule, judged: bool) -> list[float]:
    """Where one parameter stands after each step, at learning rates that change."""
    p = nn.Parameter(torch.tensor([0.7], dtype=F64))
    optimizer = ravine.Optimizer([p], rule, RATES[0])
    places = []
    for t, lr in enumerate(RATES):
        optimizer.param_groups[0]["lr"] = lr
        p.grad = torch.tensor([slope(p.item(), t)], dtype=F64)
        optimizer.step()
        rests = p.item()
        with optimizer.swapped():
            places.append(p.item() if judged else rests)
        assert p.item() == rests
    return places


def test_the_books_momentum_remembers_the_rates_of_the_past() -> None:
    """Algorithm 8.2: v <- alpha v - eps g, theta <- theta + v."""
    theta, v, places = 0.7, 0.0, []
    for t, lr in enumerate(RATES):
        v = 0.8 * v - lr * slope(theta, t)
        theta += v
        places.append(theta)
    assert walked(Momentum(0.8, form="book"), True) == pytest.approx(places, rel=1e-12)


def test_the_books_nesterov_takes_its_gradient_at_the_look_ahead_point() -> None:
    """Algorithm 8.3: g at theta + alpha v, v <- alpha v - eps g, theta <- theta + v."""
    theta, v, places, ahead = 0.7, 0.0, [], []
    for t, lr in enumerate(RATES):
        v = 0.8 * v - lr * slope(theta + 0.8 * v, t)
        theta += v
        places.append(theta)
        ahead.append(theta + 0.8 * v)
    assert walked(Nesterov(0.8, form="book"), True) == pytest.approx(places, rel=1e-12)
    assert walked(Nesterov(0.8, form="book"), False) == pytest.approx(ahead, rel=1e-12)


@pytest.mark.parametrize(("where", "eps"), [("outside", 1e-3), ("inside", 1e-3)])
def test_rmsprop_with_nesterov_momentum_is_the_books(where: str, eps: float) -> None:
    """Algorithm 8.6, with the constant that it leaves out."""
    theta, v, r, places = 0.7, 0.0, 0.0, []
    for t, lr in enumerate(RATES):
        g = slope(theta + 0.8 * v, t)
        r = 0.9 * r + 0.1 * g * g
        v = 0.8 * v - lr * g / (math.sqrt(r + eps) if where == "inside" else math.sqrt(r) + eps)
        theta += v
        places.append(theta)
    spec = f"rmsprop(rho=0.9, eps={eps}, where='{where}', momentum=0.8, nesterov=true)"
    rule = parts(spec)[0].rule
    assert rule == chain(RMSProp(0.9, eps, where), Nesterov(0.8, "book"))
    assert walked(rule, True) == pytest.approx(places, rel=1e-12)


def test_a_centered_rmsprop_divides_by_the_standard_deviation() -> None:
    r = m = 0.0
    theta, places = 0.7, []
    for t, lr in enumerate(RATES):
        g = slope(theta, t)
        r, m = 0.9 * r + 0.1 * g * g, 0.9 * m + 0.1 * g
        theta -= lr * g / (math.sqrt(r - m * m) + 1e-3)
        places.append(theta)
    assert walked(RMSProp(0.9, 1e-3, centered=True), True) == pytest.approx(places, rel=1e-12)


def test_decay_behind_a_rule_that_applies_lr_is_the_same_share_as_elsewhere() -> None:
    p, g = torch.randn(2, 9, dtype=F64).unbind()
    for rule in (Momentum(0.9, form="book"), Momentum(0.9)):
        q = nn.Parameter(p.clone())
        q.grad = g.clone()
        ravine.Optimizer([q], chain(rule, Decay(0.1)), 0.5).step()
        torch.testing.assert_close(q.detach(), p - 0.5 * (g + 0.1 * p), rtol=1e-14, atol=1e-14)


def test_a_chain_applies_the_learning_rate_once() -> None:
    with pytest.raises(RavineError, match="'rprop' and 'delta_bar_delta' both apply the learning rate"):
        chain(Rprop(), DeltaBarDelta())


def test_a_form_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RavineError, match="unknown form of optimizer 'nesterov' 'boook': did you mean 'book'"):
        Nesterov(form="boook")
    with pytest.raises(RavineError, match="dampening belongs to form"):
        Momentum(0.9, 0.1, form="book")
    with pytest.raises(RavineError, match="nesterov=true needs a momentum"):
        parts("rmsprop(nesterov=true)")
    with pytest.raises(RavineError, match="rmsprop: nesterov must be true or false, got 1"):
        parts("rmsprop(nesterov=1, momentum=0.9)")


# ---------------------------------------------------------------- sums over all parameters


def test_the_global_norm_is_that_of_all_groups_and_equals_torchs() -> None:
    ps = [torch.randn(3, 4), torch.randn(5), torch.randn(2)]
    gs = [torch.randn_like(p) * 3 for p in ps]
    ours, theirs = ([nn.Parameter(p.clone()) for p in ps] for _ in range(2))
    rule = chain(ClipNorm(0.7), Adam())
    groups = [{"params": ours[:1]}, {"params": ours[1:], "lr": 0.02}]
    optimizer = ravine.Optimizer(groups, rule, 0.01)
    reference = torch.optim.Adam([{"params": theirs[:1]}, {"params": theirs[1:], "lr": 0.02}], 0.01)
    for scale in (1.0, 0.01, 5.0):
        for p, q, g in zip(ours, theirs, gs, strict=True):
            p.grad, q.grad = g * scale, g * scale
        before = [p.grad.clone() for p in ours]
        torch.nn.utils.clip_grad_norm_(theirs, 0.7)
        optimizer.step()
        reference.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(ours, before, strict=True))
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


def test_a_norm_of_steps_is_taken_of_what_the_links_before_made() -> None:
    p = nn.Parameter(torch.zeros(4, dtype=F64))
    p.grad = torch.tensor([3.0, -1.0, 2.0, 0.5], dtype=F64)
    ravine.Optimizer([p], chain(Adam(eps=0.0), ClipNorm(1.0)), 1.0).step()
    torch.testing.assert_close(p.detach().norm(), torch.tensor(1.0, dtype=F64), rtol=1e-5, atol=0)


# ---------------------------------------------------------------- numbers that are not finite


def spoiled(value: float, **options: str) -> tuple[nn.Linear, ravine.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = ravine.Optimizer(model.named_parameters(), chain(ClipNorm(1.0), Adam()), 0.1, **options)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    model.bias.grad = torch.tensor([1.0, value])
    return model, optimizer


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_named_and_changes_nothing(value: float) -> None:
    model, optimizer = spoiled(value)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    found = "1 NaN and 0 infinite" if value != value else "0 NaN and 1 infinite"
    with pytest.raises(NonFinite, match=f"of parameter 'bias' is not finite at its step 2 .{found} of 2.; noth"):
        optimizer.step()
    after = (model.state_dict(), optimizer.state_dict())
    assert str(before) == str(after)


def test_such_a_step_can_be_skipped_and_is_counted() -> None:
    model, optimizer = spoiled(math.nan, nonfinite="skip")
    before = copy.deepcopy(model.state_dict())
    optimizer.step()
    assert (optimizer.skipped, optimizer.state[model.bias]["step"], optimizer.param_groups[0]["steps"]) == (1, 1, 1)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    again = pickle.loads(pickle.dumps(optimizer))
    assert (again.nonfinite, again.skipped) == ("skip", 1)


def test_or_taken_as_it_is() -> None:
    model, optimizer = spoiled(math.nan, nonfinite="ignore")
    optimizer.step()
    assert model.bias.isnan().any()


def test_a_parameter_that_is_not_finite_is_found_before_it_first_moves() -> None:
    p = nn.Parameter(torch.tensor([1.0, math.inf]))
    p.grad = torch.ones(2)
    with pytest.raises(NonFinite, match="parameter '0 of group 0' is not finite before its first step"):
        optim.SGD([p]).step()


def test_large_numbers_are_finite() -> None:
    p = nn.Parameter(torch.zeros(4))
    p.grad = torch.full((4,), 1e30)  # the norm overflows in float32
    optim.SGD([p], 1e-30).step()
    torch.testing.assert_close(p.detach(), torch.full((4,), -1.0))


def test_another_choice_is_refused() -> None:
    with pytest.raises(RavineError, match="unknown choice of nonfinite= 'rise': did you mean 'raise'"):
        ravine.Optimizer([nn.Parameter(torch.zeros(1))], Adam(), nonfinite="rise")


# ---------------------------------------------------------------- rates of their own


@pytest.mark.parametrize("make", [Rprop, DeltaBarDelta])
def test_a_weight_that_comes_late_starts_from_lr(make: Callable[[], Rule]) -> None:
    early, late = (nn.Parameter(torch.ones(3, dtype=F64)) for _ in range(2))
    optimizer = ravine.Optimizer([early, late], make(), 0.03)
    early.grad = torch.ones(3, dtype=F64)
    for _ in range(4):
        optimizer.step()
    late.grad = torch.ones(3, dtype=F64)
    optimizer.step()
    torch.testing.assert_close(late.detach(), torch.full((3,), 0.97, dtype=F64))


def test_delta_bar_delta_finds_a_rate_for_each_axis_of_a_ravine() -> None:
    """Jacobs' point: where curvatures differ a hundredfold, rates of their own go on where one rate cannot."""
    curvature = torch.tensor([1.0, 100.0], dtype=F64)

    def left(rule: Rule, lr: float) -> float:
        p = nn.Parameter(torch.ones(2, dtype=F64))
        optimizer = ravine.Optimizer([p], rule, lr)
        for _ in range(200):
            p.grad = curvature * p.detach()
            optimizer.step()
        return float((curvature * p.detach() ** 2).sum())

    assert left(DeltaBarDelta(kappa=0.005), 0.005) < 1e-3 * left(ravine.rules.SGD(), 0.005)


def test_train_judges_at_the_parameters_that_count() -> None:
    task = ravine.task("quadratic")
    book, torchs = (
        [moment.metric for moment in ravine.train(task, Nesterov(0.9, form), lr=1e-3, steps=40, every=10)]
        for form in ("book", "torch")
    )
    assert book[0] == torchs[0]
    assert all(a != b for a, b in zip(book[1:], torchs[1:], strict=True))


def test_a_probe_looks_where_the_gradient_was_taken() -> None:
    """Until lr changes both forms rest at the same points, so that a probe finds the same in both."""
    task = ravine.task("quadratic")
    book, torchs = (
        [m.probes for m in ravine.train(task, Nesterov(0.9, form), lr=1e-3, steps=40, every=10, probes=[UpdateRatio()])]
        for form in ("book", "torch")
    )
    assert [list(found) for found in book] == [list(found) for found in torchs]
    for a, b in zip(book, torchs, strict=True):
        assert list(a.values()) == pytest.approx(list(b.values()), rel=1e-3)


def test_only_a_rule_that_judges_elsewhere_is_swapped() -> None:
    assert [rule.judges_elsewhere for rule in (Nesterov(), Adam(), Nesterov(form="book"))] == [False, False, True]
    assert chain(RMSProp(), Nesterov(form="book")).judges_elsewhere
    assert not chain(RMSProp(), Nesterov()).judges_elsewhere


# ---------------------------------------------------------------- what cannot be optimized

P = nn.Parameter(torch.ones(2))


def test_complex_weights_and_rules_that_look_at_whole_tensors_do_not_go_together() -> None:
    p = nn.Parameter(torch.ones(3, 2, dtype=torch.complex64))
    p.grad = torch.ones_like(p)
    optimizer = ravine.Optimizer([p], parts("centralize + sgd")[0].rule, 0.1)
    with pytest.raises(RavineError, match=r"'centralize \+ sgd' looks at whole tensors.*use one that looks"):
        optimizer.step()
    assert torch.equal(p.detach(), torch.ones(3, 2, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("params", "error", "said"),
    [
        (list, ValueError, "empty parameter list"),
        (lambda: iter(()), ValueError, "empty parameter list"),  # a generator used up
        (lambda: [torch.ones(1, requires_grad=True) * 2], ValueError, "non-leaf"),
        (lambda: [{"params": [P]}, {"params": [P]}], ValueError, "more than one parameter group"),
        (lambda: [P, P], (ValueError, UserWarning), "duplicate parameters"),
        (lambda: [3], TypeError, "can only optimize Tensors"),
    ],
)
def test_what_is_no_list_of_parameters_is_refused(params: Callable[[], object], error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        ravine.Optimizer(params(), Adam(), 0.1)


# ---------------------------------------------------------------- loss, noise, refreshing


@dataclass(frozen=True)
class Polyak(Rule, register=False):
    """Polyak's step size for a minimum of 0: loss / ||g||^2, over all parameters."""

    name = "test_polyak"
    needs = frozenset({"loss"})
    default_lr = 1.0

    def summarize(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> dict[str, Tensor]:
        return {"square": g.double().square().sum()}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return g * (state["loss"] / state["totals"]["square"]), {}


@dataclass(frozen=True)
class Noisy(Rule, register=False):
    name = "test_noisy"
    needs = frozenset({"noise"})
    default_lr = 1.0

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return g + state["noise"], {}


@dataclass(frozen=True)
class Remembering(Rule, register=False):
    """Steps along the gradient of steps 1, 4, 7, ..."""

    name = "test_remembering"
    default_lr = 1.0

    @property
    def refreshes_every(self) -> int:
        return 3

    def init(self, p: Tensor) -> dict[str, Tensor]:
        return {"kept": torch.zeros_like(p)}

    def refresh(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> dict[str, Tensor]:
        return {"kept": g.clone()}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return state["kept"], {}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules of above, known by name for as long as a test takes."""
    for rule in (Polyak, Noisy, Remembering):
        monkeypatch.setitem(Rule.registry, rule.name, rule)


def test_a_rule_may_need_the_loss(known: None) -> None:
    ps = [nn.Parameter(torch.tensor([3.0, -1.0], dtype=F64)), nn.Parameter(torch.tensor([2.0], dtype=F64))]
    optimizer = ravine.Optimizer(ps, chain(Polyak(), ClipNorm(1e9)), 1.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = sum((p.square().sum() for p in ps), torch.zeros(()))
        loss.backward()
        return loss

    assert optimizer.step(closure) == 14
    torch.testing.assert_close(torch.cat([p.detach() for p in ps]), torch.tensor([1.5, -0.5, 1.0], dtype=F64))
    with pytest.raises(RavineError, match=r"needs the loss: give step a closure that returns it, as in step"):
        optimizer.step()
    with pytest.raises(RavineError, match="needs the loss: give step a closure that returns it"):
        optimizer.step(lambda: None)  # type: ignore[arg-type,return-value]


def test_a_rule_may_need_noise_which_is_the_same_when_resumed(known: None) -> None:
    def run(steps: range, state: dict[str, Any] | None, start: list[Tensor]) -> tuple[dict[str, Any], list[Tensor]]:
        ps = [nn.Parameter(x.clone()) for x in start]
        optimizer = ravine.Optimizer(ps, chain(Noisy(), Noisy()), 0.1)
        if state:
            optimizer.load_state_dict(state)
        for _ in steps:
            for p in ps:
                p.grad = torch.zeros_like(p)
            optimizer.step()
        return optimizer.state_dict(), [p.detach() for p in ps]

    zeros = [torch.zeros(2000), torch.zeros(2000)]
    _, whole = run(range(4), None, zeros)
    half = run(range(2), None, zeros)
    assert all(map(torch.equal, run(range(2), *half)[1], whole))
    assert not torch.equal(whole[0], whole[1])
    assert whole[0].std().item() == pytest.approx(0.1 * math.sqrt(8), rel=0.1)  # four steps of two links


@pytest.mark.parametrize("way", ["loop"] if cannot_compile("cpu") else ["loop", "compiled"])
def test_a_rule_may_refresh_what_is_dear_now_and_then(known: None, way: str) -> None:
    ps = [nn.Parameter(torch.zeros(3, dtype=F64)) for _ in "12"]
    optimizer = ravine.Optimizer(ps, chain(Remembering(), Momentum(0.0)), 1.0, execution=way)
    places = []
    for step in range(1, 8):
        for p in ps:
            p.grad = torch.full((3,), float(step), dtype=F64)
        optimizer.step()
        places.append(-ps[1][2].item())
    assert places == [1, 2, 3, 7, 11, 15, 22]


def test_a_link_behind_one_that_refreshes_sums_what_comes_of_it(known: None) -> None:
    p = nn.Parameter(torch.zeros(1, dtype=F64))
    optimizer = ravine.Optimizer([p], chain(Remembering(), ClipNorm(0.5)), 1.0)
    p.grad = torch.tensor([3.0], dtype=F64)
    optimizer.step()
    assert p.item() == pytest.approx(-0.5, rel=1e-6)


def test_what_a_kernel_cannot_have_is_said(known: None) -> None:
    p = nn.Parameter(torch.zeros(3))
    p.grad = torch.ones(3)
    with pytest.raises(RavineError, match="needs the loss, noise or products at every step, which kernels do not have"):
        ravine.Optimizer([p], Noisy(), 1.0, execution="compiled").step()
