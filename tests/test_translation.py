"""Checkpoints of torch.optim, both ways."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ravine
from ravine import optim
from ravine.assembly import parts
from ravine.core.errors import RavineError

F64 = torch.float64
CASES: list[tuple[str, dict[str, Any], str]] = [
    ("SGD", {}, "sgd"),
    ("SGD", {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1}, "decay(0.1) + momentum(0.8, 0.3)"),
    ("SGD", {"momentum": 0.8, "nesterov": True}, "nesterov(momentum=0.8)"),
    ("Adam", {"betas": (0.8, 0.95), "eps": 1e-6}, "adam"),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1}, "decay + amsgrad"),
    ("AdamW", {"weight_decay": 0.2}, "adamw"),
    ("NAdam", {"momentum_decay": 0.01}, "nadam"),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}, "nadamw"),
    ("RAdam", {"betas": (0.8, 0.9)}, "radam"),
    ("Adamax", {}, "adamax"),
    ("Adadelta", {"rho": 0.8}, "adadelta"),
    ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.2}, "adagrad"),
    ("RMSprop", {"alpha": 0.9}, "rmsprop"),
    ("RMSprop", {"centered": True, "momentum": 0.7}, "rmsprop(centered=true, momentum=0.5)"),
    ("Rprop", {"etas": (0.4, 1.3)}, "rprop"),
]
LINKS = {"decay(0.1) + momentum(0.8, 0.3)": "decay + momentum"}
every_case = pytest.mark.parametrize(("name", "options", "spec"), CASES)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4, dtype=F64), nn.Tanh(), nn.Linear(4, 1, dtype=F64))


def run(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> Tensor:
    for step in steps:
        x = torch.randn(8, 5, dtype=F64, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def saved(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    found: dict[str, Any] = torch.load(file, weights_only=True)
    return found


def ours_by_name(name: str, options: dict[str, Any], spec: str) -> Callable[[Any], ravine.Optimizer]:
    return lambda params: getattr(optim, name)(params, lr=0.02, **options)


def ours_by_rule(name: str, options: dict[str, Any], spec: str) -> Callable[[Any], ravine.Optimizer]:
    return lambda params: ravine.Optimizer(params, parts(LINKS.get(spec, spec))[0].rule, 0.5)


@pytest.mark.parametrize("door", [ours_by_name, ours_by_rule])
@every_case
def test_a_run_begun_with_torch_goes_on_with_ours(door: Any, name: str, options: dict[str, Any], spec: str) -> None:
    """With the checkpoint's own numbers, whatever ours was made with."""
    theirs = model()
    reference = getattr(torch.optim, name)(theirs.named_parameters(), lr=0.03, **options)
    run(theirs, reference, range(5))
    ours = copy.deepcopy(theirs)
    optimizer = door(name, options, spec)(ours.named_parameters())
    optimizer.load_state_dict(saved(reference.state_dict()))
    assert optimizer.param_groups[0]["lr"] == 0.03
    wanted = run(theirs, reference, range(5, 15))
    close = 1e-7 if name == "NAdam" else 1e-12  # torch keeps NAdam's product of momenta in float32, we in float64
    torch.testing.assert_close(run(ours, optimizer, range(5, 15)), wanted, rtol=close, atol=close)


@every_case
def test_a_run_begun_with_ours_goes_on_with_torch(name: str, options: dict[str, Any], spec: str) -> None:
    ours = model()
    optimizer = ours_by_name(name, options, spec)(ours.parameters())
    optimizer.param_groups[0]["lr"] = 0.03
    run(ours, optimizer, range(5))
    theirs = copy.deepcopy(ours)
    reference = getattr(torch.optim, name)(theirs.parameters(), lr=0.5, **options)
    reference.load_state_dict(saved(optimizer.torch_state_dict()))
    assert reference.param_groups[0]["lr"] == 0.03
    wanted = run(ours, optimizer, range(5, 15))
    torch.testing.assert_close(run(theirs, reference, range(5, 15)), wanted, rtol=1e-6, atol=1e-7)
    assert reference.param_groups[0].keys() >= getattr(torch.optim, name)([nn.Parameter(torch.ones(1))]).defaults.keys()


@pytest.mark.parametrize(
    ("name", "options", "mine", "said"),
    [
        ("Adam", {}, "radam", "the checkpoint is of another optimizer than 'radam': it has 'amsgrad'"),
        ("RAdam", {}, "adam", "the checkpoint is of another optimizer than 'adam': it has no 'amsgrad'"),
        ("Adamax", {}, "radam", "keeps step, exp_avg, exp_inf for a parameter, but 'radam' keeps exp_avg, exp_avg_sq"),
        ("SGD", {"momentum": 0.9}, "adam", "another optimizer than 'adam': it has no 'amsgrad'"),
        ("SGD", {"momentum": 0.9}, "sgd", "made with momentum=0.9, but this optimizer has momentum=0"),
        ("SGD", {"momentum": 0.9}, "nesterov", "made with nesterov=False, but this optimizer has nesterov=True"),
        ("Adam", {"amsgrad": True}, "adam", "made with amsgrad=True, but this optimizer has amsgrad=False"),
        ("Adam", {"weight_decay": 0.1}, "adam", "made with weight_decay=0.1, but this optimizer has none"),
        ("Adam", {"weight_decay": 0.1}, "adamw", "weight decay is an L2 penalty, but this optimizer's is not"),
        ("AdamW", {}, "decay + adam", "weight decay is decoupled, but this optimizer's is not"),
        ("RMSprop", {"momentum": 0.9}, "rmsprop", "made with momentum=0.9, but this optimizer has momentum=0"),
        ("RMSprop", {}, "rmsprop(where='inside')", "torch.optim has no optimizer that does what 'rmsprop"),
        ("Adam", {}, "delta_bar_delta", "torch.optim has no optimizer that does what 'delta_bar_delta' does"),
        ("ASGD", {}, "sgd", "another optimizer than 'sgd'"),
    ],
)
def test_another_optimizers_checkpoint_is_refused(name: str, options: dict[str, Any], mine: str, said: str) -> None:
    theirs, ours = model(), model()
    reference = getattr(torch.optim, name)(theirs.parameters(), **options)
    run(theirs, reference, range(2))
    optimizer = ravine.Optimizer(ours.parameters(), parts(mine)[0].rule, 0.1)
    run(ours, optimizer, range(2))
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(RavineError) as raised:
        optimizer.load_state_dict(reference.state_dict())
    assert said in str(raised.value)
    assert str(optimizer.state_dict()) == str(before)


def test_parameters_are_matched_by_name_and_shapes_are_checked() -> None:
    theirs, ours = model(), model()
    reference = torch.optim.Adam(reversed(list(theirs.named_parameters())))
    run(theirs, reference, range(3))
    optimizer = optim.Adam(ours.named_parameters())
    optimizer.load_state_dict(reference.state_dict())
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(optimizer.state[p]["m"], reference.state[q]["exp_avg"]), name
    unnamed = optim.Adam(ours.parameters())
    nameless = torch.optim.Adam(list(theirs.parameters())[::-1])
    run(theirs, nameless, range(3))
    with pytest.raises(RavineError, match=r"the checkpoint's 'm' has shape \(1,\), but this optimizer's has \(4, 5\)"):
        unnamed.load_state_dict(nameless.state_dict())
    assert not unnamed.state


def test_state_of_low_precision_weights_becomes_float32() -> None:
    p, q = (nn.Parameter(torch.ones(3, dtype=torch.bfloat16)) for _ in "12")
    reference, optimizer = torch.optim.Adam([p]), optim.Adam([q])
    p.grad = torch.ones_like(p)
    reference.step()
    optimizer.load_state_dict(reference.state_dict())
    assert optimizer.state[q]["m"].dtype is torch.float32


def test_a_chain_that_torch_does_not_have_is_not_saved_for_it() -> None:
    optimizer = ravine.Optimizer([nn.Parameter(torch.ones(2))], parts("clip_norm + adam")[0].rule)
    with pytest.raises(RavineError, match=r"torch.optim has no .* 'clip_norm . adam' does: 'clip_norm' is"):
        optimizer.torch_state_dict()
