"""Compiled steps: the same numbers as the loop's, one kernel for all sizes and settings, and nothing else changed."""

import copy
import io
import math
import warnings
from collections.abc import Callable

import pytest
import torch
from reference import RULES, VARIANTS
from torch import Tensor, nn

import ravine
from ravine.assembly import parts
from ravine.core.composition import make_rule
from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.core.spec import parse_links
from ravine.engine import compiled, execution, kernel
from ravine.engine.kernel import Kernel
from ravine.rules import SGD, Adam, AdaptiveClip, Decay, NAdam, chain

SIZES = (1, 7, 8, 63, 1001)
EXTRA = (
    "momentum(form='book', momentum=0.8)",
    "nesterov(form='book', momentum=0.8)",
    "rmsprop(where='inside', centered=true)",
    "rmsprop(momentum=0.9, nesterov=true)",
    "clip_norm(limit=0.5) + adam + decay",
    "prodigy(d0=0.1, use_bias_correction=true)",
    *VARIANTS,
)


def with_a_rate(spec: str) -> str:
    """The spec, behind `sgd` where it only changes another rule's step."""
    return spec if any(link.default_lr for link in make_rule(parse_links(spec)).links) else f"sgd + {spec}"


SPECS = [with_a_rate(spec) for spec in (*RULES, *EXTRA)]
if execution.cannot_compile("cpu"):
    pytest.skip("needs a C++ compiler", allow_module_level=True)


def rule_of(spec: str) -> Rule:
    return parts(spec)[0].rule


def tensors(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """Weights of all sizes, and some that lie in memory in other orders; none near zero, where a step would cancel."""
    draw = torch.Generator().manual_seed(1)
    drawn = [torch.randn(size, generator=draw) for size in SIZES]
    drawn += [torch.randn((), generator=draw), torch.randn(13, 5, generator=draw).t()]
    drawn += [torch.randn(3, 4, 5, 2, generator=draw).to(memory_format=torch.channels_last)]
    drawn = [torch.where(x < 0, x - 0.5, x + 0.5) for x in drawn]
    ps = [nn.Parameter(x.to(dtype)) for x in drawn]
    ps.append(nn.Parameter(torch.ones(20, 3, dtype=dtype)[::2]))  # with holes: it is looped, as is the 0-d
    assert [p.is_contiguous() for p in ps] == [True] * 6 + [False] * 3
    return ps


def gradients(ps: list[nn.Parameter], step: int, scale: float = 1.0) -> None:
    draw = torch.Generator().manual_seed(100 + step)
    for p in ps:
        p.grad = (scale * torch.randn(p.shape, generator=draw)).to(p.dtype)
        if p.ndim == 4:
            p.grad = p.grad.to(memory_format=torch.channels_last)


def assert_close_to_the_last_bits(found: Tensor, wanted: Tensor, before: Tensor, units: int) -> None:
    """At most so many units in the last place of the largest number that a step adds or subtracts: of two numbers that
    nearly cancel, what remains has fewer right digits than they."""
    largest = (wanted.double().abs() + before.double().abs()).clamp(min=1e-30)
    unit = torch.finfo(wanted.dtype).eps * 2.0 ** torch.floor(torch.log2(largest))
    worst = ((found.double() - wanted.double()).abs() / unit).max().item()
    assert worst <= units, worst


@pytest.mark.parametrize("gathered", [True, False], ids=["gathered", "alone"])
@pytest.mark.parametrize("spec", SPECS)
def test_a_compiled_step_equals_the_loops(spec: str, gathered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """float32, from the same place at every step: weights and state to 4 units in the last place."""
    monkeypatch.setattr(compiled, "SMALL", 1 << 16 if gathered else 0)
    ours, theirs = tensors(), tensors()
    fast = ravine.Optimizer(ours, rule_of(spec), 0.01, execution="compiled")
    slow = ravine.Optimizer(theirs, rule_of(spec), 0.01, execution="loop")
    for step in range(8):
        for group in (*fast.param_groups, *slow.param_groups):
            group["lr"] = 0.001 * (1 + step % 3)
        before = [p.detach().clone() for p in ours]
        was = [{key: x.clone() for key, x in fast.state[p].items() if isinstance(x, Tensor)} for p in ours]
        for ps in (ours, theirs):
            gradients(ps, step)
        given = [p.grad.clone() for p in ours]  # type: ignore[union-attr]
        fast.step()
        slow.step()
        for p, q, g, x, kept in zip(ours, theirs, given, before, was, strict=True):
            assert torch.equal(p.grad, g)  # type: ignore[arg-type]
            assert_close_to_the_last_bits(p.detach(), q.detach(), x, 4)
            assert fast.state[p]["step"] == slow.state[q]["step"] == step + 1
            for key, value in slow.state[q].items():
                if isinstance(value, Tensor):
                    assert fast.state[p][key].shape == value.shape
                    assert_close_to_the_last_bits(fast.state[p][key], value, kept.get(key, value), 4)
        for p, q in zip(ours, theirs, strict=True):
            q.data.copy_(p.detach())
            slow.state[q].update({k: x.clone() for k, x in fast.state[p].items() if isinstance(x, Tensor)})


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("spec", ["adamw", "momentum", "nadam"])
def test_other_types_of_weights(spec: str, dtype: torch.dtype) -> None:
    ours, theirs = tensors(dtype), tensors(dtype)
    fast = ravine.Optimizer(ours, rule_of(spec), 0.01, execution="compiled")
    slow = ravine.Optimizer(theirs, rule_of(spec), 0.01, execution="loop")
    for step in range(5):
        gradients(ours, step)
        gradients(theirs, step)
        fast.step()
        slow.step()
    worst = 1e-12 if dtype is torch.float64 else torch.finfo(dtype).eps
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=worst, atol=worst)
        assert {x.dtype for x in fast.state[p].values() if isinstance(x, Tensor) and x.ndim} <= {
            torch.float64 if dtype is torch.float64 else torch.float32
        }


def test_one_kernel_for_all_sizes_steps_rates_and_betas() -> None:
    rule = Adam(beta1=0.8765)
    ps = tensors()
    optimizer = ravine.Optimizer(ps, rule, 1e-3, execution="compiled", maximize=True)
    gradients(ps, 0)
    optimizer.step()
    built = Kernel.built
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 20)
    for step in range(1, 6):
        gradients(ps, step)
        optimizer.param_groups[0]["beta2"] = 0.9 + 0.01 * step
        optimizer.step()
        schedule.step()
    more = [nn.Parameter(torch.randn(n)) for n in (1, 2, 3, 70_000, 131_073)]
    again = ravine.Optimizer(more, Adam(0.5, 0.9, 1e-4), 0.2, execution="compiled")
    for step in range(3):
        gradients(more, step)
        again.step()
    assert Kernel.built == built


def test_parameters_that_come_late_or_pause_keep_steps_of_their_own() -> None:
    ours, theirs = tensors(), tensors()
    fast = ravine.Optimizer(ours, NAdam(), 0.01, execution="compiled")
    slow = ravine.Optimizer(theirs, NAdam(), 0.01, execution="loop")
    for step in range(9):
        for ps in (ours, theirs):
            gradients(ps, step)
            for i, p in enumerate(ps):
                if (step + i) % (i + 2) == 0 or (step < 3 and i == 4):
                    p.grad = None
        fast.step()
        slow.step()
    for p, q in zip(ours, theirs, strict=True):
        assert fast.state[p]["step"] == slow.state[q]["step"]
        torch.testing.assert_close(p, q, rtol=2e-6, atol=2e-6)
        torch.testing.assert_close(fast.state[p]["w"], slow.state[q]["w"], rtol=1e-14, atol=0)
    assert len({fast.state[p]["step"] for p in ours}) > 2


def test_a_saved_and_reloaded_optimizer_goes_on_to_the_bit_and_the_loop_reads_what_kernels_wrote() -> None:
    def run(ps: list[nn.Parameter], optimizer: ravine.Optimizer, steps: range) -> list[Tensor]:
        for step in steps:
            gradients(ps, step)
            optimizer.step()
        return [p.detach().clone() for p in ps]

    rule = chain(NAdam(), Decay(0.1))
    ps = tensors()[:-1]  # a copy of the one with holes has none
    optimizer = ravine.Optimizer(ps, rule, 0.01, execution="compiled")
    run(ps, optimizer, range(4))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    twins = {how: [nn.Parameter(p.detach().clone(memory_format=torch.preserve_format)) for p in ps] for how in "cl"}
    copied, weights = copy.deepcopy((optimizer, ps))
    wanted = run(ps, optimizer, range(4, 8))
    assert all(map(torch.equal, run(weights, copied, range(4, 8)), wanted))
    for how, execution_ in (("c", "compiled"), ("l", "loop")):
        other = ravine.Optimizer(twins[how], rule, 0.01, execution=execution_)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        found = run(twins[how], other, range(4, 8))
        for p, q in zip(found, wanted, strict=True):
            assert torch.equal(p, q) if how == "c" else torch.allclose(p, q, rtol=1e-5, atol=1e-6)


def test_new_data_and_new_state_from_the_user_are_seen() -> None:
    ps = [nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(70_000))]
    optimizer = ravine.Optimizer(ps, rule_of("momentum(momentum=0.5)"), 1.0, execution="compiled")
    for step in range(3):
        for p in ps:
            p.grad = torch.ones_like(p)
        optimizer.step()
        for p in ps:
            assert torch.equal(p.detach(), torch.full_like(p, -(1.0 if step == 0 else 0.5 if step == 1 else 5.0)))
            p.data = torch.ones_like(p)
            optimizer.state[p]["m"] = torch.full_like(p, 10.0 if step == 1 else 1.0)


def test_complex_and_empty_weights() -> None:
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(9, 4, dtype=torch.complex64, generator=draw)
    ours, theirs = (
        [nn.Parameter(x.clone()), nn.Parameter(x.t().clone()), nn.Parameter(torch.zeros(0, 3))] for _ in "12"
    )
    fast = ravine.Optimizer(ours, Adam(), 0.1, execution="compiled")
    slow = ravine.Optimizer(theirs, Adam(), 0.1, execution="loop")
    for _ in range(3):
        for ps in (ours, theirs):
            for p in ps:
                p.grad = torch.ones_like(p) * (0.3 + 0.1j if p.is_complex() else 1)
        fast.step()
        slow.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


def test_a_step_is_noticed_by_autograd() -> None:
    p = nn.Parameter(torch.ones(70_000))
    optimizer = ravine.Optimizer([p], SGD(), 0.1, execution="compiled")
    loss = (p * p).sum()
    p.grad = torch.ones_like(p)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# ---------------------------------------------------------------- when


def test_auto_never_makes_a_small_model_wait() -> None:
    rule = Adam(beta1=0.321)
    p = nn.Parameter(torch.zeros(execution.AUTO - 1))
    p.grad = torch.ones_like(p)
    kinds = set(kernel._kernels)
    ravine.Optimizer([p], chain(rule, ravine.rules.Sign()), 0.1).step()
    assert set(kernel._kernels) == kinds


def test_auto_compiles_a_large_one() -> None:
    p = nn.Parameter(torch.zeros(execution.AUTO))
    p.grad = torch.ones_like(p)
    kinds = set(kernel._kernels)
    ravine.Optimizer([p], chain(SGD(), ravine.rules.ClipValue(0.5), ravine.rules.Sign()), 0.1).step()
    assert len(set(kernel._kernels) - kinds) == 1
    assert torch.equal(p.detach(), torch.full_like(p, -0.1))


def test_rules_that_look_at_whole_tensors_are_looped_by_auto_and_refused_by_compiled() -> None:
    p = nn.Parameter(torch.ones(4))
    p.grad = torch.ones_like(p)
    rule = chain(AdaptiveClip(), SGD())
    with pytest.raises(RavineError, match=r"execution='compiled' is not possible: 'adaptive_clip .* looks at whole"):
        ravine.Optimizer([p], rule, 0.1, execution="compiled").step()
    assert torch.equal(p.detach(), torch.ones(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ravine.Optimizer([p], rule, 0.1).step()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no room for a kernel\nmore")

    monkeypatch.setattr(kernel, "_kernels", {})
    monkeypatch.setattr(kernel, "compiled", fails)
    execution._warn_once.cache_clear()


def test_a_failing_compiler_is_told_of_once_and_the_loop_takes_over(broken: None) -> None:
    ps = [nn.Parameter(torch.zeros(execution.AUTO)) for _ in range(2)]
    for p in ps:
        p.grad = torch.ones_like(p)
    first, second = (ravine.Optimizer([p], SGD(), 0.1) for p in ps)
    with pytest.warns(RuntimeWarning, match=r"compiling failed \(RuntimeError: no room for a kernel\)"):
        first.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first.step()
        second.step()
    assert ps[0][0].item() == pytest.approx(-0.2)
    assert ps[1][0].item() == pytest.approx(-0.1)


def test_where_compiling_was_asked_for_its_failure_is_an_error_and_nothing_has_moved(broken: None) -> None:
    ps = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))]
    for p in ps:
        p.grad = torch.ones_like(p)
    groups = [{"params": ps[:1], "rule": rule_of("adaptive_clip + sgd")}, {"params": ps[1:]}]
    optimizer = ravine.Optimizer(groups[1:], Adam(), 0.1, execution="compiled")
    with pytest.raises(RavineError, match="compiling failed, and nothing was changed"):
        optimizer.step()
    assert not any(p.any() for p in ps)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "cannot_compile", lambda device: "there is no C++ compiler here (X)")
    execution._warn_once.cache_clear()
    p = nn.Parameter(torch.zeros(execution.AUTO))
    p.grad = torch.ones_like(p)
    with pytest.warns(RuntimeWarning, match="steps are looped, not compiled: there is no C"):
        ravine.Optimizer([p], SGD(), 0.1).step()
    with pytest.raises(RavineError, match=r"no C.. compiler here .X.; use execution='auto' or 'loop'"):
        ravine.Optimizer([p], SGD(), 0.1, execution="compiled").step()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("execution", "compile", "did you mean 'compiled'"), ("rounding", "stochastik", "did you mean 'stochastic'")],
)
def test_choices_that_do_not_exist_are_refused(name: str, value: str, said: str) -> None:
    p = [nn.Parameter(torch.zeros(1))]
    with pytest.raises(RavineError, match=said):
        ravine.Optimizer(p, SGD(), 0.1, **{name: value})
    with pytest.raises(RavineError, match=said):
        ravine.optim.Adam(p, **{name: value})


# ---------------------------------------------------------------- rounding


LOW = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("how", ["loop", "compiled"])
@pytest.mark.parametrize("dtype", LOW)
def test_steps_below_the_last_bit_are_lost_kept_on_average_or_kept(dtype: torch.dtype, how: str) -> None:
    """From 1, 400 steps of a sixteenth of the last bit's size."""
    small = torch.finfo(dtype).eps / 16

    def end(rounding: str) -> Tensor:
        p = nn.Parameter(torch.ones(20_000, dtype=dtype))
        optimizer = ravine.Optimizer([p], SGD(), small, rounding=rounding, execution=how)
        for _ in range(400):
            p.grad = -torch.ones_like(p)
            optimizer.step()
        return p.detach().double() - 1

    wanted = 400 * small
    assert not end("nearest").any()
    drift = end("stochastic")
    deviation = math.sqrt(400 * 15) * small  # of a sum of 400 steps that are 16 times as large with probability 1/16
    assert abs(drift.mean().item() - wanted) < 4 * deviation / math.sqrt(len(drift))
    assert drift.std().item() == pytest.approx(deviation, rel=0.05)
    assert (end("kahan") - wanted).abs().max().item() <= torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "kahan"])
def test_rounding_is_the_same_looped_compiled_and_resumed(rounding: str, dtype: torch.dtype) -> None:
    def begun(how: str) -> tuple[list[nn.Parameter], ravine.Optimizer]:
        ps = tensors(dtype)
        return ps, ravine.Optimizer(ps, Adam(), 1e-3, rounding=rounding, execution=how)

    def run(ps: list[nn.Parameter], optimizer: ravine.Optimizer, steps: range) -> None:
        for step in steps:
            gradients(ps, step)
            optimizer.step()

    (ps, slow), (qs, fast), (rs, resumed) = begun("loop"), begun("compiled"), begun("compiled")
    run(ps, slow, range(6))
    run(qs, fast, range(3))
    resumed.load_state_dict(copy.deepcopy(fast.state_dict()))
    for r, q in zip(rs, qs, strict=True):
        r.data.copy_(q.detach())
    run(qs, fast, range(3, 6))
    run(rs, resumed, range(3, 6))
    assert all(map(torch.equal, rs, qs))
    for p, q in zip(ps, qs, strict=True):
        torch.testing.assert_close(p, q, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)
        assert slow.state[p].keys() == fast.state[q].keys()
        assert ("compensation" in slow.state[p]) == (rounding == "kahan")


@pytest.mark.parametrize("how", ["loop", "compiled"])
def test_stochastic_rounding_lands_on_a_neighbour_and_leaves_what_is_not_finite(how: str) -> None:
    p = nn.Parameter(torch.tensor([1.0, -1.0, math.inf, -math.inf, math.nan, 3e38], dtype=torch.bfloat16))
    p.grad = torch.tensor([0.001, 0.001, 0, 0, 0, -1e38], dtype=torch.bfloat16)
    options = {"rounding": "stochastic", "execution": how, "nonfinite": "ignore"}
    ravine.Optimizer([p], SGD(), 1.0, **options).step()
    found = p.detach().float()
    assert found[0].item() in (1.0, 0.99609375)
    assert found[1].item() in (-1.0, -1.0078125)
    assert found[2:4].tolist() == [math.inf, -math.inf]
    assert found[4].isnan()
    assert found[5] == math.inf


def test_rounding_leaves_weights_of_32_bits_alone() -> None:
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.full((3,), 1e-3)
    optimizer = ravine.Optimizer([p], SGD(), 0.1, rounding="kahan")
    optimizer.step()
    assert optimizer.state[p].keys() == {"step"}


Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_low_precision_is_no_further_from_float64_than_torch(name: str, dtype: torch.dtype) -> None:
    def end(module: object, kind: torch.dtype) -> Tensor:
        ps = [nn.Parameter(p.detach().to(kind)) for p in tensors(dtype)]
        optimizer = getattr(module, name)(ps, lr=0.01, **({"eps": 1e-3} if name != "SGD" else {}))
        for step in range(10):
            gradients(ps, step)
            for p in ps:
                p.grad = p.grad.to(dtype).to(kind)  # type: ignore[union-attr]
            optimizer.step()
        return torch.cat([p.detach().double().flatten() for p in ps])

    exact = end(torch.optim, torch.float64)
    ours, theirs = (end(module, dtype) - exact for module in (ravine.optim, torch.optim))
    assert ours.abs().mean() <= theirs.abs().mean() * 1.01  # where both round once, chance decides which is nearer
