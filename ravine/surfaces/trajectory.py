"""Where an optimizer goes on a surface: the engine itself, on a parameter of two numbers."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ravine.assembly import assemble, check, parts
from ravine.core.declared import check_value
from ravine.core.errors import RavineError
from ravine.core.spec import Call, Group, Spec, parse, parse_list
from ravine.core.task import Task
from ravine.loop import Run
from ravine.solving import solver_call
from ravine.surfaces.definition import Point, Surface

DEFAULT = "sgd, momentum, nesterov, rmsprop, adam"
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
"""What is tried for a spec that writes no lr, beside the rule's default."""

Observe = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trajectory:
    """The way of one optimizer, from the start to its last point.

    step, work, x, y and loss have an entry for each point: the optimizer's steps, the gradient evaluations they took,
    the point and its loss. Where a rule takes gradients elsewhere than at the parameters that count, it is those that
    count. `runs` is the number of learning rates that were tried, `ending` says why it is shorter than the budget,
    `flat_start` whether the gradient is 0 where it begins.
    """

    spec: Spec
    lr: float
    tuned: bool
    runs: int = 1
    step: list[int] = field(default_factory=list)
    work: list[int] = field(default_factory=list)
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    ending: str = ""
    flat_start: bool = False

    @property
    def name(self) -> str:
        """What a legend calls it: its label, or the spec without the learning rate."""
        bare = (Group(tuple(map(_without_lr, g.links)), g.schedules, g.role) for g in self.spec.groups)
        return self.spec.label or str(Spec(tuple(bare)))

    @property
    def notes(self) -> list[str]:
        """What a legend says beside the name."""
        shown = len(self.spec.groups) == 1 and solver_call(self.spec) is None
        rate = [f"lr={self.lr:g}{', tuned' if self.tuned else ''}"] if shown else []
        flat = ["gradient is 0 at the start"] if self.flat_start else []
        return rate + flat + ([self.ending] if self.ending else [])

    def add(self, step: int, work: int, at: tuple[float, float, float]) -> None:
        """One more point: x, y and the loss."""
        self.step.append(step)
        self.work.append(work)
        for column, value in zip((self.x, self.y, self.loss), at, strict=True):
            column.append(value)


def trajectories(
    surface: Surface,
    optimizers: str | Sequence[str | Spec] = DEFAULT,
    start: Point | None = None,
    steps: int | None = None,
    seed: int = 0,
    observe: Observe | None = None,
) -> list[Trajectory]:
    """The ways of `optimizers` on `surface`, in float64, from `start` until `steps` gradients have been taken.

    A learning rate that is written is used as it is. Where none is, each of `RATES` and the rule's default is tried,
    and the one kept whose loss is lowest on average over the way, of those that stay in the picture if any do. Gradient
    evaluations are counted, a product of the Hessian as one: SAM makes half the steps.

    observe(name, done, planned) is told before each run. Everything is checked before the first: raises `RavineError`.

    >>> import ravine
    >>> walked = ravine.surfaces.trajectories(ravine.surfaces.find("valley"), "sgd(lr=0.02), adam", steps=50)
    >>> [(one.name, one.lr, one.tuned, one.work[-1]) for one in walked]
    [('sgd', 0.02, False, 50), ('adam', 1.0, True, 50)]
    """
    specs = checked(surface, optimizers, start, steps, seed)
    start, steps = start or surface.start, steps or surface.steps
    flat = surface.gradient(start) == (0.0, 0.0)
    plans = [(spec, _rates(spec)) for spec in specs]
    planned, done = sum(len(rates) for _, rates in plans), 0
    found = []
    for spec, rates in plans:
        tried = []
        for lr in rates:
            if observe is not None:
                observe(spec.name, done, planned)
            wanted = spec if len(rates) == 1 else spec.with_lr(lr)
            empty = Trajectory(wanted, lr, len(rates) > 1, len(rates), flat_start=flat)
            tried.append(_walk(surface, empty, start, steps, seed))
            done += 1
        found.append(min(tried, key=_merit))
    return found


def checked(
    surface: Surface, optimizers: str | Sequence[str | Spec], start: Point | None, steps: int | None, seed: int
) -> list[Spec]:
    """The specs, when all that `trajectories` is given makes sense, and an optimizer can be made of each."""
    if not isinstance(surface, Surface):
        raise RavineError(f"a surface is made by ravine.surfaces.find('beale') or @surface, got {surface!r}")
    given = parse_list(optimizers) if isinstance(optimizers, str) else optimizers
    specs = [parse(one) if isinstance(one, str) else one for one in given]
    if not specs:
        raise RavineError(f"no optimizers are given: name some, as in '{DEFAULT}'")
    check_value("steps", steps, int | None, "[1, inf)")
    check_value("seed", seed, int, "[0, inf)")
    start = start or surface.start
    surface.check_start(start)
    surface.gradient(start)
    for spec in specs:
        _run(surface, spec, start, 1, seed)
    return specs


def _rates(spec: Spec) -> list[float]:
    """The learning rates to try: the one that is written, or all of the grid. A solver finds its steps itself."""
    if (call := solver_call(spec)) is not None:
        return [float(call.get("lr") or 1.0)]
    meaning = parts(spec)
    written = any(link.has("lr") for group in spec.groups for link in group.links)
    return [meaning[0].lr] if written or len(meaning) > 1 else sorted({*RATES, meaning[0].lr})


def _merit(walked: Trajectory) -> tuple[bool, float]:
    return bool(walked.ending), sum(walked.loss) / len(walked.loss)


class _UnusableError(Exception):
    """The user's function gives nothing that a step can be made of; says what it did instead."""


class _Place(nn.Module):
    """A point, as a vector of two numbers; as a column where the rule wants a matrix."""

    def __init__(self, start: Point, column: bool) -> None:
        super().__init__()
        values = torch.tensor(start, dtype=torch.float64)
        self.point = nn.Parameter(values[:, None] if column else values)

    def forward(self) -> Tensor:
        return self.point.flatten()


def _task(surface: Surface, start: Point, column: bool) -> Task:
    """The surface as a task without data. Nothing is drawn from the model, so its own loss is the sampled one."""

    def loss(point: Tensor, batch: Any = None) -> Tensor:
        try:
            value: Any = surface(point[0], point[1])
        except Exception as error:
            raise _UnusableError(f"raised {type(error).__name__}") from error
        if not isinstance(value, Tensor) or value.ndim:
            raise _UnusableError("returned no 0-d tensor")
        if torch.is_grad_enabled() and not value.requires_grad:
            raise _UnusableError("not differentiable")
        return value

    return Task(
        name=surface.name,
        model=lambda: _Place(start, column),
        loss=lambda model, batch: loss(model()),
        train=lambda generator: iter(lambda: (), None),
        valid=(),
        metric=lambda model, data: loss(model()).item(),
        better="lower",
        batch_size=1,
        size=lambda batch: 1,
        forward=lambda model, batch: model(),
        criterion=loss,
        sample=lambda outputs, batch: (batch, 1),
    )


def _run(surface: Surface, spec: Spec, start: Point, steps: int, seed: int) -> Run:
    check(spec)
    links = [link for part in parts(spec) for link in part.rule.links] if solver_call(spec) is None else []
    task = _task(surface, start, any(link.scope == "matrix" for link in links))

    def make(model: nn.Module) -> torch.optim.Optimizer:
        return assemble(spec.unlabelled(), model, steps, nonfinite="ignore")

    return Run(task, make, seed, torch.device("cpu"))


def _points(run: Run, steps: int) -> Iterator[tuple[float, float, float]]:
    """x, y and the loss at the start, and after every step."""
    while True:
        with run.ours.swapped() if run.ours is not None else nullcontext(), torch.no_grad():
            x, y = run.model().tolist()
            yield x, y, run.task.metric(run.model, ())
        if run.work >= steps:
            return
        run.advance(run.work + 1, False)


def _walk(surface: Surface, empty: Trajectory, start: Point, steps: int, seed: int) -> Trajectory:
    """The trajectory of the spec in `empty`, until the budget ends, it leaves, or the function fails."""
    run = _run(surface, empty.spec, start, steps, seed)
    walked, ending = dataclasses.replace(empty, step=[], work=[], x=[], y=[], loss=[]), ""
    try:
        for at in _points(run, steps):
            if not all(map(math.isfinite, at)):
                ending = f"diverged at step {run.step}"
                break
            walked.add(run.step, run.work, at)
            if not surface.holds(at[0], at[1]):
                ending = f"left the picture at step {run.step}"
                break
    except _UnusableError as error:
        if not walked.step:
            raise RavineError(
                f"surface '{surface.name}': {error} at the start, {start[0]:g}, {start[1]:g}, when it was called again "
                "without gradients: its value may depend on nothing but its arguments"
            ) from error
        ending = f"{error} at step {walked.step[-1] + 1}"  # in the midst of a step, too
    return dataclasses.replace(walked, ending=ending)


def _without_lr(call: Call) -> Call:
    return Call(call.name, call.without("lr").arguments, tuple(map(_without_lr, call.inner)))
