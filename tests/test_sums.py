"""Sums over all parameters, taken by kernels and by the loop: the same to the last digits, wherever they are taken."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from test_engine import Remembering as EveryThird
from torch import Tensor, nn

import ravine
from ravine.assembly import parts
from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.engine import compiled, execution, sums
from ravine.engine.compiled import Compiled
from ravine.engine.kernel import Kernel
from ravine.rules import SGD, Adam, ClipNorm, chain

if execution.cannot_compile("cpu"):
    pytest.skip("needs a C++ compiler", allow_module_level=True)

F64 = torch.float64
SIZES = (1, 7, 8, 63, 1001, 70_003)
Found = list[dict[Any, dict[str, float]]]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Found:
    """The totals of every step that is made, as they come."""
    every: Found = []
    take = ravine.optimizer.totals

    def taken(*given: Any) -> Any:
        totals = take(*given)
        every.append({key: {name: x.item() for name, x in summed.items()} for key, summed in totals.items()})
        return totals

    monkeypatch.setattr(ravine.optimizer, "totals", taken)
    return every


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """The kernels of sums that a test has made."""
    made: dict[Any, Any] = {}
    monkeypatch.setattr(sums, "_kernels", made)
    return made


def weights(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(1)
    ps = [nn.Parameter(torch.randn(size, generator=draw).to(dtype)) for size in SIZES]
    ps.append(nn.Parameter(torch.randn(20, 3, generator=draw).to(dtype).t()))
    ps.append(nn.Parameter(torch.ones(20, 3, dtype=dtype)[::2]))  # with holes: it is looped, as is the next
    ps.append(nn.Parameter(torch.ones((), dtype=dtype)))
    return ps


def gradients(ps: list[nn.Parameter], step: int) -> None:
    draw = torch.Generator().manual_seed(100 + step)
    for p in ps:
        p.grad = torch.randn(p.shape, generator=draw).to(p.dtype)


def totals_of(rule: Rule, way: str, found: Found, dtype: torch.dtype = F64, steps: int = 4) -> Found:
    """The totals of a few steps at changing rates, of which a gradient or two are missing in the first."""
    found.clear()
    ps = weights(dtype)
    optimizer = ravine.Optimizer(ps, rule, 0.01, execution=way, maximize=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + step)
        gradients(ps, step)
        if step == 0:
            ps[1].grad = ps[5].grad = None
        optimizer.step()
    return list(found)


def assert_like(ours: Found, theirs: Found, rel: float) -> None:
    assert [list(found) for found in ours] == [list(found) for found in theirs]
    for a, b in zip(ours, theirs, strict=True):
        for key in b:
            assert a[key] == pytest.approx(b[key], rel=rel, abs=0)


# ---------------------------------------------------------------- the same sums


@pytest.mark.parametrize("gathered", [True, False], ids=["gathered", "alone"])
@pytest.mark.parametrize(
    ("spec", "dtype", "rel"),
    [
        ("clip_norm + adam", torch.float32, 1e-13),
        ("clip_norm + sgd", torch.bfloat16, 1e-13),
        ("adam + clip_norm", F64, 1e-12),
        ("clip_norm + adam + clip_norm + lookahead", F64, 1e-12),
        ("prodigy(d0=0.1)", F64, 1e-12),
        ("decay + clip_norm + prodigy", F64, 1e-12),
        ("momentum(form='book') + clip_norm", torch.complex128, 1e-12),
    ],
)
def test_sums_equal_the_loops(
    spec: str, dtype: torch.dtype, rel: float, gathered: bool, found: Found, kernels: dict[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(compiled, "SMALL", 1 << 16 if gathered else 0)
    rule = parts(spec)[0].rule
    assert_like(totals_of(rule, "compiled", found, dtype), totals_of(rule, "loop", found, dtype), rel)
    assert len(kernels) == sum(link.summarizes() for link in rule.links)
    assert None not in kernels.values()


def test_the_norm_of_25_million_weights(found: Found) -> None:
    """torch's own float32 norm is 1.4e-3 too small."""
    p = nn.Parameter(torch.zeros(25_000_000))
    p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    exact = p.grad.double().square().sum().item()
    ravine.Optimizer([p], chain(ClipNorm(), SGD()), 1.0, execution="compiled").step()
    assert found[0]["clip_norm", 0]["square"] == pytest.approx(exact, rel=1e-12)
    assert p.detach().double().norm().item() == pytest.approx(1.0, rel=1e-6)


def test_a_plain_sum_of_float32_is_taken_in_float64(found: Found, known: None) -> None:
    p = nn.Parameter(torch.zeros(3_000_001))
    p.grad = torch.rand(p.shape, generator=torch.Generator().manual_seed(0))
    ravine.Optimizer([p], chain(Custom("plain"), SGD()), 1.0, execution="compiled").step()
    assert found[0]["test_custom", 0]["x"] == pytest.approx(p.grad.double().sum().item(), rel=1e-13)


def test_groups_of_which_one_is_looped(monkeypatch: pytest.MonkeyPatch, found: Found) -> None:
    monkeypatch.setattr(execution, "AUTO", 1)

    def run(way: str) -> list[nn.Parameter]:
        ps = weights(F64)
        groups = [
            {"params": ps[:3]},
            {"params": ps[3:5], "rule": parts("clip_norm + centralize + sgd")[0].rule},
            {"params": ps[5:], "maximize": True},
        ]
        optimizer = ravine.Optimizer(groups, chain(ClipNorm(), Adam()), 0.01, execution=way)
        for step in range(4):
            gradients(ps, step)
            optimizer.step()
        assert (set(optimizer._compiled) == {0, 2}) == (way == "auto")
        return ps

    for p, q in zip(run("auto"), run("loop"), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
    assert_like(found[:4], found[4:], 1e-13)


def test_nothing_is_compiled_anew_when_numbers_and_sizes_change() -> None:
    for spec in ("prodigy(d0=0.01)", "clip_norm + adam"):
        for begun in (False, True):
            built = Kernel.built
            ps = [nn.Parameter(torch.randn(size)) for size in ((9, 5, 70_000) if begun else SIZES)]
            optimizer = ravine.Optimizer(ps, parts(spec)[0].rule, 0.01, execution="compiled", maximize=begun)
            for step in range(5 if begun else 1):
                group = optimizer.param_groups[0]
                group.update({key: group[key] * 1.01 for key in ("lr", "d_coef", "limit", "eps") if key in group})
                gradients(ps, step)
                optimizer.step()
            assert not begun or Kernel.built == built


# ---------------------------------------------------------------- what is not additive


@dataclass(frozen=True)
class Custom(Rule, register=False):
    """Hands the gradient on; what it wants summed is for the tests."""

    what: str = "plain"
    factor: float = 3.0

    name = "test_custom"
    choices = {
        "what": (
            "plain", "linear", "counted", "several", "absolute", "mean", "shifted", "product", "fraction", "largest",
            "relative", "centred", "python",
        )
    }  # fmt: skip

    def summarize(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> dict[str, Tensor]:
        one = 0 * g.sum().double() + 1
        made: dict[str, Any] = {
            "plain": lambda: g.sum(),
            "linear": lambda: (self.factor * g.sum().double() - (g * p).sum().double() / t) * -0.5,
            "counted": lambda: torch.as_tensor(0.5 * t * self.factor, dtype=F64),
            "several": lambda: (g * p).double().sum(),
            "absolute": lambda: g.sum().abs(),
            "mean": lambda: g.mean(),
            "shifted": lambda: g.sum().double() + self.factor,
            "product": lambda: g.sum().double() * p.sum().double(),
            "fraction": lambda: self.factor / (1 + g.sum().double().square()),
            "largest": lambda: g.max(),
            "relative": lambda: (p / p.abs().sum()).sum(),
            "centred": lambda: (g - g.mean(0, keepdim=True)).square().sum(),
            "python": lambda: one if t > 1 else 2 * one,
        }
        return {"x": made[self.what](), "square": g.double().square().sum()}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return g * (1 + 0 * state["totals"]["x"]), {}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    for rule in (Custom, Remembering):
        monkeypatch.setitem(Rule.registry, rule.name, rule)


@pytest.mark.parametrize("what", Custom.choices["what"])
def test_what_is_not_additive_is_left_to_the_loop(
    what: str, known: None, found: Found, kernels: dict[Any, Any]
) -> None:
    rule = chain(Custom(what), SGD())
    fast, slow = (totals_of(rule, way, found) for way in ("compiled", "loop"))
    assert_like(fast, slow, 1e-12)
    (made,) = kernels.values()
    assert (made is not None) == (what in ("plain", "linear", "counted", "several"))


@dataclass(frozen=True)
class Remembering(EveryThird, register=False):
    """Steps along the gradient of steps 1, 3, 5, ..."""

    @property
    def refreshes_every(self) -> int:
        return 2


def test_a_sum_behind_a_link_that_refreshes(known: None, found: Found, kernels: dict[Any, Any]) -> None:
    rule = chain(Remembering(), ClipNorm(), SGD())
    fast, slow = (totals_of(rule, way, found) for way in ("compiled", "loop"))
    assert_like(fast, slow, 1e-13)
    assert len(kernels) == 1  # for the steps between
    assert None not in kernels.values()


# ---------------------------------------------------------------- gathered once


def test_what_was_gathered_for_a_step_that_failed_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    ps = [nn.Parameter(torch.zeros(2)) for _ in "1234"]
    groups = [{"params": ps[:2]}, {"params": ps[2:]}]
    optimizer = ravine.Optimizer(groups, chain(ClipNorm(1e9), SGD()), 1.0, execution="compiled")
    gradients(ps, 0)
    optimizer.step()
    prepare, calls = Compiled.prepare, []

    def fails_at_the_second(self: Compiled, totals: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("no room")
        prepare(self, totals)

    monkeypatch.setattr(Compiled, "prepare", fails_at_the_second)
    gradients(ps, 1)
    before = [p.detach().clone() for p in ps]
    with pytest.raises(RavineError, match="compiling failed, and nothing was changed"):
        optimizer.step()
    assert all(map(torch.equal, ps, before))
    gradients(ps, 2)
    optimizer.step()
    for p, was in zip(ps, before, strict=True):
        torch.testing.assert_close(p.detach(), was - p.grad)  # type: ignore[operator]


def test_a_step_and_its_sums_gather_the_gradients_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ps = [nn.Parameter(torch.zeros(3)) for _ in "12"]
    optimizer = ravine.Optimizer(ps, chain(ClipNorm(), ClipNorm(), SGD()), 1.0, execution="compiled")
    gradients(ps, 0)
    optimizer.step()
    copy, copied = torch._foreach_copy_, []

    def counted(targets: Any, sources: Any) -> None:
        copied.extend(x.data_ptr() for x in sources)
        copy(targets, sources)

    monkeypatch.setattr(torch, "_foreach_copy_", counted)
    gradients(ps, 1)
    optimizer.step()
    assert [copied.count(p.grad.data_ptr()) for p in ps] == [1, 1]  # type: ignore[union-attr]


def test_one_memory_in_two_groups_is_stepped_twice() -> None:
    """The second group's sums see the weights before the first group's step, its own step those after."""
    rule = parts("prodigy(d0=0.1)")[0].rule

    def end(way: str) -> Tensor:
        shared, other = torch.ones(4, dtype=F64), torch.ones(3, dtype=F64)
        a, b, c, d = (nn.Parameter(x) for x in (shared, other, shared, other))
        optimizer = ravine.Optimizer([{"params": [a, b]}, {"params": [c, d]}], rule, execution=way)
        for step in range(4):
            gradients([a, b, c, d], step)
            optimizer.step()
        return torch.cat([shared, other])

    torch.testing.assert_close(end("compiled"), end("loop"), rtol=1e-12, atol=1e-12)
