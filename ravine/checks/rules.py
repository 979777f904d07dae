"""What every rule must do."""

import dataclasses
import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ravine.checks.holding import hold
from ravine.core.composition import make_rule
from ravine.core.declared import types
from ravine.core.errors import RavineError
from ravine.core.rule import SCOPES, Rule, State
from ravine.core.spec import parse_links
from ravine.engine.evaluation import takes_gradients
from ravine.optimizer import Optimizer

F32, F64 = torch.float32, torch.float64
SIZES = (1, 7, 8, 63, 1001)  # across the width of SIMD registers


def check_rule(rule: Rule) -> None:
    """Raise AssertionError, with the rule and what it does wrong, unless `rule` keeps the contract of `ravine.Rule`."""
    for check in RULE_CHECKS:
        check(rule)


# ---------------------------------------------------------------- one check each


def is_its_own_spec(rule: Rule) -> None:
    """Its text makes it again."""
    again = make_rule(parse_links(str(rule)))
    hold(again == rule, rule, f"comes back from its own spec as {again}: is it a dataclass with a name?")


def declares_itself(rule: Rule) -> None:
    """Ranges, search space and scope speak of fields that exist and values that are allowed."""
    for link in rule.links:
        fields = {field.name for field in dataclasses.fields(link)}
        numbers = set(link.numbers())
        hold(set(link.ranges) <= fields, link, f"has ranges for {sorted(set(link.ranges) - fields)}, no fields of it")
        hold(numbers <= set(link.ranges), link, f"has no ranges for {sorted(numbers - set(link.ranges))}")
        hold(link.scope in SCOPES, link, f"has scope {link.scope!r}; there are {', '.join(SCOPES)}")
        spare = set(link.space) - numbers - {"lr"}
        hold(not spare, link, f"has a search space for {sorted(spare)}, no numbers of it")
        for key, dimension in link.space.items():
            for value in (dimension.low, dimension.high) if key != "lr" else ():
                link.with_numbers({key: value})  # raises where the rule refuses what a race would try
        lr = link.space.get("lr")
        if lr is not None and link.default_lr is not None:
            hold(lr.low <= link.default_lr <= lr.high, link, f"searches lr in {lr}, without its default")


def refuses_values_outside(rule: Rule) -> None:
    """A value just outside a declared range, a truth value and text are refused, by name."""
    for link in rule.links:
        for field, interval in link.ranges.items():
            whole = types(type(link))[field] is int
            for value in (*_outside(interval, whole), math.nan, True, "0.5"):
                try:
                    dataclasses.replace(link, **{field: value})
                except RavineError as error:
                    told = (link.name, field, repr(value), interval if _is_number(value) else "must be")
                    missing = [word for word in told if word not in str(error)]
                    hold(not missing, link, f"refuses {field}={value!r} without saying {missing}: {error}")
                else:
                    raise AssertionError(f"'{link}' accepts {field}={value!r}, outside its range {interval}")


def keeps_shape(rule: Rule) -> None:
    """The step has the shape and dtype of the parameter, and the state keeps its names, shapes and dtypes."""
    for shape in ((6, 4), (4, 63), *([(size,) for size in SIZES] if rule.scope != "matrix" else [])):
        for dtype in (F32, F64):
            p, *gradients = _drawn(4, shape, dtype)
            kinds = _kinds(rule.start(p))
            for u, state in _steps(rule, p, gradients):
                hold(_kind(u) == _kind(p), rule, f"makes a step {_kind(u)} for a parameter {_kind(p)}")
                hold(_kinds(state) == kinds, rule, f"begins with the state {kinds} and returns {_kinds(state)}")


def writes_nothing_in_place(rule: Rule) -> None:
    """Parameter, gradient and state are as they were, and no state shares their memory."""
    p, *gradients = _drawn(4)
    state = rule.start(p)
    for t, g in enumerate(gradients, 1):
        given = {"p": p, "g": g, **state}
        before = {name: value.clone() for name, value in given.items()}
        _, _, new = rule.move_alone(g, p, t, state, 0.01, _told(p, t))
        for name, value in given.items():
            hold(torch.equal(before[name], value), rule, f"writes into {name} in place")
        for owner, tensor in (("p", p), ("g", g)):
            shared = [name for name, value in new.items() if _memory(value) == _memory(tensor)]
            hold(not shared, rule, f"keeps {owner} itself as its state {shared}: keep a copy")
        state = new


def depends_on_nothing_else(rule: Rule) -> None:
    """The same arguments give the same step: whatever a rule remembers is in its state."""
    p, *gradients = _drawn(4)
    first, again = (torch.stack([u for u, _ in _steps(rule, p, gradients)]) for _ in range(2))
    hold(torch.equal(first, again), rule, "gives another step for the same gradients: keep everything in the state")


def is_finite_at_zero_gradient(rule: Rule) -> None:
    """No 0/0, from the first step on and after a gradient that was not zero."""
    for dtype in (F32, F64):
        p, g = _drawn(2, dtype=dtype)
        for gradients in ([0 * g] * 3, [g, 0 * g, 0 * g]):
            for t, (u, state) in enumerate(_steps(rule, p, gradients), 1):
                finite = all(bool(value.isfinite().all()) for value in (u, *state.values()))
                hold(finite, rule, f"is not finite at a zero gradient (step {t}, {dtype})")


def is_the_same_stacked(rule: Rule) -> None:
    """Under `torch.func.vmap`, a stack of parameters moves as each does alone."""
    ps = _drawn(3)
    gs = [_drawn(3, seed=seed) for seed in (1, 2, 3)]  # of three steps for each

    def run(p: Tensor, *gradients: Tensor) -> Tensor:
        return torch.stack([u for u, _ in _steps(rule, p, list(gradients))])

    try:
        stacked = torch.func.vmap(run)(torch.stack(ps), *(torch.stack(step) for step in zip(*gs, strict=True)))
    except RuntimeError as error:
        raise AssertionError(f"'{rule}' does not run under torch.func.vmap: {error}") from error
    for p, gradients, found in zip(ps, gs, stacked, strict=True):
        hold(_close(found, run(p, *gradients)), rule, "moves a stack of parameters otherwise than one by one")


def is_the_same_in_pieces(rule: Rule) -> None:
    """A rule of scope "element" gives every element its step, whatever tensor it stands in."""
    tied = any(link.summarizes() for link in rule.links)  # by what is summed over all pieces
    if rule.scope == "element" and not tied:
        p, *gradients = _drawn(4, (7, 9))
        whole = [u.flatten() for u, _ in _steps(rule, p, gradients)]
        rows = [torch.split(tensor.flatten(), 20) for tensor in (p, *gradients)]
        pieces = [[u for u, _ in _steps(rule, q, list(gs))] for q, *gs in zip(*rows, strict=True)]
        joined = [torch.cat(parts) for parts in zip(*pieces, strict=True)]
        hold(_close(torch.stack(joined), torch.stack(whole)), rule, "has scope 'element' but moves pieces otherwise")


def continues_from_a_checkpoint(rule: Rule) -> None:
    """Saved and loaded in the middle, the engine goes on with the same numbers, to the bit."""
    start, *gradients = _drawn(7, dtype=F32)
    lr = rule.lr if any(link.default_lr is not None for link in rule.links) else 0.1

    def moved(optimizer: Optimizer, p: Tensor, gradients: list[Tensor]) -> Tensor:
        for g in gradients:
            step_from(optimizer, rule, p, g)
        return p

    p = start.clone().requires_grad_()
    one = Optimizer([p], rule, lr)
    moved(one, p, gradients[:3])
    q = p.detach().clone().requires_grad_()
    other = Optimizer([q], rule, lr)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    same = torch.equal(moved(one, p, gradients[3:]), moved(other, q, gradients[3:]))
    hold(same, rule, "does not continue from a checkpoint as if it had not stopped: keep everything in the state")


RULE_CHECKS: tuple[Callable[[Rule], None], ...] = (
    is_its_own_spec,
    declares_itself,
    refuses_values_outside,
    keeps_shape,
    writes_nothing_in_place,
    depends_on_nothing_else,
    is_finite_at_zero_gradient,
    is_the_same_stacked,
    is_the_same_in_pieces,
    continues_from_a_checkpoint,
)


# ---------------------------------------------------------------- what they share


def _drawn(count: int, shape: tuple[int, ...] = (6, 4), dtype: torch.dtype = F64, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw, dtype=dtype) for _ in range(count)]


def _steps(rule: Rule, p: Tensor, gradients: list[Tensor]) -> Iterator[tuple[Tensor, State]]:
    """The steps and states that a rule makes of gradients in turn, moving as the engine does."""
    state = rule.start(p)
    for t, g in enumerate(gradients, 1):
        u, scale, state = rule.move_alone(g, p, t, state, 0.01, _told(p, t))
        yield u, state
        p = p - scale * u


def step_from(optimizer: Optimizer, rule: Rule, p: Tensor, g: Tensor) -> None:
    """A step of the engine from the gradient `g`, by a closure where the rule needs one."""

    def loss() -> Tensor:  # whose gradient is g at p
        value: Tensor = ((g - p.detach()) * p).sum() + p.square().sum() / 2
        return value

    def closure() -> float:
        p.grad = g.clone()
        return 1.5

    if takes_gradients([rule]):
        optimizer.step(loss)  # type: ignore[arg-type]  # torch's stubs want a float, its code takes tensors
        return
    if rule.asks or rule.looks_twice:
        optimizer.step(closure, lambda: (loss(), 8))
    else:
        closure()
        optimizer.step()
    hold(p.grad is not None and torch.equal(p.grad, g), rule, "changes p.grad")


def _told(p: Tensor, t: int) -> dict[str, Any]:
    """What rules may need besides, the same for every element and every run."""
    values = {name: torch.full_like(p, value) for name, value in (("noise", 0.3), ("signs", -1.0), ("product", -2.0))}
    return {
        "loss": torch.tensor(1.5), "noise": lambda link: values["noise"] * (t + link),
        "product": (values["signs"], values["product"]), "sampled": (values["noise"] * t, 8),
    }  # fmt: skip


def _outside(interval: str, whole: bool) -> Iterator[float]:
    """The numbers next to an interval, on its other side."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    if whole:
        yield int(low) - (interval[0] == "[")
        return
    yield low if interval[0] == "(" else math.nextafter(low, -math.inf)
    if interval[-1] == ")" or math.isfinite(high):
        yield high if interval[-1] == ")" else math.nextafter(high, math.inf)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and value == value


def _kind(value: Tensor) -> str:
    return f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"


def _kinds(state: State) -> dict[str, str]:
    return {name: _kind(value) for name, value in state.items()}


def _memory(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-12, atol=1e-15)
