"""What every rule, task and probe must do: run on all of ravine's own, and by anyone on theirs.

>>> from ravine.checks import check_rule
>>> from ravine.rules import Adam
>>> check_rule(Adam(beta2=0.99))
"""

import dataclasses
import io
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ravine.core.batches import batches
from ravine.core.composition import make_rule
from ravine.core.declared import Declared
from ravine.core.dry_run import DryRun, dry_run, hash_tensors
from ravine.core.errors import RavineError
from ravine.core.probe import Moment, Probe
from ravine.core.rule import SCOPES, Rule, State
from ravine.core.seeds import GlobalStream, generator
from ravine.core.spec import parse_links
from ravine.core.supervised import supervised
from ravine.core.task import Task
from ravine.loop import Run, train
from ravine.optimizer import Optimizer
from ravine.rules import SGD

F32, F64 = torch.float32, torch.float64
SIZES = (1, 7, 8, 63, 1001)  # across the width of SIMD registers
PROBE_NEEDS = frozenset({"before"})
RESERVED = frozenset({"line", "step", "work", "examples", "loss", "metric", "observed"})


def check_rule(rule: Rule) -> None:
    """Raise AssertionError, with the rule and what it does wrong, unless `rule` keeps the contract of `ravine.Rule`."""
    for check in RULE_CHECKS:
        check(rule)


def check_probe(probe: Probe) -> None:
    """Raise AssertionError unless `probe` gives named finite numbers, the same again, and leaves the run as it was."""
    found = type(probe).make(probe.call()) if probe.name in Probe.registry else None
    _hold(found == probe, probe, f"comes back from its own spec as {found}: is it a dataclass with a name?")
    _hold(probe.needs <= PROBE_NEEDS, probe, f"needs {sorted(probe.needs - PROBE_NEEDS)}, which no run provides")
    run = Run(_small_task(), lambda model: Optimizer(model.parameters(), SGD(), 0.1), 0, torch.device("cpu"))
    moment = run.judge(run.advance(3, keep_before=True), ())
    before, modes = _all_tensors(moment), [module.training for module in moment.model.modules()]
    values = probe(moment)
    _hold(before == _all_tensors(moment), probe, "writes to weights, buffers, gradients or data")
    _hold(modes == [module.training for module in moment.model.modules()], probe, "leaves another train/eval mode")
    _check_values(probe, values)
    _hold(values == probe(moment), probe, "gives other numbers when it looks again")
    told = [train(_small_task(), "sgd(lr=0.1)", steps=4, every=2, probes=probes) for probes in ((probe,), ())]
    same = all((a.loss, a.metric) == (b.loss, b.metric) for a, b in zip(*told, strict=True))
    _hold(same, probe, "changes the run that it looks at")


def check_task(task: Task) -> DryRun:
    """Raise RavineError or AssertionError unless one dry batch goes through, and again with the same numbers."""
    found, owner = dry_run(task, test=True), f"task '{task.name}'"
    _hold(found == dry_run(task), owner, "computes other numbers from one seed: draw only from the generator given")
    with GlobalStream(0):
        model = task.model().eval()
        if task.forward is not None and task.criterion is not None:
            batch = next(batches(task.train, task.batch_size, generator(0, "check")))
            whole, parted = task.loss(model, batch), task.criterion(task.forward(model, batch), batch)
            _hold(torch.equal(whole, parted), owner, f"loss is {whole}, but criterion(forward(...)) is {parted}")
    return found


# ---------------------------------------------------------------- one check each


def is_its_own_spec(rule: Rule) -> None:
    """Its text makes it again."""
    again = make_rule(parse_links(str(rule)))
    _hold(again == rule, rule, f"comes back from its own spec as {again}: is it a dataclass with a name?")


def declares_itself(rule: Rule) -> None:
    """Ranges, search space and scope speak of fields that exist and values that are allowed."""
    for link in rule.links:
        fields = {field.name for field in dataclasses.fields(link)}
        numbers = set(link.numbers())
        _hold(set(link.ranges) <= fields, link, f"has ranges for {sorted(set(link.ranges) - fields)}, no fields of it")
        _hold(numbers <= set(link.ranges), link, f"has no ranges for {sorted(numbers - set(link.ranges))}")
        _hold(link.scope in SCOPES, link, f"has scope {link.scope!r}; there are {', '.join(SCOPES)}")
        spare = set(link.space) - numbers - {"lr"}
        _hold(not spare, link, f"has a search space for {sorted(spare)}, no numbers of it")
        for key, dimension in link.space.items():
            for value in (dimension.low, dimension.high) if key != "lr" else ():
                link.with_numbers({key: value})  # raises where the rule refuses what a race would try
        if (lr := link.space.get("lr")) is not None and link.default_lr is not None:
            _hold(lr.low <= link.default_lr <= lr.high, link, f"searches lr in {lr}, without its default")


def refuses_values_outside(rule: Rule) -> None:
    """A value just outside a declared range, a truth value and text are refused, by name."""
    for link in rule.links:
        for field, interval in link.ranges.items():
            for value in (*_outside(interval), math.nan, True, "0.5"):
                try:
                    dataclasses.replace(link, **{field: value})
                except RavineError as error:
                    limits = interval if type(value) is float and "a whole number" not in str(error) else "must be"
                    missing = [word for word in (link.name, field, repr(value), limits) if word not in str(error)]
                    _hold(not missing, link, f"refuses {field}={value!r} without saying {missing}: {error}")
                else:
                    raise AssertionError(f"'{link}' accepts {field}={value!r}, outside its range {interval}")


def keeps_shape(rule: Rule) -> None:
    """The step has the shape and dtype of the parameter, and the state keeps its names, shapes and dtypes."""
    for shape in ((6, 4), (4, 63), *([(size,) for size in SIZES] if rule.scope != "matrix" else [])):
        for dtype in (F32, F64):
            p, *gradients = _drawn(4, shape, dtype)
            kinds = _kinds(rule.start(p))
            for u, state in _steps(rule, p, gradients):
                _hold(_kind(u) == _kind(p), rule, f"makes a step {_kind(u)} for a parameter {_kind(p)}")
                _hold(_kinds(state) == kinds, rule, f"begins with the state {kinds} and returns {_kinds(state)}")


def writes_nothing_in_place(rule: Rule) -> None:
    """Parameter, gradient and state are as they were, and no state shares their memory."""
    p, *gradients = _drawn(4)
    state = rule.start(p)
    for t, g in enumerate(gradients, 1):
        given = {"p": p, "g": g, **state}
        before = {name: value.clone() for name, value in given.items()}
        _, _, new = _moved(rule, g, p, t, state)
        for name, value in given.items():
            _hold(torch.equal(before[name], value), rule, f"writes into {name} in place")
        for owner, tensor in (("p", p), ("g", g)):
            shared = [name for name, value in new.items() if _memory(value) == _memory(tensor)]
            _hold(not shared, rule, f"keeps {owner} itself as its state {shared}: keep a copy")
        state = new


def depends_on_nothing_else(rule: Rule) -> None:
    """The same arguments give the same step: whatever a rule remembers is in its state."""
    p, *gradients = _drawn(4)
    first, again = (torch.stack([u for u, _ in _steps(rule, p, gradients)]) for _ in range(2))
    _hold(torch.equal(first, again), rule, "gives another step for the same gradients: keep everything in the state")


def is_finite_at_zero_gradient(rule: Rule) -> None:
    """No 0/0, from the first step on and after a gradient that was not zero."""
    for dtype in (F32, F64):
        p, g = _drawn(2, dtype=dtype)
        for gradients in ([0 * g] * 3, [g, 0 * g, 0 * g]):
            for t, (u, state) in enumerate(_steps(rule, p, gradients), 1):
                finite = all(bool(value.isfinite().all()) for value in (u, *state.values()))
                _hold(finite, rule, f"is not finite at a zero gradient (step {t}, {dtype})")


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
        _hold(_close(found, run(p, *gradients)), rule, "moves a stack of parameters otherwise than one by one")


def is_the_same_in_pieces(rule: Rule) -> None:
    """A rule of scope "element" gives every element its step, whatever tensor it stands in."""
    tied = any(link.summarizes() for link in rule.links)  # by what is summed over all pieces
    if rule.scope == "element" and not tied:
        p, *gradients = _drawn(4, (7, 9))
        whole = torch.stack([u.flatten() for u, _ in _steps(rule, p, gradients)])
        rows = [torch.split(tensor.flatten(), 20) for tensor in (p, *gradients)]
        pieces = [[u for u, _ in _steps(rule, q, list(gs))] for q, *gs in zip(*rows, strict=True)]
        joined = torch.stack([torch.cat(parts) for parts in zip(*pieces, strict=True)])
        _hold(_close(joined, whole), rule, "has scope 'element' but moves pieces otherwise")


def continues_from_a_checkpoint(rule: Rule) -> None:
    """Saved and loaded in the middle, the engine goes on with the same numbers, to the bit."""
    start, *gradients = _drawn(7, dtype=F32)
    lr = rule.lr if any(link.default_lr is not None for link in rule.links) else 0.1

    def moved(optimizer: Optimizer, p: Tensor, gradients: list[Tensor]) -> Tensor:
        for g in gradients:
            p.grad = g.clone()
            optimizer.step()
            _hold(torch.equal(p.grad, g), rule, "changes p.grad")
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
    _hold(same, rule, "does not continue from a checkpoint as if it had not stopped: keep everything in the state")


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


def _hold(true: bool, owner: Declared | str, wrong: str) -> None:
    if not true:
        raise AssertionError(f"{owner if isinstance(owner, str) else repr(str(owner))} {wrong}")


def _drawn(count: int, shape: tuple[int, ...] = (6, 4), dtype: torch.dtype = F64, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw, dtype=dtype) for _ in range(count)]


def _steps(rule: Rule, p: Tensor, gradients: list[Tensor]) -> Iterator[tuple[Tensor, State]]:
    """The steps and states that a rule makes of gradients in turn, moving as the engine does."""
    state = rule.start(p)
    for t, g in enumerate(gradients, 1):
        u, scale, state = _moved(rule, g, p, t, state)
        yield u, state
        p = p - scale * u


def _moved(rule: Rule, g: Tensor, p: Tensor, t: int, state: State) -> tuple[Tensor, float, State]:
    """A step of a parameter on its own; what noise it needs is the same for all elements, and another at each step."""
    if not any("noise" in link.needs for link in rule.links):
        return rule.move_alone(g, p, t, state, 0.01)
    return rule.move(g, p, t, state, 0.01, None, {"noise": lambda i: torch.full_like(p, math.sin(7.0 * t + i))})


def _outside(interval: str) -> Iterator[float]:
    """The floats next to an interval, on its other side."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    yield low if interval[0] == "(" else math.nextafter(low, -math.inf)
    if interval[-1] == ")" or math.isfinite(high):
        yield high if interval[-1] == ")" else math.nextafter(high, math.inf)


def _kind(value: Tensor) -> str:
    return f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"


def _kinds(state: State) -> dict[str, str]:
    return {name: _kind(value) for name, value in state.items()}


def _memory(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-12, atol=1e-15)


def _check_values(probe: Probe, values: dict[str, float]) -> None:
    _hold(isinstance(values, dict), probe, f"gives {type(values).__name__}, not a dict of named numbers")
    _hold(len(values) > 0, probe, "gives no number after three steps")
    for key, value in values.items():
        _hold(isinstance(key, str) and key not in RESERVED, probe, f"names a number {key!r}, a name that records use")
        _hold(type(value) is float and math.isfinite(value), probe, f"gives {key} = {value!r}, not a finite float")


def _all_tensors(moment: Moment) -> str:
    gradients = [p.grad for p in moment.model.parameters()]
    return hash_tensors([moment.model.state_dict(), gradients, dict(moment.before or {}), moment.batch])


def _small_task() -> Task:
    """Two classes of points, a model with a hidden layer, a buffer and chance in it."""
    draw = generator(0, "small")
    x = torch.randn(32, 3, generator=draw)
    return supervised(
        name="small",
        model=lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2)),
        criterion=nn.CrossEntropyLoss(), train=(x, (x[:, 0] > 0).long()), valid=(x, (x[:, 0] > 0).long()), batch_size=8,
    )
