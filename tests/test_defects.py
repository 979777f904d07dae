"""Defects that other libraries of optimizers have, each with a test that ours does not have it.

Found on torch 2.13.0, pytorch-optimizer 4.1 and heavyball 3.2; the numbers in brackets are issues of theirs.
"""

import copy
import inspect
import io

import pytest
import torch
from test_rules import EVERY
from torch import Tensor, nn

import ravine
from ravine import optim
from ravine.assembly import parts
from ravine.checks.rules import step_from
from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.engine.execution import cannot_compile
from ravine.engine.finite import NonFinite
from ravine.engine.group import rule_of
from ravine.optim.drop_in import DropIn

WAYS = ["loop"] if cannot_compile("cpu") else ["loop", "compiled"]
both_ways = pytest.mark.parametrize("way", WAYS)


def looks_at_each_weight(name: str) -> bool:
    """Whether a drop-in name is of a rule that can be compiled, takes complex weights, and asks for no closure."""
    try:
        (group,) = getattr(optim, name)([nn.Parameter(torch.ones(2, 2))]).param_groups
    except RavineError:  # it wants groups of several rules
        return False
    rule = rule_of(group)
    return rule.scope == "element" and not rule.looks_twice


NAMES = [name for name, kind in vars(optim).items() if inspect.isclass(kind) and issubclass(kind, DropIn)]
every_name = pytest.mark.parametrize("name", sorted(filter(looks_at_each_weight, NAMES)))


def made(name: str, params: list[nn.Parameter], **options: object) -> ravine.Optimizer:
    return getattr(optim, name)(params, **options)


@both_ways
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_weight_of_a_low_precision_tensor_moves(way: str, dtype: torch.dtype) -> None:
    """torch: SGD(fused=True) on a CPU leaves 99 % of 1001 bf16 weights unchanged."""
    p = nn.Parameter(torch.zeros(1001, dtype=dtype))
    p.grad = torch.ones_like(p)
    made("SGD", [p], lr=0.5, execution=way).step()
    assert torch.equal(p.detach(), torch.full_like(p, -0.5))


@both_ways
@every_name
def test_gradients_are_left_as_they_are(name: str, way: str) -> None:
    """torch: SGD(foreach=True, nesterov=True) writes into it, as do 32 of pytorch-optimizer; heavyball clears it."""
    options = {"momentum": 0.9, "nesterov": True} if name in ("SGD", "RMSprop") else {}
    p = nn.Parameter(torch.linspace(-1, 1, 1001))
    given = torch.sin(torch.arange(1001.0))
    p.grad = given.clone()
    held = p.grad
    optimizer = made(name, [p], execution=way, **options)
    for _ in range(3):
        optimizer.step()
        assert p.grad is held
        assert torch.equal(p.grad, given)


@both_ways
@pytest.mark.parametrize("name", ["Adam", "NAdam", "RAdam", "Adamax", "AdamW"])
def test_a_late_parameter_has_a_first_step_of_its_own(name: str, way: str) -> None:
    """pytorch-optimizer counts steps per group: a late first step is a tenth as long. torch: SGD(fused) raises."""
    early, late = (nn.Parameter(torch.zeros(5)) for _ in "12")
    optimizer = made(name, [early, late], lr=0.1, execution=way, **({"weight_decay": 0} if name == "AdamW" else {}))
    for step in range(20):
        early.grad = torch.ones(5)
        if step == 0:
            optimizer.step()
            first = early.detach().clone()
            continue
        late.grad = torch.ones(5) if step == 19 else None
        optimizer.step()
    torch.testing.assert_close(late.detach(), first)
    made("SGD", [early, late], momentum=0.9, execution=way).step()


def test_moments_follow_names_and_not_places() -> None:
    """torch (#1489): names in a checkpoint are ignored, and moments swap silently."""
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    first = optim.Adam([("a", a), ("b", b)])
    a.grad, b.grad = torch.ones(2), torch.full((2,), 5.0)
    first.step()
    second = optim.Adam([("b", b), ("a", a)])
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.state[a]["m"], first.state[a]["m"])
    assert not torch.equal(second.state[a]["m"], second.state[b]["m"])


def test_a_state_of_another_shape_or_optimizer_is_refused() -> None:
    """torch (#3852): wrong shapes are accepted, and Adam's checkpoint loads into SGD and fails later."""
    p, q = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))
    p.grad = torch.ones(2)
    saved = optim.Adam([p])
    saved.step()
    with pytest.raises(RavineError, match="shape"):
        optim.Adam([q]).load_state_dict(saved.state_dict())
    with pytest.raises(RavineError, match="but this optimizer is 'momentum'"):
        optim.SGD([p], momentum=0.9).load_state_dict(saved.state_dict())


def test_float32_state_of_bf16_weights_stays_float32() -> None:
    """torch: load_state_dict casts the state to the type of the weights."""
    p = nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    p.grad = torch.full_like(p, 1 / 3)
    first = optim.Adam([p])
    first.step()
    second = optim.Adam([p])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.state[p]["m"].dtype is torch.float32
    assert torch.equal(second.state[p]["m"], first.state[p]["m"])


@both_ways
@every_name
def test_a_nan_gradient_does_not_pass_silently(name: str, way: str) -> None:
    """torch: NaN passes; sign(nan) = 0, so that a sign-based rule freezes the weight for ever."""
    p = nn.Parameter(torch.ones(4))
    p.grad = torch.tensor([1.0, float("nan"), 1.0, 1.0])
    with pytest.raises(NonFinite, match="1 NaN and 0 infinite of 4"):
        made(name, [p], execution=way).step()
    assert torch.equal(p.detach(), torch.ones(4))


@both_ways
@pytest.mark.parametrize("spec", ["lion", "sgd + sign"])
def test_a_sign_of_nan_is_nan(spec: str, way: str) -> None:
    """torch: sign(nan) = 0, so that Lion freezes a weight for ever without a word."""
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.tensor([float("nan"), float("inf"), -2.0])
    ravine.Optimizer([p], parts(spec)[0].rule, 0.5, execution=way, nonfinite="ignore").step()
    assert p[0].isnan()
    assert p[1:].tolist() == [0.5, 1.5]


@both_ways
def test_adam_in_half_precision_makes_a_step_of_about_lr(way: str) -> None:
    """torch: fp16 weights with eps = 1e-8, which is 0 in fp16, are infinite after one step."""
    p = nn.Parameter(torch.ones(9, dtype=torch.float16))
    p.grad = torch.full_like(p, 1e-4)
    p.grad[0] = 0
    made("Adam", [p], lr=0.01, execution=way).step()
    assert p[0].item() == 1
    assert (1 - p[1:]).tolist() == pytest.approx([0.01] * 8, abs=0.001)


@both_ways
@every_name
def test_complex_weights_move(name: str, way: str) -> None:
    """heavyball: complex parameters silently do nothing."""
    p = nn.Parameter(torch.ones(5, dtype=torch.complex64))
    p.grad = torch.full_like(p, 1 + 2j)
    optimizer = made(name, [p], execution=way)
    for _ in "12":  # ADOPT's first step only looks
        optimizer.step()
    assert (p.detach().real < 1).all()
    assert (p.detach().imag < 0).all()


@every_name
def test_a_checkpoint_holds_nothing_that_must_be_unpickled(name: str) -> None:
    """heavyball unpickles bytes from a checkpoint."""
    p = nn.Parameter(torch.ones(5))
    p.grad = torch.ones(5)
    optimizer = made(name, [p])
    optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    optimizer.load_state_dict(torch.load(file, weights_only=True))


@pytest.mark.skipif(len(WAYS) < 2, reason="needs a C++ compiler")
@pytest.mark.parametrize("name", [name for name, rule in EVERY.items() if rule.scope == "element" and rule.is_plain])
def test_the_fast_path_is_not_another_rule(name: str) -> None:
    """pytorch-optimizer (#519): the foreach path of a rule computes something else."""
    rule: Rule = EVERY[name]

    def end(way: str) -> Tensor:
        p = nn.Parameter(torch.linspace(0.5, 2, 1001))
        optimizer = ravine.Optimizer([p], rule, 0.01, execution=way)
        for step in range(30):
            step_from(optimizer, rule, p, torch.sin(torch.arange(1001.0) + step) + 0.1 * p.detach())
        return p.detach()

    torch.testing.assert_close(end("compiled"), end("loop"), rtol=1e-4, atol=1e-5)
