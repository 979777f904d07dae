"""The drop-in names: torch's arguments, torch's numbers."""

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_optimizer import F64, mlp, run, saved, trained, weights
from torch import nn

import ravine
from ravine import optim
from ravine.core.errors import RavineError
from ravine.optim import torchs

PUBLIC = [name for name, kind in vars(optim).items() if inspect.isclass(kind) and kind.__module__ == torchs.__name__]

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.01, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "betas": (0.8, 0.9)}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.3, "betas": (0.8, 0.9)}),
    ("AdamW", {"lr": 0.01, "amsgrad": True, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "momentum_decay": 0.03, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("RAdam", {"lr": 0.01}),
    ("RAdam", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-4, "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-4, "weight_decay": 0.1, "maximize": True}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.3, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.1, "maximize": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.2, "eps": 1e-3, "weight_decay": 0.1}),
    ("Adagrad", {"maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.003, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {"lr": 0.003, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.003, "momentum": 0.8, "centered": True, "eps": 1e-3}),
    ("Rprop", {"lr": 0.001}),
    ("Rprop", {"lr": 0.001, "etas": (0.4, 1.3), "step_sizes": (1e-4, 0.01), "maximize": True}),
]
OURS_ALONE = {"DeltaBarDelta"}
Make = Callable[..., torch.optim.Optimizer]


def both(name: str) -> tuple[Make, Make]:
    return getattr(optim, name), getattr(torch.optim, name)


@pytest.mark.parametrize(("name", "arguments"), SETTINGS)
def test_equals_torch_over_50_steps(name: str, arguments: dict[str, Any]) -> None:
    ours, theirs = both(name)
    torch.set_default_dtype(F64)  # torch keeps NAdam's product of momenta in the default dtype: in float32 to 1e-8 only
    try:
        expected, found = (trained(lambda p, kind=kind: kind(p, **arguments)) for kind in (theirs, ours))
        assert (expected - weights(mlp())).abs().max() > 0.01
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_every_name_is_tried() -> None:
    assert {name for name, _ in SETTINGS} == set(PUBLIC) - OURS_ALONE


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - OURS_ALONE))
def test_the_arguments_are_torchs(name: str) -> None:
    ours, theirs = (inspect.signature(kind).parameters for kind in both(name))
    assert "Any" in str(ours["params"])
    taken = {key: parameter for key, parameter in ours.items() if parameter.kind is not parameter.VAR_KEYWORD}
    assert [(key, taken[key].default, taken[key].kind) for key in theirs if key in taken] == [
        (key, theirs[key].default, theirs[key].kind) for key in theirs if key in taken
    ]
    assert set(theirs) - set(taken) <= {"maximize", "foreach", "fused", "capturable", "differentiable"}
    assert "options" in ours
    p = nn.Parameter(torch.zeros(2))
    getattr(optim, name)([p], **{key: theirs[key].default for key in theirs if key != "params"})


@pytest.mark.parametrize("execution", [{"foreach": True}, {"foreach": False}, {"fused": True}, {"fused": None}])
def test_how_torch_would_execute_a_step_is_taken_and_changes_nothing(execution: dict[str, Any]) -> None:
    for name in PUBLIC:
        ours = getattr(optim, name)
        expected = trained(lambda p, ours=ours: ours(p, 0.01), 5)
        assert torch.equal(trained(lambda p, ours=ours: ours(p, 0.01, **execution), 5), expected)


def torchs_groups(model: nn.Sequential, first: dict[str, Any], second: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"params": model[0].parameters(), **first},
        {"params": model[2].parameters(), **second},
        {"params": model[4].parameters()},
    ]


@pytest.mark.parametrize(
    ("name", "arguments", "first", "second"),
    [
        ("SGD", {"lr": 0.1, "momentum": 0.9}, {"weight_decay": 0.1}, {"momentum": 0.5, "lr": 0.05}),
        ("SGD", {"lr": 0.1}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.5, "dampening": 0.5}),
        ("Adam", {"lr": 0.01, "betas": (0.8, 0.9)}, {"weight_decay": 0.1}, {"betas": (0.5, 0.99), "maximize": True}),
        ("Adam", {"lr": 0.01}, {"amsgrad": True}, {"eps": 1e-2}),
        ("AdamW", {"lr": 0.01}, {"weight_decay": 0.0}, {"weight_decay": 0.5, "betas": (0.7, 0.8)}),
    ],
)
def test_groups_take_torchs_arguments(
    name: str, arguments: dict[str, Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    def grouped(make: Make) -> torch.Tensor:
        model = mlp()
        return run(model, make(torchs_groups(model, first, second), **arguments))

    ours, theirs = both(name)
    expected = grouped(theirs)
    torch.testing.assert_close(grouped(ours), expected, rtol=1e-12, atol=1e-12)
    assert (expected - trained(lambda p: theirs(p, **arguments))).abs().max() > 1e-3  # the groups matter


def test_a_group_added_later_takes_torchs_arguments_also_on_a_copy() -> None:
    p, q = nn.Parameter(torch.zeros(3, dtype=F64)), nn.Parameter(torch.zeros(3, dtype=F64))
    one = optim.AdamW([p], lr=0.1, betas=(0.8, 0.9))
    for optimizer in (one, copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        optimizer.add_param_group({"params": [q], "betas": (0.5, 0.6)})
        group = optimizer.param_groups[1]
        assert (group["rule"], group["beta1"], group["beta2"]) == ("adam + decay", 0.5, 0.6)
        assert (group["weight_decay"], group["lr"]) == (0.01, 0.1)


def test_a_group_may_also_bring_a_rule_of_ravine() -> None:
    p = nn.Parameter(torch.zeros(3))
    optimizer = optim.SGD([{"params": [p], "rule": ravine.rules.Adam(), "eps": 1e-3}], lr=0.1)
    assert (optimizer.param_groups[0]["rule"], optimizer.param_groups[0]["eps"]) == ("adam", 1e-3)


@pytest.mark.parametrize(("name", "arguments"), SETTINGS)
def test_saved_and_loaded_it_continues_to_the_bit(name: str, arguments: dict[str, Any]) -> None:
    make = both(name)[0]
    whole, model, other = mlp(), mlp(), mlp()
    expected = run(whole, make(whole.parameters(), **arguments), range(15))
    first, second = make(model.parameters(), **arguments), make(other.parameters(), **arguments)
    run(model, first, range(6))
    other.load_state_dict(model.state_dict())
    second.load_state_dict(saved(first.state_dict()))
    assert torch.equal(run(other, second, range(6, 15)), expected)


P = nn.Parameter(torch.zeros(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.SGD([P], nesterov=True), "nesterov=True needs momentum > 0 and dampening = 0"),
        (lambda: optim.SGD([P], 0.1, 0.9, 0.1, nesterov=True), "nesterov=True needs momentum > 0 and dampening = 0"),
        (lambda: optim.SGD([P], momentum=-0.1), "momentum: momentum must be in [0, 1), got -0.1"),
        (lambda: optim.SGD([P], weight_decay=-0.1), "decay: weight_decay must be in [0, inf), got -0.1"),
        (lambda: optim.SGD([P], lr=-0.1), "lr must be in [0, inf), got -0.1"),
        (lambda: optim.SGD([P], differentiable=True), "differentiable=True is not supported; leave it out"),
        (lambda: optim.Adam([P], capturable=True), "capturable=True is not supported; leave it out"),
        (lambda: optim.AdamW([P], capturable=True), "capturable=True is not supported; leave it out"),
        (lambda: optim.Adam([P], betas=(0.9, 1.0)), "adam: beta2 must be in [0, 1), got 1.0"),
        (lambda: optim.Adam([P], betas=(0.9, 1.0), amsgrad=True), "amsgrad: beta2 must be in [0, 1), got 1.0"),
        (lambda: optim.Adam([P], betas=(0.9,)), "betas must be two numbers, as in betas=(0.9, 0.999), got (0.9,)"),
        (lambda: optim.Adam([P], betas=0.9), "betas must be two numbers, as in betas=(0.9, 0.999), got 0.9"),
        (lambda: optim.Adam([P], betas=(0.9, 0.99, 0.999)), "betas must be two numbers"),
        (lambda: optim.Adam([P], eps=-1e-8), "adam: eps must be in [0, inf), got -1e-08"),
        (lambda: optim.Adam([{"params": [P], "betas": (0.9, 2)}]), "adam: beta2 must be in [0, 1), got 2"),
        (lambda: optim.Adam([{"params": [P], "momentum": 0.9}]), "unknown hyperparameter of 'adam' 'momentum'"),
    ],
)
def test_what_is_wrong_is_said(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RavineError) as error:
        make()
    assert str(error.value).startswith(message)


def test_an_argument_that_torch_does_not_have_is_refused() -> None:
    for name in PUBLIC:
        with pytest.raises(RavineError, match=f"unknown argument of {name} 'beta': "):
            getattr(optim, name)([P], beta=0.9)
