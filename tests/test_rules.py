"""Rules: every registered one and every named chain keeps the contract, and equals the papers' algorithm."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import reference
import torch
from torch import Tensor

import ravine
from ravine.checks import RULE_CHECKS, SIZES, check_rule
from ravine.core.composition import COMPOSITIONS, Composition, make_rule
from ravine.core.declared import check_value
from ravine.core.errors import RavineError
from ravine.core.rule import Chain, Rule
from ravine.core.space import Dimension
from ravine.core.spec import parse_links
from ravine.engine.chance import normal_for
from ravine.rules import (
    LAMB,
    LARS,
    SGD,
    Adafactor,
    Adam,
    AdaptiveClip,
    Cautious,
    Decay,
    Momentum,
    Nesterov,
    Prodigy,
    adamw,
    catalogue,
    chain,
)

EVERY: dict[str, Rule] = {name: rule() for name, rule in Rule.registry.items()} | {
    name: composition.rule for name, composition in COMPOSITIONS.items()
}


def elsewhere(rule: Rule) -> Rule:
    """The rule with every number moved from its default, inside its range."""
    for key, value in rule.numbers().items():
        try:
            rule = rule.with_numbers({key: 0.03 if value == 0 else value * 0.83})
        except RavineError:
            rule = rule.with_numbers({key: value * 1.1})
    return rule


def slope(x: float, i: int, t: int) -> float:
    """The gradient of one coordinate: smooth, its own for each, and never the same twice."""
    return (1 + i % 5) * x + math.sin(3 * x + i) + 0.3 * math.cos(i + 7 * t)


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize("check", RULE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", EVERY)
def test_every_rule_keeps_the_contract(name: str, check: Callable[[Rule], None]) -> None:
    check(EVERY[name])
    check(elsewhere(EVERY[name]))


def written(spec: str) -> Rule:
    """The rule of that name, or the one that the spec describes."""
    return EVERY[spec] if spec in EVERY else make_rule(parse_links(spec))


def applies_lr(rule: Rule) -> bool:
    return any(link.applies_lr for link in rule.links)


ONE_BY_ONE = [name for name in EVERY if name not in reference.WHOLE | reference.NOISY | reference.ELSEWHERE]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spec", [*ONE_BY_ONE, *reference.VARIANTS])
def test_every_rule_equals_the_paper(spec: str, size: int) -> None:
    naive = (reference.RULES | reference.VARIANTS).get(spec)
    assert naive, f"write '{spec}' in tests/reference.py, from the paper and not from the code"
    steps = 50 if size <= 63 else 3
    for rule in (written(spec), elsewhere(written(spec))):
        lr = 0.05
        p = torch.nn.Parameter(torch.linspace(-1, 1, size + 1, dtype=torch.float64)[1:].clone())
        optimizer = ravine.Optimizer([p], rule, lr)
        x, gradients = p.tolist(), [[] for _ in range(size)]
        for t in range(steps):
            p.grad = torch.tensor([slope(value, i, t) for i, value in enumerate(p.tolist())], dtype=torch.float64)
            optimizer.step()
            for i in range(size):
                gradients[i].append(slope(x[i], i, t))
                given = rule.numbers() | ({"lr": lr} if applies_lr(rule) else {})
                x[i] -= (1 if applies_lr(rule) else lr) * naive(gradients[i], x[i], **given)
        torch.testing.assert_close(p.detach(), torch.tensor(x, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def double(numbers: list[Any]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize("spec", reference.WHOLE)
def test_every_rule_on_whole_tensors_equals_the_paper(spec: str) -> None:
    """Gradients of all sizes that keep a direction, and a learning rate that changes."""
    for rule in (written(spec), elsewhere(written(spec))):
        torch.manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in ((5, 7), (7,))]
        optimizer = ravine.Optimizer(weights, rule, 0.05)
        gradients, values, rates = [], [], []
        x = [weight.tolist() for weight in weights]
        for t in range(20):
            rates.append(0.2 * (1 + t % 3))
            optimizer.param_groups[0]["lr"] = rates[-1]
            for weight in weights:
                weight.grad = 10.0 ** (t % 5 / 2 - 1) * (torch.randn_like(weight) + 2)
            gradients.append([weight.grad.tolist() for weight in weights])
            values.append(x)
            optimizer.step()
            steps = reference.WHOLE[spec](gradients, values, rates, **rule.numbers())
            scale = 1 if applies_lr(rule) else rates[-1]
            x = [(double(a) - scale * double(u)).tolist() for a, u in zip(x, steps, strict=True)]
        for weight, expected in zip(weights, x, strict=True):
            torch.testing.assert_close(weight.detach(), double(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", reference.NOISY)
def test_every_rule_that_draws_equals_the_paper_of_its_noise(name: str) -> None:
    for rule in (EVERY[name], elsewhere(EVERY[name])):
        p = torch.nn.Parameter(torch.linspace(-1, 1, 63, dtype=torch.float64))
        optimizer, x = ravine.Optimizer([p], rule, 0.05), p.tolist()
        for t in range(20):
            p.grad = torch.tensor([slope(value, i, t) for i, value in enumerate(x)], dtype=torch.float64)
            noise = normal_for(p.detach(), (0, 0, 0, 0), t + 1).tolist()
            optimizer.step()
            numbers = rule.numbers()
            for i, (g, z) in enumerate(zip(p.grad.tolist(), noise, strict=True)):
                x[i] -= 0.05 * reference.NOISY[name]([g], x[i], z, **numbers)
        torch.testing.assert_close(p.detach(), double(x), rtol=1e-12, atol=1e-12)


def test_a_stochastic_sign_is_right_on_average() -> None:
    """Each mean of 40,000 lies within five of its standard errors: wrong in fewer than 3 of 10^5 such tests."""
    for mean in (-1.0, -0.7, 0.0, 0.2, 1.0):
        p = torch.nn.Parameter(torch.zeros(40_000, dtype=torch.float64))
        p.grad = torch.full_like(p, 0.5 * mean)
        ravine.Optimizer([p], make_rule(parse_links("stochastic_sign(b=0.5)")), 1.0).step()
        assert set(p.tolist()) <= {-1.0, 1.0}
        assert abs(-p.detach().mean().item() - mean) <= 5 * math.sqrt((1 - mean**2) / len(p))


def test_nesterov_rests_at_the_look_ahead_point_of_sutskevers_own_form() -> None:
    """v <- mu v - lr grad(theta + mu v), theta <- theta + v (Sutskever et al. 2013, eqs. 3-4); ours is theta + mu v."""
    mu, lr, theta, v = 0.85, 0.03, 0.7, 0.0
    p = torch.nn.Parameter(torch.tensor([theta], dtype=torch.float64))
    optimizer = ravine.Optimizer([p], Nesterov(mu), lr)
    for t in range(50):
        v = mu * v - lr * slope(theta + mu * v, 3, t)
        theta += v
        p.grad = torch.tensor([slope(p.item(), 3, t)], dtype=torch.float64)
        optimizer.step()
        assert p.item() == pytest.approx(theta + mu * v, rel=1e-12)


def moved_from_zero(rule: Rule, gradient: list[float], lr: float) -> list[float]:
    p = torch.nn.Parameter(torch.zeros(len(gradient), dtype=torch.float64))
    p.grad = double(gradient)
    ravine.Optimizer([p], rule, lr).step()
    return [-value for value in p.tolist()]


def test_tensors_of_norm_zero_move_and_stay_where_there_is_no_gradient() -> None:
    """A ratio of norms that would be 0 or 0/0 is 1; Adafactor takes eps2 for the size of weights at zero."""
    assert moved_from_zero(LARS(), [3.0, -4.0], 0.1) == pytest.approx([0.3, -0.4], rel=1e-15)
    assert moved_from_zero(LAMB(), [3.0, -4.0], 0.1) == pytest.approx([0.1, -0.1], rel=1e-6)
    assert moved_from_zero(Adafactor(eps2=0.01), [3.0, -4.0], 0.1) == pytest.approx([0.001, -0.001], rel=1e-12)
    for rule in (LARS(), LAMB(), Adafactor()):
        assert moved_from_zero(rule, [0.0, 0.0], 0.1) == [0.0, 0.0]


def test_caution_holds_what_has_no_gradient_and_keeps_nan() -> None:
    step, gradient, p = double([1.0, 2.0, -3.0, 4.0]), double([1.0, 0.0, -1.0, -1.0]), torch.zeros(4)
    assert Cautious().update(step, p, 1, gradient=gradient)[0].tolist() == [2.0, 0.0, -6.0, 0.0]
    assert Cautious(floor=0.8).update(step, p, 1, gradient=gradient)[0].tolist() == [1.25, 0.0, -3.75, 0.0]
    assert Cautious().update(step, p, 1, gradient=-gradient.sign())[0].tolist() == [0.0, 0.0, 0.0, 4.0 / 0.25]
    assert Cautious().update(double([math.nan, 1.0]), torch.zeros(2), 1, gradient=double([1.0, 1.0]))[0].isnan()[0]


def test_adaptive_clipping_measures_long_units_rightly() -> None:
    """torch's own norm of 8 million float32 numbers is 2e-4 too small on a CPU, of half of them 8e-5."""
    draw = torch.Generator().manual_seed(0)
    for shape in ((8_000_000,), (2, 4_000_000)):
        p, g = (torch.randn(shape, generator=draw) for _ in "pg")
        u, _ = AdaptiveClip(limit=0.01).update(g, p, 1)
        rows = [x.double().reshape(-1, 8_000_000 if len(shape) == 1 else 4_000_000).norm(dim=1) for x in (u, p)]
        torch.testing.assert_close(rows[0], 0.01 * rows[1], rtol=1e-6, atol=0)


def test_a_parameter_that_comes_late_begins_with_the_distance_that_prodigy_has_found() -> None:
    first, late = (torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    optimizer = ravine.Optimizer([first, late], Prodigy(d0=1e-3))
    for t in range(12):
        first.grad = first.detach() + 1
        late.grad = None if t < 10 else first.detach() + 1
        optimizer.step()
        if t >= 10:
            one, two = (optimizer.state[p] for p in (first, late))
            assert one["d"] == two["d"] > 0.01
            assert one["r"] == two["r"]


def test_momentum_without_momentum_is_sgd() -> None:
    g, p = torch.randn(2, 9).unbind()
    for rule in (Momentum(0.0), Nesterov(0.0)):
        assert torch.equal(rule.update(g, p, 1, **rule.init(p))[0], g)


# ---------------------------------------------------------------- the checks find what is broken


Update = Callable[[Tensor, Tensor, int, dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]
Define = Callable[..., type[Rule]]


@pytest.fixture
def define() -> Iterator[Define]:
    """Make a rule class that is known by its name until the test is over."""
    known = dict(Rule.registry)

    def make(do: Update, **facts: object) -> type[Rule]:
        def init(self: Rule, p: Tensor) -> dict[str, Tensor]:
            return {"m": torch.zeros_like(p)}

        def update(self: Rule, g: Tensor, p: Tensor, t: int, **state: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            return do(g, p, t, state)

        body = {"init": init, "update": update, "default_lr": 0.1, "__module__": __name__} | facts
        return dataclass(frozen=True)(type("Broken", (Rule,), body))

    yield make
    Rule.registry.clear()
    Rule.registry.update(known)


MEMORY: list[float] = []


def forgetful(g: Tensor, p: Tensor, t: int, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    MEMORY.append(0.0)
    return g * len(MEMORY), state


BROKEN = [
    ("writes_nothing_in_place", lambda g, p, t, s: (g.mul_(2), s), "'broken' writes into g in place"),
    ("writes_nothing_in_place", lambda g, p, t, s: (g + p.mul_(1.1), s), "'broken' writes into p in place"),
    ("writes_nothing_in_place", lambda g, p, t, s: (s["m"].add_(g), s), "'broken' writes into m in place"),
    ("writes_nothing_in_place", lambda g, p, t, s: (g + 0, {"m": g}), "keeps g itself as its state ['m']: keep a copy"),
    ("keeps_shape", lambda g, p, t, s: (g.flatten(), s), "makes a step (24,) of float32 for a parameter (6, 4) of"),
    ("keeps_shape", lambda g, p, t, s: (g.double(), s), "step (6, 4) of float64 for a parameter (6, 4) of float32"),
    ("keeps_shape", lambda g, p, t, s: (g, {}), "and returns {}"),
    ("keeps_shape", lambda g, p, t, s: (g, {"m": s["m"].sum()}), "and returns {'m': '() of float32'}"),
    ("is_finite_at_zero_gradient", lambda g, p, t, s: (g / g.abs(), s), "is not finite at a zero gradient (step 1"),
    ("is_finite_at_zero_gradient", lambda g, p, t, s: (g, {"m": 1 / g}), "is not finite at a zero gradient (step 1"),
    ("is_the_same_in_pieces", lambda g, p, t, s: (g / g.norm(), s), "has scope 'element' but moves pieces otherwise"),
    ("is_the_same_in_pieces", lambda g, p, t, s: (g.softmax(-1), s), "has scope 'element' but moves pieces otherwise"),
    ("is_the_same_stacked", lambda g, p, t, s: (g if g.sum() > 0 else -g, s), "does not run under torch.func.vmap"),
    ("is_the_same_stacked", forgetful, "moves a stack of parameters otherwise than one by one"),
    ("depends_on_nothing_else", forgetful, "gives another step for the same gradients: keep everything in the state"),
    ("continues_from_a_checkpoint", forgetful, "does not continue from a checkpoint as if it had not stopped"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "do", "message"), BROKEN)
def test_a_broken_rule_is_found(define: Define, check: str, do: Update, message: str) -> None:
    found = {known.__name__: known for known in RULE_CHECKS}[check]
    with pytest.raises(AssertionError) as error:
        found(define(do)())
    assert message in str(error.value)


def test_what_a_rule_declares_must_fit_its_fields(define: Define) -> None:
    def wrong(**facts: object) -> str:
        with pytest.raises(AssertionError) as error:
            check_rule(define(lambda g, p, t, s: (g, s), **facts)())
        return str(error.value)

    number = {"__annotations__": {"beta": float}, "beta": 0.5}
    unit = {"beta": "[0, 1)"}
    assert wrong(ranges=unit) == "'broken' has ranges for ['beta'], no fields of it"
    assert wrong(**number) == "'broken' has no ranges for ['beta']"
    assert wrong(scope="layer") == "'broken' has scope 'layer'; there are element, matrix, tensor"
    assert wrong(space={"alpha": Dimension(1, 2)}) == "'broken' has a search space for ['alpha'], no numbers of it"
    assert wrong(space={"lr": Dimension(1, 2)}).endswith("without its default")
    with pytest.raises(RavineError, match=r"broken: beta must be in \[0, 1\), got 2"):
        check_rule(define(lambda g, p, t, s: (g, s), **number, ranges=unit, space={"beta": Dimension(0.1, 2)})())


def test_a_rule_that_is_no_dataclass_is_found() -> None:
    class Forgotten(SGD, register=False):
        name = "sgd"
        beta: float = 0.5

    with pytest.raises(
        AssertionError, match=r"'sgd' comes back from its own spec as sgd: is it a dataclass with a name\?"
    ):
        check_rule(Forgotten())


def test_a_range_that_is_not_kept_is_found(define: Define) -> None:
    lenient = define(
        lambda g, p, t, s: (g, s),
        __annotations__={"beta": float}, beta=0.5, ranges={"beta": "[0, 1)"}, __post_init__=lambda self: None,
    )  # fmt: skip
    with pytest.raises(AssertionError, match=r"'broken' accepts beta=-5e-324, outside its range \[0, 1\)"):
        check_rule(lenient())


# ---------------------------------------------------------------- ranges and names


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(beta1=1.0), "adam: beta1 must be in [0, 1), got 1.0"),
        (lambda: Adam(beta2=-0.1), "adam: beta2 must be in [0, 1), got -0.1"),
        (lambda: Adam(eps=math.inf), "adam: eps must be in [0, inf), got inf"),
        (lambda: Adam(eps=math.nan), "adam: eps must be in [0, inf), got nan"),
        (lambda: Momentum(dampening=True), "momentum: dampening must be a number, got True"),
        (lambda: Momentum("0.9"), "momentum: momentum must be a number, got '0.9'"),
        (lambda: Decay(None), "decay: weight_decay must be a number, got None"),
        (lambda: adamw(beta1=2), "adam: beta1 must be in [0, 1), got 2"),
        (lambda: adamw(betas=(0.9, 0.99)), "unknown argument of optimizer 'adamw' 'betas': did you mean 'beta2'?"),
        (lambda: make_rule(parse_links("adam(beta3=1)")), "unknown argument of optimizer 'adam' 'beta3': did you mean"),
        (lambda: make_rule(parse_links("adamw(wd=1)")), "unknown argument of optimizer 'adamw' 'wd'"),
        (lambda: make_rule(parse_links("adamm")), "unknown optimizer 'adamm': did you mean 'adam'? Allowed: a"),
        (lambda: make_rule(parse_links("adam(sgd)")), "optimizer 'adam' wraps nothing, found 'sgd' inside its"),
        (lambda: make_rule(parse_links("momentum(momentum='big')")), "momentum: momentum must be a number, got 'big'"),
        (lambda: chain(), "an empty chain moves nothing: give at least one rule, as in chain(Adam())"),
        (lambda: chain(Adam(), 0.1), "a chain is made of rules, got 0.1; write chain(Adam(), Decay(0.1))"),
        (lambda: chain(Adam), "a chain is made of rules, got <class 'ravine.rules.adam.Adam'>"),
        (lambda: Decay().lr, "'decay' only changes another rule's step: chain it to one, as in 'sgd + decay'"),
        (lambda: Composition("adam", Adam(), ""), "the optimizer name 'adam' is taken by a rule"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_rule_is_said(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RavineError) as error:
        make()
    assert str(error.value).startswith(message)


def test_a_rule_name_belongs_to_one_class() -> None:
    before = Rule.registry["adam"]
    with pytest.raises(
        RavineError, match=r"the optimizer name 'adam' belongs to ravine\.rules\.adam\.Adam; give .*Mine an"
    ):

        @dataclass(frozen=True)
        class Mine(Rule):
            name = "adam"

    assert Rule.registry["adam"] is before


def test_a_class_without_a_name_is_called_in_snake_case(define: Define) -> None:
    class PowerSign2Fast(Rule):
        pass

    assert Rule.registry["power_sign2_fast"] is PowerSign2Fast


def test_whole_numbers_choices_and_what_may_be_left_out_are_checked() -> None:
    check_value("k", None, int | None, "[1, inf)")
    check_value("k", 3, int | None, "[1, inf)")
    check_value("flag", False, bool, None)
    for value, kind, interval, message in (
        (0, int | None, "[1, inf)", "k must be in [1, inf), got 0"),
        (1.0, int, "[1, inf)", "k must be a whole number, got 1.0"),
        (True, int, None, "k must be a whole number, got True"),
        (1, bool, None, "k must be true or false, got 1"),
        (1, str, None, "k must be text, got 1"),
        ("1", float | None, None, "k must be a number or none, got '1'"),
        (math.nan, float, None, "k must be a number, got nan"),
    ):
        with pytest.raises(RavineError) as error:
            check_value("k", value, kind, interval)
        assert str(error.value).startswith(message)


# ---------------------------------------------------------------- chains


def test_chains_unroll_and_one_link_stays_itself() -> None:
    adam, decay = Adam(beta2=0.99), Decay(0.1)
    assert chain(adam) is adam
    assert chain(chain(adam, decay), decay) == Chain((adam, decay, decay))
    assert str(chain(adam, decay)) == "adam(beta2=0.99) + decay(weight_decay=0.1)"


def test_a_chain_passes_the_step_of_one_link_to_the_next() -> None:
    g, p = torch.randn(2, 9).unbind()
    double = chain(Momentum(0.5), Momentum(0.25))
    state = double.start(p)
    assert set(state) == {"0.m", "1.m"}
    u, _, state = double.move(g, p, 1, state, 0.1)
    v, scale, state = double.move(g, p, 2, state, 0.1)
    assert scale == 0.1
    assert torch.equal(u, g)
    torch.testing.assert_close(v, 0.25 * g + 1.5 * g)
    torch.testing.assert_close(state["0.m"], 1.5 * g)


def test_numbers_of_a_chain_have_names_of_their_own() -> None:
    both = chain(Decay(0.1), Momentum(0.5), Decay(0.2))
    assert both.numbers() == {"weight_decay": 0.1, "momentum": 0.5, "dampening": 0.0, "weight_decay_2": 0.2}
    changed = both.with_numbers({"weight_decay_2": 0.3, "momentum": 0.6})
    assert changed == chain(Decay(0.1), Momentum(0.6), Decay(0.3))
    assert both.numbers()["momentum"] == 0.5
    assert both.structure() == changed.structure() == "decay + momentum + decay"
    with pytest.raises(RavineError, match=r"decay: weight_decay must be in \[0, inf\), got -1"):
        both.with_numbers({"weight_decay_2": -1})


def test_a_chain_has_the_lr_of_the_first_link_that_has_one() -> None:
    assert chain(Decay(), Momentum(), SGD()).lr == Momentum.default_lr
    assert next(iter(chain(Decay(), Momentum()).dimensions())) == "lr"
    assert chain(Decay(), Momentum()).dimensions()["lr"] == Momentum.space["lr"]


def test_a_chain_has_the_scope_of_its_widest_link(define: Define) -> None:
    assert chain(Adam(), Decay()).scope == "element"
    matrix = define(lambda g, p, t, s: (g, s), scope="matrix")()
    assert chain(Adam(), matrix, Decay()).scope == "matrix"


def test_a_rule_defined_anew_is_the_one_that_is_used(define: Define) -> None:
    """As in a notebook, where a cell is run again."""
    p = torch.nn.Parameter(torch.zeros(3))
    for factor in (1.0, 5.0):
        rule = define(lambda g, p, t, s, factor=factor: (factor * g, s))()
        p.grad = torch.ones(3)
        before = p.detach().clone()
        ravine.Optimizer([p], rule, 0.5).step()
        torch.testing.assert_close(p.detach(), before - 0.5 * factor)


def test_the_catalogue_tells_every_optimizer_once() -> None:
    told = {name: (lr, arguments, what) for name, lr, arguments, what in catalogue()}
    assert set(told) == set(EVERY)
    assert told["decay"][0] is None
    assert told["adamw"][1] == {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}
    assert all(what.endswith(".") for _, _, what in told.values())


def test_compositions_take_the_arguments_of_their_links() -> None:
    rule = adamw(beta2=0.95, weight_decay=0.2)
    assert rule == chain(Adam(beta2=0.95), Decay(0.2))
    assert make_rule(parse_links("adamw(beta2=0.95, weight_decay=0.2)")) == rule


def test_rules_are_values() -> None:
    assert Adam(beta1=0.8) == Adam(beta1=0.8) != Adam()
    assert len({Adam(), Adam(), SGD()}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Adam().beta1 = 0.5  # type: ignore[misc]


# ---------------------------------------------------------------- where a race looks


def test_a_dimension_is_a_line_from_low_to_high() -> None:
    lr = Dimension(1e-4, 1e-1)
    assert [lr.at(f) for f in (0, 1 / 3, 1)] == pytest.approx([1e-4, 1e-3, 1e-1])
    assert lr.fraction(1e-2) == pytest.approx(2 / 3)
    beta = Dimension(0.9, 0.999, "log1m")
    assert [beta.at(f) for f in (0, 0.5, 1)] == pytest.approx([0.9, 0.99, 0.999])
    assert beta.fraction(0.99) == pytest.approx(0.5)


def test_beyond_a_dimension_lies_a_quarter_of_its_width() -> None:
    lr = Dimension(1e-4, 1)
    assert lr.beyond(1e-2) is None
    low, high = lr.beyond(2e-4), lr.beyond(0.9)
    assert (low.low, low.high) == pytest.approx((1e-5, 1e-4))  # type: ignore[union-attr]
    assert (high.low, high.high) == pytest.approx((1, 10))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("low", "high", "scale", "message"),
    [
        (1, 1, "log", "a dimension needs low < high"),
        (0, 1, "log", "a dimension needs low < high, both inside the scale"),
        (0.5, 1, "log1m", "a dimension needs low < high, both inside the scale"),
        (1, 2, "linear", "a dimension's scale is 'log', 'log1m' or 'ends', got 'linear'"),
    ],
)
def test_a_dimension_that_is_none_is_refused(low: float, high: float, scale: str, message: str) -> None:
    with pytest.raises(RavineError) as error:
        Dimension(low, high, scale)
    assert str(error.value).startswith(message)
