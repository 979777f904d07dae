"""The numbers of a step: computed on floats, without torch, as torch computes them in float64."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference import VARIANTS
from test_rules import written
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

import ravine
from ravine.core.rule import Rule
from ravine.engine import execution, kernel, sums
from ravine.engine.numbers import Numbers

F64 = torch.float64
SOME = (-7.5, -2.0, -0.0, 0.0, 0.3, 1.0, 5.0, 17.25, math.inf, -math.inf, math.nan)


def same(found: float, wanted: float, rel: float) -> bool:
    return found == pytest.approx(wanted, rel=rel, abs=0, nan_ok=True)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a.log() + 0 * b,
        lambda a, b: a.exp() + 0 * b,
        lambda a, b: a.abs() - b,
        torch.maximum,
        torch.minimum,
        lambda a, b: a % b,
        lambda a, b: a % 5 + b % 2.5,
        lambda a, b: a // b,
        lambda a, b: (a - 1) // 3 + b,
        lambda a, b: torch.where((a > 0) & (b < 2), a, b),
        lambda a, b: 0 * a + (b > 1),
        lambda a, b: a.float() * b,
        lambda a, b: a.float() / 3,
    ],
    ids=["log", "exp", "abs", "max", "min", "%", "% number", "//", "// number", "and", "cast", "32", "32 number"],
)
def test_an_operation_on_floats_is_torchs(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    traced = make_fx(lambda a, b: [function(a, b)])(*torch.full((2,), 0.5, dtype=F64).unbind())
    numbers = Numbers(traced.graph)
    assert numbers.is_plain
    for a, b in itertools.product(SOME, SOME):
        wanted = function(*torch.tensor([a, b], dtype=F64).unbind()).item()
        (found,) = numbers([a, b])
        assert same(found, wanted, 4e-16), (a, b, found, wanted)


def test_what_is_not_in_the_table_is_left_to_torch() -> None:
    traced = make_fx(lambda a: [a.erf(), a.to(torch.bfloat16) * 3])(torch.tensor(0.3, dtype=F64))
    numbers = Numbers(traced.graph)
    assert not numbers.is_plain
    assert numbers([0.3]) == [torch.tensor(0.3, dtype=F64).erf().item(), (torch.tensor(0.3).bfloat16() * 3).item()]


def specs() -> list[str]:
    """Every registered rule, alone, around SGD or before it, and the variants."""
    found = []
    for name, rule in Rule.registry.items():
        if name.startswith("test_"):
            continue
        found.append(name if rule.default_lr is not None else f"{name}(sgd)" if rule.wraps else f"{name} + sgd")
    more = ["ademamix(warmup=30)", "lookahead(adam)", "schedule_free_adamw", "adahessian(every=3)"]
    return [*found, "clip_norm + adam", *more, *VARIANTS]


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that leave tensors alone: only the numbers are looked at."""

    def stub(module: fx.GraphModule) -> Callable[[Any], list[Tensor]]:
        (last,) = (node for node in module.graph.nodes if node.op == "output")
        return lambda _: [torch.ones((), dtype=F64) for _ in last.args[0]]

    monkeypatch.setattr(kernel, "_kernels", {})
    monkeypatch.setattr(sums, "_kernels", {})
    monkeypatch.setattr(kernel, "compiled", stub)
    monkeypatch.setattr(sums, "compiled", stub)


@pytest.mark.skipif(bool(execution.cannot_compile("cpu")), reason="needs a C++ compiler")
@pytest.mark.parametrize("spec", specs())
def test_the_numbers_of_every_rule_need_no_torch(spec: str, untouched: None) -> None:
    rule = written(spec)
    if rule.scope != "element" or not rule.is_plain:
        pytest.skip("it is not compiled")
    p = nn.Parameter(torch.ones(3))
    optimizer = ravine.Optimizer([p], rule, 0.1, execution="compiled")

    def closure() -> Any:
        loss = (p**3).sum()
        if not optimizer.wants("product"):
            optimizer.zero_grad()
            loss.backward()
        return loss

    for _ in range(rule.collects):
        optimizer.step(closure)
    draw = torch.Generator().manual_seed(0)
    (made,) = kernel._kernels.values()
    summing = [one for one in sums._kernels.values() if one is not None]
    assert len(summing) == sum(link.summarizes() for link in rule.links)
    for numbers in [made._numbers, *(part for one in summing for part in (one._before, one._after))]:
        assert numbers.is_plain
        fixed = list(rule.numbers().values())
        for t in (1, 2, 5, 10, 29, 1000):
            given = [float(t), 0.03, 1.0, *fixed]
            given += torch.rand(numbers._inputs - len(given), generator=draw, dtype=F64).tolist()
            wanted = numbers._module(*torch.tensor(given, dtype=F64).unbind())
            for a, b in zip(numbers(given), wanted, strict=True):
                assert same(a, float(b), 1e-12), (t, a, float(b))
