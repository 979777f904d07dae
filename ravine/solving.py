"""Solvers in specs and in runs: what a spec that names one means, and how it is stepped on a task."""

from typing import Any

import torch
from torch import Tensor, nn

import ravine.solvers  # noqa: F401  # makes the built-in names known
from ravine.core.composition import COMPOSITIONS
from ravine.core.declared import check_value
from ravine.core.errors import RavineError, nearest, unknown
from ravine.core.roles import named_parameters
from ravine.core.rule import Rule
from ravine.core.space import Dimension
from ravine.core.spec import Call, Spec
from ravine.core.task import Task
from ravine.engine.finite import NonFinite
from ravine.solvers.base import Direction
from ravine.solvers.outputs import OutputSolver
from ravine.solvers.solver import Solver

OWN = {"lr": 1.0, "iterations": 1}  # what a spec may say besides the solver's own hyperparameters


def solver_call(spec: Spec) -> Call | None:
    """The solver that a spec names, checked; None for a spec of rules.

    A solver moves all parameters as one vector: roles, links behind it and schedules are refused.
    """
    calls = [link for group in spec.groups for link in group.links]
    named = [call for call in calls if _is_solver(call.name)]
    if not named:
        return None
    call = named[0]
    for found, what in (
        (len(spec.groups) > 1 or spec.groups[0].role is not None, "has no roles"),
        (len(calls) > 1, "cannot be chained with other links"),
        (bool(spec.groups[0].schedules), "takes no schedule: it finds the length of its steps itself"),
    ):
        if found:
            raise RavineError(f"'{spec}': {call.name} is a solver, which moves all parameters as one vector and {what}")
    direction_of(call)
    return call


def direction_of(call: Call) -> Direction:
    """The direction that a call means, with `lr` and `iterations` checked beside it."""
    for key, kind, interval in (("lr", float, "[0, inf)"), ("iterations", int, "[1, inf)")):
        if key in dict(call.arguments):
            check_value(f"{call.name}: {key}", call.get(key), kind, interval)
    made = Direction.make(call.without("lr").without("iterations"))
    if "residuals" in made.needs:
        raise RavineError(
            f"{call.name} needs a function that returns residuals, as ravine.minimize takes it: for a network use "
            "levenberg_marquardt"
        )
    return made


def dimensions(call: Call) -> dict[str, tuple[Dimension, float]]:
    """What a race tunes of a solver, with the defaults: its declared space, less what is written."""
    made = direction_of(call)
    defaults = {"lr": 1.0} | made.hyperparameters()
    return {
        name: (dimension, float(defaults[name]))
        for name, dimension in made.space.items()
        if call.get(name) is None and (name != "lr" or made.searcher.scaled)
    }


def make_solver(call: Call, model: nn.Module, task: Task | None) -> Solver:
    """The solver on the trainable parameters of `model`; one that looks at outputs takes its parts from the task."""
    made = direction_of(call)
    own: dict[str, Any] = {key: value for key in OWN if (value := call.get(key)) is not None}
    if "outputs" not in made.needs:
        return Solver([item for item in named_parameters(model).items() if item[1].requires_grad], made, **own)
    lacking = [name for name in ("forward", "criterion") if task is None or getattr(task, name) is None]
    if task is None or task.criterion is None or lacking:
        whom = "no task is given" if task is None else f"task '{task.name}' has only a loss"
        raise RavineError(
            f"{call.name} looks at the outputs of the model, for which it needs a task with "
            f"{' and '.join(f'{name}=' for name in lacking)}, and {whom}: see ravine.Task, or use lbfgs"
        )
    return OutputSolver(
        model, made, criterion=task.criterion, forward=task.forward, sample=task.sample, **own
    )  # fmt: skip


def solver_step(solver: Solver, task: Task, model: nn.Module, batch: Any) -> tuple[Tensor, int]:
    """A step on one batch: the loss before it, and its cost in gradient evaluations, products counted as such.

    A loss that is not finite comes back as nan, and the parameters stay.
    """
    before = solver.evaluations + solver.products
    try:
        loss = solver.step(batch if isinstance(solver, OutputSolver) else lambda: task.loss(model, batch))
    except NonFinite:
        loss = torch.tensor(torch.nan)
    return loss.detach(), max(1, solver.evaluations + solver.products - before)


def catalogue() -> list[tuple[str, dict[str, Any], str]]:
    """Name, arguments and summary of every solver of a network."""
    return [
        (name, OWN | made().hyperparameters(), made.summary())
        for name, made in Direction.family().items()
        if "residuals" not in made.needs
    ]


def _is_solver(name: str) -> bool:
    """Whether a name is a solver's; one that is nobody's and looks most like a solver's is told so."""
    if name in COMPOSITIONS or name in Rule.registry:
        return False
    solvers = Direction.family()
    if name in solvers or name in Rule.family():
        return name in solvers
    known = [*Rule.family(), *COMPOSITIONS, *solvers]
    if nearest(name, known) in solvers:
        raise unknown("optimizer", name, known)
    return False
