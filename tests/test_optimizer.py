"""The engine: equal to torch.optim, continued to the bit, and refusing before anything has changed."""

import copy
import io
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

import ravine
from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.rules import SGD, Adam, AMSGrad, Decay, Momentum, NAdam, Nesterov, chain
from ravine.schedules import constant, cosine, linear, warmup

F64 = torch.float64
Make = Callable[[Any], torch.optim.Optimizer]


@pytest.fixture
def in_float64() -> Iterator[None]:
    """torch's NAdam keeps the product of its momenta in the default dtype."""
    torch.set_default_dtype(F64)
    yield
    torch.set_default_dtype(torch.float32)


def mlp(dtype: torch.dtype = F64) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3)).to(dtype)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def run(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range = range(50)) -> Tensor:
    """The weights after training on batches that depend on the number of the step only."""
    p = next(model.parameters())
    for k in steps:
        draw = torch.Generator().manual_seed(k)
        x = torch.randn(16, 5, generator=draw, dtype=F64).to(p.dtype)
        y = torch.randn(16, 3, generator=draw, dtype=F64).to(p.dtype)
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    return weights(model)


def trained(make: Make, steps: int = 50) -> Tensor:
    model = mlp()
    return run(model, make(model.parameters()), range(steps))


def saved(content: Any) -> Any:
    """What a checkpoint on disk gives back."""
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def stuck(p: nn.Parameter, value: float = 1.0) -> nn.Parameter:
    p.grad = torch.full_like(p, value)
    return p


# ---------------------------------------------------------------- the same numbers as torch.optim

PENALTY = chain(Decay(0.1), Adam(0.8, 0.99))
CASES: dict[str, tuple[Make, Rule, dict[str, Any]]] = {
    "sgd": (lambda p: torch.optim.SGD(p, 0.1), SGD(), {"lr": 0.1}),
    "sgd decay": (lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.3), chain(Decay(0.3), SGD()), {"lr": 0.1}),
    "sgd maximize": (lambda p: torch.optim.SGD(p, 0.01, maximize=True), SGD(), {"lr": 0.01, "maximize": True}),
    "momentum": (lambda p: torch.optim.SGD(p, 0.1, 0.9), Momentum(0.9), {"lr": 0.1}),
    "dampening": (lambda p: torch.optim.SGD(p, 0.1, 0.9, 0.4), Momentum(0.9, 0.4), {"lr": 0.1}),
    "momentum decay": (
        lambda p: torch.optim.SGD(p, 0.1, 0.9, 0.4, 0.2), chain(Decay(0.2), Momentum(0.9, 0.4)), {"lr": 0.1}
    ),
    "nesterov": (lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True), Nesterov(0.9), {"lr": 0.1}),
    "nesterov decay": (
        lambda p: torch.optim.SGD(p, 0.1, 0.9, 0, 0.2, nesterov=True), chain(Decay(0.2), Nesterov(0.9)), {"lr": 0.1}
    ),
    "adam": (lambda p: torch.optim.Adam(p, 0.01), Adam(), {"lr": 0.01}),
    "adam settings": (lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.95), 1e-4), Adam(0.8, 0.95, 1e-4), {"lr": 0.01}),
    "adam penalty": (lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.99), weight_decay=0.1), PENALTY, {"lr": 0.01}),
    "adam maximize": (
        lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.99), weight_decay=0.1, maximize=True),
        PENALTY,
        {"lr": 0.01, "maximize": True},
    ),
    "amsgrad": (lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.9), amsgrad=True), AMSGrad(0.8, 0.9), {"lr": 0.01}),
    "adamw": (lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.3), chain(Adam(), Decay(0.3)), {"lr": 0.01}),
    "nadam": (lambda p: torch.optim.NAdam(p, 0.01), NAdam(), {"lr": 0.01}),
    "nadam settings": (
        lambda p: torch.optim.NAdam(p, 0.01, (0.8, 0.9), 1e-4, momentum_decay=0.1),
        NAdam(0.8, 0.9, 1e-4, 0.1),
        {"lr": 0.01},
    ),
    "nadamw": (
        lambda p: torch.optim.NAdam(p, 0.01, weight_decay=0.3, decoupled_weight_decay=True),
        chain(NAdam(), Decay(0.3)),
        {"lr": 0.01},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_equals_torch_over_50_steps(in_float64: None, name: str) -> None:
    theirs, rule, keywords = CASES[name]
    expected = trained(theirs)
    assert (expected - weights(mlp())).abs().max() > 0.01  # something was learnt
    torch.testing.assert_close(
        trained(lambda p: ravine.Optimizer(p, rule, **keywords)), expected, rtol=1e-12, atol=1e-12
    )  # fmt: skip


def test_the_rules_of_groups_are_their_own() -> None:
    """Each group's parameters move as under an optimizer of their own."""
    model, alone = mlp(), mlp()
    torch.manual_seed(0)
    groups = [
        {"params": model[0].parameters(), "rule": chain(Adam(), Decay(0.1)), "lr": 0.01, "beta1": 0.8},
        {"params": model[2].parameters(), "rule": Momentum(), "momentum": 0.5, "schedule": linear(20)},
        {"params": model[4].parameters(), "maximize": True},
    ]
    optimizer = ravine.Optimizer(groups, SGD(), lr=0.02)
    others = [
        ravine.Optimizer(alone[0].parameters(), chain(Adam(0.8), Decay(0.1)), 0.01),
        ravine.Optimizer(alone[2].parameters(), Momentum(0.5), 0.02, linear(20)),
        ravine.Optimizer(alone[4].parameters(), SGD(), 0.02, maximize=True),
    ]
    for _ in range(30):
        for a, b in zip(model.parameters(), alone.parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for one in (optimizer, *others):
            one.step()
    assert torch.equal(weights(model), weights(alone))


# ---------------------------------------------------------------- what is in param_groups


def test_numbers_stand_in_param_groups_and_take_effect() -> None:
    p, q = (nn.Parameter(torch.ones(4, dtype=F64)) for _ in range(2))
    a = ravine.Optimizer([p], chain(Adam(), Decay(0.1)), lr=0.1)
    group = a.param_groups[0]
    assert {k: v for k, v in group.items() if k != "params"} == {
        "rule": "adam + decay", "lr": 0.1, "schedule": "constant", "steps": 0, "maximize": False,
        "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.1,
    }  # fmt: skip
    group.update(beta1=0.5, weight_decay=0.3)
    b = ravine.Optimizer([q], chain(Adam(0.5), Decay(0.3)), lr=0.1)
    for value in (1.0, -2.0, 0.5):
        stuck(p, value), stuck(q, value)
        a.step(), b.step()
    assert torch.equal(p, q)
    assert group["steps"] == 3


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("beta1", 1.0, "adam: beta1 must be in [0, 1), got 1.0"),
        ("beta1", -0.1, "adam: beta1 must be in [0, 1), got -0.1"),
        ("beta1", math.nan, "adam: beta1 must be in [0, 1), got nan"),
        ("beta1", "0.9", "adam: beta1 must be a number, got '0.9'"),
        ("lr", -1e-3, "lr must be in [0, inf), got -0.001"),
        ("lr", math.nan, "lr must be in [0, inf), got nan"),
        ("lr", math.inf, "lr must be in [0, inf), got inf"),
    ],
)
def test_a_value_out_of_range_raises_before_anything_has_moved(key: str, value: object, message: str) -> None:
    model = mlp()
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters()}]
    optimizer = ravine.Optimizer(groups, Adam())
    for p in model.parameters():
        stuck(p)
    before = weights(model)
    optimizer.param_groups[1][key] = value
    with pytest.raises(RavineError) as error:
        optimizer.step()
    assert str(error.value) == message
    assert torch.equal(weights(model), before)
    assert not optimizer.state
    assert [group["steps"] for group in optimizer.param_groups] == [0, 0]


def test_lr_is_the_rules_own_unless_given() -> None:
    p, q, r = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    optimizer = ravine.Optimizer([{"params": [p]}, {"params": [q], "rule": SGD()}], Adam())
    optimizer.add_param_group({"params": [r], "rule": chain(Decay(), Momentum())})
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 0.1, 0.01]
    given = ravine.Optimizer([{"params": [p]}, {"params": [q], "rule": SGD()}], Adam(), lr=0.5)
    assert [group["lr"] for group in given.param_groups] == [0.5, 0.5]


def test_a_rule_may_be_given_as_text_in_a_group() -> None:
    p = nn.Parameter(torch.zeros(2))
    optimizer = ravine.Optimizer([{"params": [p], "rule": "adam(beta1=0.5) + decay", "beta2": 0.9}], SGD(), lr=0.1)
    group = optimizer.param_groups[0]
    assert (group["rule"], group["beta1"], group["beta2"], group["weight_decay"]) == ("adam + decay", 0.5, 0.9, 0.01)


P = nn.Parameter(torch.zeros(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ravine.Optimizer([P], Adam), "rule must be a rule such as ravine.rules.Adam(), got <class"),
        (lambda: ravine.Optimizer([P], "adam"), "rule must be a rule such as ravine.rules.Adam(), got 'adam'"),
        (lambda: ravine.Optimizer([P], SGD(), lr=-0.1), "lr must be in [0, inf), got -0.1"),
        (lambda: ravine.Optimizer([P], SGD(), lr=math.nan), "lr must be in [0, inf), got nan"),
        (lambda: ravine.Optimizer([P], SGD(), lr="0.1"), "lr must be a number, got '0.1'"),
        (lambda: ravine.Optimizer([P], SGD(), lr=True), "lr must be a number, got True"),
        (
            lambda: ravine.Optimizer([P], Decay(0.2)),
            "'decay(weight_decay=0.2)' only changes another rule's step: chain it to one, as in 'sgd + decay(weight_de",
        ),
        (
            lambda: ravine.Optimizer([{"params": [P], "beta3": 0.9}], Adam()),
            "unknown hyperparameter of 'adam' 'beta3': did you mean 'beta2'? Allowed: beta1, beta2, eps, lr.",
        ),
        (
            lambda: ravine.Optimizer([{"params": [P], "weight_decay": 0.1}], Adam()),
            "unknown hyperparameter of 'adam' 'weight_decay': Allowed: beta1, beta2, eps, lr.",
        ),
        (
            lambda: ravine.Optimizer([{"params": [P], "beta1": 1.5}], Adam()),
            "adam: beta1 must be in [0, 1), got 1.5",
        ),
        (
            lambda: ravine.Optimizer([{"params": [P], "rule": 3}], Adam()),
            "a group's rule must be a rule such as ravine.rules.Adam(), got 3",
        ),
        (
            lambda: ravine.Optimizer([{"params": [P], "rule": "adamm"}], Adam()),
            "unknown optimizer 'adamm': did you mean 'adam'?",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_optimizer_is_said(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RavineError) as error:
        make()
    assert str(error.value).startswith(message)


def test_a_group_that_is_refused_is_not_added() -> None:
    optimizer = ravine.Optimizer([P], SGD())
    q = nn.Parameter(torch.zeros(2))
    with pytest.raises(RavineError, match="unknown hyperparameter of 'sgd' 'momentum'"):
        optimizer.add_param_group({"params": [q], "momentum": 0.9})
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        optimizer.add_param_group({"params": [P]})
    assert len(optimizer.param_groups) == 1


def test_a_group_added_later_starts_its_own_schedule_and_leaves_the_callers_dict_alone() -> None:
    p, q = (nn.Parameter(torch.zeros(1, dtype=F64)) for _ in range(2))
    optimizer = ravine.Optimizer([p], SGD(), lr=1.0, schedule=warmup(4))
    stuck(p)
    optimizer.step()
    group = {"params": [q], "lr": 2.0}
    optimizer.add_param_group(group)
    stuck(p), stuck(q)
    optimizer.step()
    assert (p.item(), q.item()) == (-0.25 - 0.5, -0.5)
    assert group == {"params": [q], "lr": 2.0}


# ---------------------------------------------------------------- one step


def test_p_grad_is_the_same_before_and_after() -> None:
    for name, (_, rule, keywords) in CASES.items():
        p = nn.Parameter(torch.randn(9, dtype=F64))
        optimizer = ravine.Optimizer([p], rule, **keywords)
        for _ in range(3):
            p.grad = torch.randn(9, dtype=F64)
            before, at = p.grad.clone(), p.grad.data_ptr()
            optimizer.step()
            assert torch.equal(p.grad, before), name
            assert p.grad.data_ptr() == at, name


def test_gradients_zeroed_in_place_leave_the_state_alone() -> None:
    for _, rule, keywords in CASES.values():
        p = nn.Parameter(torch.randn(9, dtype=F64))
        optimizer = ravine.Optimizer([p], rule, **keywords)
        stuck(p)
        optimizer.step()
        before = {key: copy.deepcopy(value) for key, value in optimizer.state[p].items()}
        optimizer.zero_grad(set_to_none=False)
        assert torch.equal(p.grad, torch.zeros_like(p))
        assert all(torch.equal(torch.as_tensor(before[k]), torch.as_tensor(v)) for k, v in optimizer.state[p].items())


def test_zero_grad() -> None:
    optimizer = ravine.Optimizer([stuck(nn.Parameter(torch.zeros(3)))], SGD())
    optimizer.zero_grad()
    assert optimizer.param_groups[0]["params"][0].grad is None


def test_a_parameter_without_a_gradient_is_untouched() -> None:
    p, q = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = ravine.Optimizer([p, q], chain(Adam(), Decay(0.5)), lr=0.1)
    stuck(p)
    optimizer.step()
    assert torch.equal(q, torch.ones(3))
    assert list(optimizer.state) == [p]


def test_a_zero_gradient_is_not_no_gradient() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = ravine.Optimizer([p], chain(SGD(), Decay(0.5)), lr=0.1)
    stuck(p, 0.0)
    optimizer.step()
    torch.testing.assert_close(p.detach(), torch.full((3,), 0.95))


@pytest.mark.parametrize("name", CASES)
def test_a_late_first_gradient_has_its_own_bias_correction(name: str) -> None:
    _, rule, keywords = CASES[name]
    early, late, fresh = (nn.Parameter(torch.linspace(-1, 1, 9, dtype=F64)) for _ in range(3))
    both, alone = ravine.Optimizer([early, late], rule, **keywords), ravine.Optimizer([fresh], rule, **keywords)
    for k in range(20):
        early.grad = torch.randn(9, dtype=F64)
        if k >= 15:
            late.grad = torch.randn(9, dtype=F64)
            fresh.grad = late.grad.clone()
            alone.step()
        both.step()
    assert torch.equal(late, fresh)
    assert not torch.equal(early, late)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CASES)
def test_low_precision_weights_are_rounded_once(name: str, dtype: torch.dtype) -> None:
    """A step of a low-precision weight is the step of its float32 copy, rounded; the state stays in float32."""
    _, rule, keywords = CASES[name]
    start, g = torch.randn(1001).to(dtype), torch.randn(1001).to(dtype)
    low, high = nn.Parameter(start.clone()), nn.Parameter(start.float())
    low.grad, high.grad = g.clone(), g.float()
    a, b = ravine.Optimizer([low], rule, **keywords), ravine.Optimizer([high], rule, **keywords)
    a.step(), b.step()
    assert low.dtype == dtype
    assert torch.equal(low, high.to(dtype))
    assert low.isfinite().all()
    assert not torch.equal(low, start)
    for key, value in b.state[high].items():
        assert torch.equal(torch.as_tensor(a.state[low][key]), torch.as_tensor(value))
    other = ravine.Optimizer([low], rule, **keywords)
    other.load_state_dict(saved(a.state_dict()))
    assert all(torch.as_tensor(value).dtype != dtype for value in other.state[low].values())


@pytest.mark.parametrize("name", CASES)
def test_complex_weights_move_as_pairs_of_real_ones(name: str) -> None:
    _, rule, keywords = CASES[name]
    start = torch.randn(5, dtype=torch.complex128)
    whole, parts = nn.Parameter(start.clone()), nn.Parameter(torch.view_as_real(start).clone())
    a, b = ravine.Optimizer([whole], rule, **keywords), ravine.Optimizer([parts], rule, **keywords)
    for _ in range(3):
        whole.grad = torch.randn(5, dtype=torch.complex128)
        parts.grad = torch.view_as_real(whole.grad).clone()
        a.step(), b.step()
    assert torch.equal(torch.view_as_real(whole.detach()), parts)
    assert not torch.equal(whole, start)


def test_weights_that_are_not_contiguous_move_too() -> None:
    a, b = nn.Parameter(torch.arange(6.0).view(2, 3).t()), nn.Parameter(torch.arange(6.0).view(2, 3).t().contiguous())
    for p in (a, b):
        optimizer = ravine.Optimizer([p], Adam(), lr=0.1)
        p.grad = torch.arange(6.0).view(3, 2) - 2
        optimizer.step()
    assert torch.equal(a, b)


# ---------------------------------------------------------------- sparse gradients


def looked_up(optimizer_of: Callable[[list[nn.Parameter]], torch.optim.Optimizer], sparse: bool) -> list[Tensor]:
    torch.manual_seed(0)
    table, head = nn.Embedding(6, 3, sparse=sparse), nn.Linear(3, 1)
    parameters = [*head.parameters(), *table.parameters()]
    optimizer = optimizer_of(parameters)
    for _ in range(3):
        optimizer.zero_grad()
        head(table(torch.tensor([1, 4, 1]))).square().sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in parameters]


def test_sgd_takes_sparse_gradients() -> None:
    dense, sparse = (looked_up(lambda ps: ravine.Optimizer(ps, SGD(), 0.1), sparse) for sparse in (False, True))
    theirs = looked_up(lambda ps: torch.optim.SGD(ps, 0.1), True)
    for a, b, c in zip(dense, sparse, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(b, c, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rule", [Adam(), chain(SGD(), Decay(0.1)), Momentum()], ids=str)
def test_a_sparse_gradient_is_refused_before_anything_has_moved(rule: Rule) -> None:
    table, head = nn.Embedding(6, 3, sparse=True), nn.Linear(3, 1)
    optimizer = ravine.Optimizer([{"params": head.parameters()}, {"params": table.parameters()}], rule, lr=0.1)
    head(table(torch.tensor([1, 4, 1]))).sum().backward()
    before = torch.cat([weights(head), weights(table)])
    with pytest.raises(RavineError) as error:
        optimizer.step()
    assert str(error.value) == f"'{rule}' needs dense gradients: use nn.Embedding(sparse=False), or sgd"
    assert torch.equal(torch.cat([weights(head), weights(table)]), before)
    assert not optimizer.state
    assert [group["steps"] for group in optimizer.param_groups] == [0, 0]


# ---------------------------------------------------------------- checkpoints

SEVERAL = [
    lambda m: ravine.Optimizer(m.parameters(), chain(NAdam(), Decay(0.1)), 0.01),
    lambda m: ravine.Optimizer(m.parameters(), Adam(), 0.01, schedule=warmup(7) * cosine(30)),
    lambda m: ravine.Optimizer(
        [
            {"params": m[0].parameters(), "rule": Momentum(0.5, 0.1), "lr": 0.05, "schedule": linear(15)},
            {"params": [*m[2].parameters(), *m[4].parameters()], "rule": AMSGrad(), "maximize": True},
        ],
        SGD(),
        lr=1e-3,
    ),
    lambda m: ravine.Optimizer(m.named_parameters(), Nesterov(), 0.05, schedule=constant(0.5)),
]


@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.bfloat16])
@pytest.mark.parametrize("make", [*SEVERAL, *[
    lambda m, rule=rule, keywords=keywords: ravine.Optimizer(m.parameters(), rule, **keywords)
    for _, rule, keywords in CASES.values()
]])  # fmt: skip
def test_saved_and_loaded_it_continues_to_the_bit(make: Callable[..., ravine.Optimizer], dtype: torch.dtype) -> None:
    whole = mlp(dtype)
    expected = run(whole, make(whole), range(20))
    model = mlp(dtype)
    first = make(model)
    run(model, first, range(9))
    checkpoint = saved({"model": model.state_dict(), "optimizer": first.state_dict()})
    other = nn.Sequential(*copy.deepcopy(list(mlp(dtype))))
    other.load_state_dict(checkpoint["model"])
    second = make(other)
    second.load_state_dict(checkpoint["optimizer"])
    assert torch.equal(run(other, second, range(9, 20)), expected)


def test_changed_hyperparameters_come_back() -> None:
    def altered(optimizer: ravine.Optimizer) -> None:
        optimizer.param_groups[0].update(beta1=0.5, weight_decay=0.3, lr=0.02)

    def make(model: nn.Module) -> ravine.Optimizer:
        return ravine.Optimizer(model.parameters(), chain(Adam(), Decay(0.1)), 0.01)

    model, other = mlp(), mlp()
    first, second = make(model), make(other)
    run(model, first, range(5))
    altered(first)
    run(model, first, range(5, 9))
    other.load_state_dict(model.state_dict())
    second.load_state_dict(saved(first.state_dict()))
    assert {k: v for k, v in second.param_groups[0].items() if k != "params"} == {
        k: v for k, v in first.param_groups[0].items() if k != "params"
    }
    assert second.param_groups[0]["beta1"] == 0.5
    assert torch.equal(run(model, first, range(9, 15)), run(other, second, range(9, 15)))


def test_a_states_own_dtype_comes_back() -> None:
    p = nn.Parameter(torch.zeros(3, dtype=torch.float32))
    one, other = ravine.Optimizer([p], NAdam()), ravine.Optimizer([p], NAdam())
    stuck(p)
    one.step()
    other.load_state_dict(saved(one.state_dict()))
    found = other.state[p]
    assert (found["w"].dtype, found["m"].dtype, found["step"]) == (F64, torch.float32, 1)
    assert torch.equal(found["w"], one.state[p]["w"])
    assert found["w"].data_ptr() != one.state[p]["w"].data_ptr()


def test_parameters_are_matched_by_name() -> None:
    model, other = mlp(), mlp()
    first = ravine.Optimizer(list(model.named_parameters()), Adam(), 0.01)
    run(model, first, range(5))
    other.load_state_dict(model.state_dict())
    second = ravine.Optimizer(list(reversed(list(other.named_parameters()))), Adam(), 0.01)
    second.load_state_dict(saved(first.state_dict()))
    names = [name for name, _ in other.named_parameters()]
    assert second.param_groups[0]["param_names"] == names[::-1]
    assert torch.equal(run(model, first, range(5, 9)), run(other, second, range(5, 9)))


def test_hooks_on_loading_are_run_before_the_state_is_checked() -> None:
    p = nn.Parameter(torch.zeros(3))
    one, other = ravine.Optimizer([p], Adam()), ravine.Optimizer([p], Adam())
    stuck(p)
    one.step()
    seen = []

    def renamed(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        kept = {{"first": "m"}.get(key, key): value for key, value in state["state"][0].items()}
        return {**state, "state": {0: kept}}

    other.register_load_state_dict_pre_hook(renamed)
    other.register_load_state_dict_post_hook(lambda optimizer: seen.append(len(optimizer.state)))
    state = one.state_dict()
    state["state"][0]["first"] = state["state"][0].pop("m")
    other.load_state_dict(state)
    assert torch.equal(other.state[p]["m"], torch.full((3,), 0.1))
    assert seen == [1]
    assert len(other._optimizer_load_state_dict_pre_hooks) == 1


Spoil = Callable[[dict[str, Any], dict[int, dict[str, Any]]], object]  # of the first group and the states
OURS = "but this optimizer"
REFUSED: list[tuple[str, Spoil, str]] = [
    ("adam", lambda g, s: g.update(rule="nadam"), f"the checkpoint is of 'nadam', {OURS} is 'adam'"),
    ("adam", lambda g, s: g.pop("rule"), "the checkpoint is of another optimizer than 'adam': it has no 'amsgrad'"),
    ("adam", lambda g, s: g["params"].pop(), f"a group of the checkpoint has 1 parameters, {OURS}'s has 2"),
    ("adam", lambda g, s: s[1].update(m=torch.zeros(5)), f"the checkpoint's 'm' has shape (5,), {OURS}'s has (4,)"),
    ("adam", lambda g, s: s[0].update(v=torch.zeros(3, 2)), f"the checkpoint's 'v' has shape (3, 2), {OURS}'s has (2"),
    ("adam", lambda g, s: s[1].pop("v"), f"the checkpoint keeps step, m for a parameter, {OURS} keeps step, m, v"),
    ("nadam", lambda g, s: s[1].update(w=torch.ones(4)), f"the checkpoint's 'w' has shape (4,), {OURS}'s has ()"),
    (
        "named",
        lambda g, s: g.update(param_names=["weight", "scale"]),
        "the checkpoint has other parameters than this optimizer: 'bias' is in one only",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spoil", "message"), REFUSED)
def test_a_checkpoint_that_does_not_fit_is_refused_with_nothing_changed(kind: str, spoil: Spoil, message: str) -> None:
    def make() -> ravine.Optimizer:
        p, q = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4))
        parameters = [("weight", p), ("bias", q)] if kind == "named" else [p, q]
        return ravine.Optimizer(parameters, NAdam() if kind == "nadam" else Adam(), 0.1)

    def step(optimizer: ravine.Optimizer, value: float) -> None:
        for p in optimizer.param_groups[0]["params"]:
            stuck(p, value)
        optimizer.step()

    one, other = make(), make()
    step(one, 1.0)
    step(other, -2.0)
    before = saved(other.state_dict())
    state = one.state_dict()
    spoil(state["param_groups"][0], state["state"])
    with pytest.raises(RavineError) as error:
        other.load_state_dict(state)
    assert str(error.value).startswith(message)
    after = other.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for i, kept in before["state"].items():
        assert all(torch.equal(torch.as_tensor(after["state"][i][k]), torch.as_tensor(v)) for k, v in kept.items())
    assert not other._optimizer_load_state_dict_pre_hooks


def test_a_checkpoint_of_other_groups_is_refused() -> None:
    p, q = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    two = ravine.Optimizer([{"params": [p]}, {"params": [q]}], SGD())
    with pytest.raises(RavineError, match="the checkpoint has 2 param groups, but this optimizer has 1"):
        ravine.Optimizer([p, q], SGD()).load_state_dict(two.state_dict())


def test_a_checkpoint_of_another_optimizer_of_torch_is_refused() -> None:
    p = nn.Parameter(torch.zeros(3))
    theirs = torch.optim.Adam([stuck(p)])
    theirs.step()
    with pytest.raises(
        RavineError, match=r"the checkpoint is of another optimizer than 'sgd': it has no 'momentum'"
    ):
        ravine.Optimizer([p], SGD()).load_state_dict(theirs.state_dict())


# ---------------------------------------------------------------- copies


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
@pytest.mark.parametrize("make", SEVERAL)
def test_a_copy_goes_its_own_way(make: Callable[..., ravine.Optimizer], copied: Callable[[Any], Any]) -> None:
    model = mlp()
    optimizer = make(model)
    run(model, optimizer, range(7))
    other, twin = copied((model, optimizer))
    before = weights(model)
    expected = run(other, twin, range(7, 15))
    assert torch.equal(weights(model), before)
    assert torch.equal(run(model, optimizer, range(7, 15)), expected)
    extra = nn.Parameter(torch.zeros(2, dtype=F64))
    twin.add_param_group({"params": [("extra", extra)] if "param_names" in twin.param_groups[0] else [extra]})
    assert len(optimizer.param_groups) == len(twin.param_groups) - 1


# ---------------------------------------------------------------- torch's own machinery


def plateau(optimizer: torch.optim.Optimizer) -> lr_scheduler.ReduceLROnPlateau:
    return lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda o: lr_scheduler.StepLR(o, 4, 0.5),
        lambda o: lr_scheduler.LambdaLR(o, lambda k: 1 / (1 + k)),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 20, 1e-4),
        lambda o: lr_scheduler.OneCycleLR(o, 0.3, 31),
        lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.3, 7),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.1, 1, 5), lr_scheduler.ExponentialLR(o, 0.9)], [5]
        ),
        plateau,
    ],
    ids=["step", "lambda", "cosine", "one cycle", "cyclic", "sequential", "plateau"],
)
def test_torchs_lr_schedulers_work(scheduler: Callable[[torch.optim.Optimizer], Any]) -> None:
    def history(make: Make) -> tuple[list[float], Tensor]:
        model = mlp()
        optimizer = make(model.parameters())
        change = scheduler(optimizer)
        rates = []
        for k in range(30):
            run(model, optimizer, range(k, k + 1))
            change.step(*([1.0] if scheduler is plateau else []))
            rates.append(optimizer.param_groups[0]["lr"])
        return rates, weights(model)

    ours, theirs = (
        history(lambda p: ravine.Optimizer(p, Momentum(0.9), 0.1)),
        history(lambda p: torch.optim.SGD(p, 0.1, 0.9)),
    )
    assert ours[0] == theirs[0]
    assert len(set(ours[0])) > 3
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "scheduler", [lambda o: lr_scheduler.OneCycleLR(o, 0.3, 31), lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.3, 7)]
)
@pytest.mark.parametrize("make", [lambda p: ravine.Optimizer(p, Adam()), lambda p: ravine.optim.Adam(p)])
def test_torchs_schedulers_cycle_betas_and_a_reloaded_optimizer_goes_on(make: Make, scheduler: Any) -> None:
    ours, theirs = mlp(), mlp()
    optimizer, reference = make(ours.parameters()), torch.optim.Adam(theirs.parameters())
    changes = [scheduler(optimizer), scheduler(reference)]
    for k in range(24):
        for model, one, change in zip((ours, theirs), (optimizer, reference), changes, strict=True):
            run(model, one, range(k, k + 1))
            change.step()
        assert optimizer.param_groups[0]["betas"] == reference.param_groups[0]["betas"]
        if k == 10:
            state = optimizer.state_dict()
            assert "betas" not in state["param_groups"][0]
            optimizer.load_state_dict(copy.deepcopy(state))
    assert optimizer.param_groups[0]["beta1"] != 0.9
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-12, atol=1e-12)


def test_a_group_that_is_added_later_gets_no_momentum_that_its_rule_does_not_have() -> None:
    p, q, r = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    optimizer = ravine.Optimizer([p], Momentum(0.8), 0.1)
    optimizer.add_param_group({"params": [q], "rule": Adam()})
    optimizer.add_param_group({"params": [r], "rule": SGD()})
    assert [("momentum" in group, "betas" in group) for group in optimizer.param_groups] == [
        (True, False), (False, True), (False, False),
    ]  # fmt: skip
    optimizer.load_state_dict(optimizer.state_dict())


def test_lr_may_be_a_tensor_as_for_torch() -> None:
    p = nn.Parameter(torch.zeros(2))
    optimizer = ravine.Optimizer([p], SGD(), torch.tensor(0.25))
    change = lr_scheduler.ExponentialLR(optimizer, 0.5)
    p.grad = torch.ones(2)
    optimizer.step()
    change.step()
    optimizer.step()
    assert p.tolist() == [-0.375, -0.375]
    with pytest.raises(RavineError, match=r"lr must be in \[0, inf\), got -1.0"):
        ravine.Optimizer([p], SGD(), torch.tensor(-1.0))


def test_a_scheduler_of_torch_and_a_schedule_multiply() -> None:
    p = nn.Parameter(torch.zeros(1, dtype=F64))
    optimizer = ravine.Optimizer([p], SGD(), lr=1.0, schedule=linear(4, final=0.0))
    halving = lr_scheduler.ExponentialLR(optimizer, 0.5)
    moved = []
    for _ in range(4):
        before = p.item()
        stuck(p)
        optimizer.step()
        halving.step()
        moved.append(before - p.item())
    assert moved == [1.0, 0.75 / 2, 0.5 / 4, 0.25 / 8]


def test_grad_scaler_skips_the_step_of_an_overflow() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = ravine.Optimizer([p], Adam(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale((p * math.inf).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(p, torch.ones(3))
    assert not optimizer.state
    assert scaler.get_scale() == 2.0**9
    optimizer.zero_grad()
    scaler.scale((p * 3).sum()).backward()
    assert torch.equal(p.grad, torch.full((3,), 3 * 2.0**9))
    scaler.step(optimizer)
    scaler.update()
    torch.testing.assert_close(p.detach(), torch.full((3,), 0.9))
    torch.testing.assert_close(optimizer.state[p]["m"], torch.full((3,), 0.3))  # of the gradient without its scale


def test_step_hooks_run_around_the_step() -> None:
    p = nn.Parameter(torch.zeros(1))
    optimizer = ravine.Optimizer([p], SGD(), lr=0.5)
    seen: list[tuple[str, float]] = []
    before = optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(("pre", p.item())))
    optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(("post", p.item())))
    stuck(p)
    optimizer.step()
    before.remove()
    optimizer.step()
    assert seen == [("pre", 0.0), ("post", -0.5), ("post", -1.0)]


def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned() -> None:
    p = nn.Parameter(torch.tensor([3.0]))
    optimizer = ravine.Optimizer([p], SGD(), lr=0.5)
    calls = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        calls.append(torch.is_grad_enabled())
        return loss

    with torch.no_grad():
        loss = optimizer.step(closure)
    assert (loss.item(), p.item(), calls) == (9.0, 0.0, [True])
    assert optimizer.step() is None


def test_it_shows_its_groups() -> None:
    text = repr(ravine.Optimizer([P], chain(Adam(beta1=0.5), Decay()), lr=0.1, schedule=cosine(9)))
    for part in ("Optimizer (", "rule: adam + decay", "beta1: 0.5", "lr: 0.1", "schedule: cosine(steps=9)"):
        assert part in text
