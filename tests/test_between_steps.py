"""What an optimizer must notice between two steps, looped and compiled: state, parameters and groups that changed."""

import copy
import io
import math
from collections import defaultdict
from collections.abc import Callable
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
from ravine.rules import SGD, Adam, ClipNorm, Decay, Momentum, Nesterov, chain

WAYS = ["loop"] if cannot_compile("cpu") else ["loop", "compiled"]
both_ways = pytest.mark.parametrize("way", WAYS)
F64 = torch.float64


def step(optimizer: ravine.Optimizer, *ps: nn.Parameter, times: int = 1) -> list[Tensor]:
    for _ in range(times):
        for p in ps:
            p.grad = torch.ones_like(p)
        optimizer.step()
    return [p.detach().clone() for p in ps]


def begin_anew(optimizer: ravine.Optimizer, p: nn.Parameter) -> None:
    optimizer.state[p] = {"step": 0, "m": torch.zeros_like(p)}


@both_ways
@pytest.mark.parametrize(
    "change",
    [
        lambda o, p: o.state.clear(),
        lambda o, p: setattr(o, "state", defaultdict(dict)),
        begin_anew,
        lambda o, p: o.state[p].update(m=torch.zeros_like(p)),
    ],
    ids=["cleared", "replaced", "one replaced", "a tensor of it replaced"],
)
def test_state_that_the_user_replaces_counts(change: Callable[..., None], way: str) -> None:
    p, q = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(3))
    optimizer = ravine.Optimizer([p, q], Momentum(0.9), 1.0, execution=way)
    before, _ = step(optimizer, p, q, times=3)
    change(optimizer, p)
    after, _ = step(optimizer, p, q)
    torch.testing.assert_close(after, before - 1)


@both_ways
def test_groups_and_parameters_that_the_user_replaces_count(way: str) -> None:
    a, b, c = (nn.Parameter(torch.zeros(2)) for _ in "123")
    optimizer = ravine.Optimizer([{"params": [p]} for p in (a, b, c)], SGD(), 1.0, execution=way)
    step(optimizer, a, b, c)
    del optimizer.param_groups[1]
    assert [p[0].item() for p in step(optimizer, a, b, c)] == [-2, -1, -2]
    optimizer.param_groups[0]["params"][0] = b
    assert [p[0].item() for p in step(optimizer, a, b, c)] == [-2, -2, -3]


@pytest.mark.skipif(len(WAYS) < 2, reason="needs a C++ compiler")
def test_weights_that_change_their_layout_or_size() -> None:
    def end(way: str) -> Tensor:
        torch.manual_seed(0)
        net = nn.Conv2d(3, 8, 3)
        optimizer = ravine.Optimizer(net.parameters(), Momentum(0.9), 0.1, execution=way)
        for i in range(5):
            if i == 2:
                net.to(memory_format=torch.channels_last)
            optimizer.zero_grad()
            net(torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(i))).square().mean().backward()
            optimizer.step()
        return net.weight.detach()

    torch.testing.assert_close(end("compiled"), end("loop"), rtol=1e-5, atol=1e-6)
    p, q = nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(70_000))
    optimizer = ravine.Optimizer([p, q], SGD(), 1.0, execution="compiled")
    step(optimizer, p, q)
    q.data = q.data[:50_000]
    assert [x.unique().tolist() for x in step(optimizer, p, q)] == [[-2], [-2]]


@both_ways
def test_state_of_a_wrong_shape_is_an_error_before_anything_moves(way: str) -> None:
    p, q = nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(7))
    optimizer = ravine.Optimizer([p, q], Momentum(0.5), 1.0, execution=way)
    step(optimizer, p, q)
    optimizer.state[q]["m"] = torch.zeros(3)
    if way == "compiled":
        with pytest.raises(RavineError, match=r"the state 'm' of a parameter has shape \(3,\)"):
            step(optimizer, p, q)
        assert p[0].item() == -1


@pytest.mark.skipif(len(WAYS) < 2, reason="needs a C++ compiler")
def test_a_rule_that_is_defined_anew_gets_a_kernel_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def define(factor: float) -> type[Rule]:
        class Again(Rule, register=False):
            name = "again_and_again"
            default_lr = 1.0

            def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, dict[str, Tensor]]:
                return factor * g, {}

        monkeypatch.setitem(Rule.registry, "again_and_again", Again)
        monkeypatch.setattr(ravine.core.declared.Declared, "revision", ravine.core.declared.Declared.revision + 1)
        return Again

    for factor in (1.0, 5.0):
        p = nn.Parameter(torch.zeros(3))
        optimizer = ravine.Optimizer([p], define(factor)(), 1.0, execution="compiled")
        assert step(optimizer, p)[0].tolist() == [-factor] * 3


@pytest.mark.skipif(len(WAYS) < 2, reason="needs a C++ compiler")
def test_memory_does_not_grow_as_gradients_come_and_go() -> None:
    ps = [nn.Parameter(torch.zeros(1000)) for _ in range(20)]
    optimizer = ravine.Optimizer(ps, Adam(), execution="compiled")
    for count in range(20, 0, -1):
        for i, p in enumerate(ps):
            p.grad = torch.ones_like(p) if i < count else None
        optimizer.step()
    kept = [x for state in optimizer.state.values() for x in state.values() if isinstance(x, Tensor)]
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in kept}
    assert sum(storages.values()) == sum(x.nbytes for x in kept)


@both_ways
def test_the_global_norm_is_that_of_all_groups_wherever_the_link_stands(way: str) -> None:
    p, q = nn.Parameter(torch.zeros(1, dtype=F64)), nn.Parameter(torch.zeros(1, dtype=F64))
    groups = [{"params": [p]}, {"params": [q], "rule": chain(Decay(0.0), ClipNorm(1.0), SGD())}]
    optimizer = ravine.Optimizer(groups, chain(ClipNorm(1.0), SGD()), 1.0, execution=way)
    p.grad, q.grad = torch.tensor([3.0], dtype=F64), torch.tensor([4.0], dtype=F64)
    optimizer.step()
    assert (p.item(), q.item()) == pytest.approx((-0.6, -0.8), rel=1e-5)


@both_ways
def test_a_parameter_given_twice_is_an_error_and_one_memory_is_stepped_twice(way: str) -> None:
    p = nn.Parameter(torch.ones(2))
    with pytest.raises(RavineError, match="a parameter is given twice in one group"):
        ravine.Optimizer([p, p], SGD())
    q = nn.Parameter(p.data)
    optimizer = ravine.Optimizer([p, q], SGD(), 1.0, execution=way)
    assert step(optimizer, p, q)[0].tolist() == [-1, -1]


@both_ways
def test_gradients_with_a_sign_put_off(way: str) -> None:
    p = nn.Parameter(torch.ones(3))
    p.grad = torch._neg_view(torch.ones(3))
    ravine.Optimizer([p], SGD(), 1.0, execution=way).step()
    assert p.tolist() == [2, 2, 2]
    q = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    q.grad = torch.full((2,), 1 + 2j, dtype=torch.complex64).conj()
    ravine.Optimizer([q], SGD(), 1.0, execution=way).step()
    assert q.tolist() == [-1 + 2j, -1 + 2j]


# ---------------------------------------------------------------- checkpoints


def changed(optimizer: ravine.Optimizer, change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    state = copy.deepcopy(optimizer.state_dict())
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["param_groups"][0].update(beta1=3.0), r"adam: beta1 must be in \[0, 1\), got 3.0"),
        (lambda s: s["param_groups"][0].pop("beta2"), "a group of the checkpoint lacks 'beta2'"),
        (lambda s: s["param_groups"][0].update(lr=-1), r"lr must be in \[0, inf\), got -1"),
        (lambda s: s["param_groups"][0].update(schedule="nonsense(3)"), "of the spec"),
        (lambda s: s["state"][0].update(step="x"), "'step' of a parameter must be a whole number from 0, got 'x'"),
        (lambda s: s["state"][0].update(m=3), "the checkpoint's 'm' must be a tensor, got int"),
    ],
)
def test_a_checkpoint_with_wrong_values_changes_nothing(change: Callable[..., Any], said: str) -> None:
    p = nn.Parameter(torch.zeros(3))
    optimizer = ravine.Optimizer([p], Adam(), 0.1)
    step(optimizer, p)
    bad, before = changed(optimizer, change), str(optimizer.state_dict())
    with pytest.raises(RavineError, match=said):
        optimizer.load_state_dict(bad)
    assert str(optimizer.state_dict()) == before


def test_a_way_of_rounding_may_change_with_a_checkpoint() -> None:
    p = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    plain, kahan = (ravine.Optimizer([p], Adam(), 1e-4, rounding=how) for how in ("nearest", "kahan"))
    step(plain, p)
    kahan.load_state_dict(plain.state_dict())
    assert not kahan.state[p]["compensation"].any()
    step(kahan, p)
    plain.load_state_dict(kahan.state_dict())
    assert "compensation" not in plain.state[p]


def test_torch_reads_the_state_of_complex_weights() -> None:
    p, q = (nn.Parameter(torch.ones(3, dtype=torch.complex64)) for _ in "12")
    ours, theirs = optim.Adam([p]), torch.optim.Adam([q])
    step(ours, p)
    q.data.copy_(p.data)
    theirs.load_state_dict(ours.torch_state_dict())
    p.grad = q.grad = torch.full_like(p, 0.5 - 1j)
    ours.step()
    theirs.step()
    torch.testing.assert_close(p, q)


def test_what_a_scheduler_wrote_into_the_groups_travels_with_torchs_checkpoints() -> None:
    def one_cycle(o: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.OneCycleLR(o, 0.1, 20)

    p = nn.Parameter(torch.ones(3))
    theirs = torch.optim.Adam([p])
    schedule = one_cycle(theirs)
    p.grad = torch.ones(3)
    theirs.step()
    schedule.step()
    ours = optim.Adam([p])
    again = one_cycle(ours)
    ours.load_state_dict(theirs.state_dict())
    again.load_state_dict(schedule.state_dict())
    ours.step()
    again.step()
    back = torch.optim.Adam([p])
    back.load_state_dict(ours.torch_state_dict())
    assert back.param_groups[0]["max_lr"] == 0.1
    assert back.param_groups[0]["betas"] == ours.param_groups[0]["betas"]


def test_older_checkpoints_of_adamw_do_not_say_that_they_are_decoupled() -> None:
    p = nn.Parameter(torch.ones(3))
    theirs = torch.optim.AdamW([p])
    p.grad = torch.ones(3)
    theirs.step()
    old = theirs.state_dict()
    del old["param_groups"][0]["decoupled_weight_decay"]
    optim.AdamW([p]).load_state_dict(old)


# ---------------------------------------------------------------- numbers that change between steps


@both_ways
def test_the_books_nesterov_follows_a_momentum_that_changes(way: str) -> None:
    """Algorithm 8.3, the gradient taken at the look-ahead of the step before: v <- a v - e g(theta + a_before v)."""
    p = nn.Parameter(torch.ones(1, dtype=F64))
    optimizer = ravine.Optimizer([p], Nesterov(0.9, form="book"), 0.1, execution=way)
    theta, v, before = 1.0, 0.0, 0.0
    for momentum in (0.9, 0.9, 0.5, 0.5, 0.9, 0.0, 0.8):
        optimizer.param_groups[0]["momentum"] = momentum
        p.grad = p.detach().clone()
        optimizer.step()
        v, before = momentum * v - 0.1 * (theta + before * v), momentum
        theta += v
        with optimizer.swapped(), optimizer.swapped():  # inside each other they are one
            assert p.item() == pytest.approx(theta, rel=1e-12)
        assert p.item() == pytest.approx(theta + before * v, rel=1e-12)


@both_ways
def test_centered_rmsprop_stays_finite_where_gradients_hardly_change(way: str) -> None:
    p = nn.Parameter(torch.zeros(500))
    g = torch.randn(500, generator=torch.Generator().manual_seed(0)) * 1e3
    optimizer = optim.RMSprop([p], centered=True, alpha=0.9, lr=1e-6, execution=way)
    for _ in range(300):
        p.grad = g.clone()
        optimizer.step()
    assert p.isfinite().all()


@both_ways
def test_noise_follows_the_seed_and_the_name(way: str) -> None:
    def end(seed: int, names: str) -> dict[str, Tensor]:
        ps = {name: nn.Parameter(torch.ones(2000, dtype=torch.bfloat16)) for name in names}
        optimizer = ravine.Optimizer(list(ps.items()), SGD(), 1e-4, rounding="stochastic", seed=seed, execution=way)
        step(optimizer, *ps.values(), times=3)
        return {name: p.detach() for name, p in ps.items()}

    one, turned, other = end(0, "ab"), end(0, "ba"), end(1, "ab")
    assert torch.equal(one["a"], turned["a"])
    assert not torch.equal(one["a"], one["b"])
    assert not torch.equal(one["a"], other["a"])
    with pytest.raises(RavineError, match=r"seed must be in \[0, inf\), got -1"):
        ravine.Optimizer([nn.Parameter(torch.ones(1))], SGD(), seed=-1)


def test_a_nan_weight_is_found_after_a_step_that_failed() -> None:
    p = nn.Parameter(torch.tensor([math.nan, 1.0]))
    optimizer = ravine.Optimizer([p], Adam(), 0.1)
    p.grad = torch.ones(2)
    optimizer._state(p, Adam())  # as a failed compilation leaves it
    with pytest.raises(RavineError, match="is not finite before its first step"):
        optimizer.step()


def test_a_groups_rule_as_text_may_give_lr() -> None:
    p, q = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    groups = [{"params": [p], "rule": "adam(lr=0.003)"}, {"params": [q], "rule": "adamw(weight_decay=0.5)"}]
    optimizer = ravine.Optimizer(groups, lr=0.02)
    assert [group["lr"] for group in optimizer.param_groups] == [0.003, 0.02]
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    assert parts("adamw(weight_decay=0.5)")[0].rule.structure() == optimizer.param_groups[1]["rule"]


def test_sharded_weights_are_not_rounded_by_chance() -> None:
    p = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    p.to_local = lambda: p  # type: ignore[attr-defined]  # what tells a DTensor
    p.grad = torch.ones_like(p)
    with pytest.raises(RavineError, match="weights of a DTensor cannot be rounded by chance yet: use rounding='kahan'"):
        ravine.Optimizer([p], SGD(), 0.1, rounding="stochastic").step()
    ravine.Optimizer([p], SGD(), 0.1, rounding="kahan").step()
