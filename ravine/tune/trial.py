"""A short run whose learning rate is set from outside at every step, and that leaves nothing changed behind it."""

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ravine.assembly import assemble, parts
from ravine.core.composition import Composition, make_rule, plain
from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.core.spec import Group, Spec, parse
from ravine.core.task import Task
from ravine.engine.group import rule_of
from ravine.loop import Make, Run
from ravine.optimizer import Optimizer
from ravine.schedules import constant

Optimizing = str | Spec | Rule | torch.optim.Optimizer


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is tested: a task, and an optimizer whose groups keep the ratios between their learning rates."""

    task: Task
    spec: Spec | None
    make: Make
    lrs: tuple[float, ...]
    rule: Rule | None
    model: nn.Module | None = None
    optimizer: torch.optim.Optimizer | None = None

    def begin(self, seed: int, device: torch.device) -> "Trial":
        """A run of its own: fresh weights, or a copy of the live model and optimizer, and data in the seed's order."""
        if self.model is None:
            return Trial(Run(self.task, self.make, seed, device), self.lrs[0])
        model, optimizer = copy.deepcopy((self.model, self.optimizer))  # together: parameters stay those of the model
        task = dataclasses.replace(self.task, model=lambda: model)
        make = self.make if optimizer is None else lambda _: _bare(optimizer)
        return Trial(Run(task, make, seed, device), self.lrs[0])

    @property
    def proportional(self) -> bool:
        """Whether a step is the gradient times lr and nothing else: plain gradient descent."""
        if self.rule is None:
            momenta = [group.get("momentum", 1) for group in self.optimizer.param_groups] if self.optimizer else [1]
            return isinstance(self.optimizer, torch.optim.SGD) and not any(momenta)
        return _proportional(self.rule)

    def named(self, lr: float) -> tuple[str, tuple[float, ...]]:
        """The spec to paste with `lr` in its first group, and the lr of every group."""
        lrs = tuple(float(f"{lr * one / self.lrs[0]:.3g}") for one in self.lrs)
        if self.spec is None:
            return "", lrs
        groups = (_with_lr(group, one) for group, one in zip(plain(self.spec).groups, lrs, strict=True))
        return str(Spec(tuple(groups), self.spec.label)), lrs


class Trial:
    """A run in progress, one evaluation of the gradient or a few at a time."""

    def __init__(self, run: Run, first: float) -> None:
        self.run, self.first = run, first
        self.base = [float(group["lr"]) for group in run.optimizer.param_groups]
        self.losses: list[float] = []

    @property
    def work(self) -> int:
        return self.run.work

    @property
    def broken(self) -> bool:
        """Whether the last loss is no number."""
        return bool(self.losses) and not math.isfinite(self.losses[-1])

    def step(self, lr: float) -> float:
        """A step with this lr in the first group; the loss before it."""
        for base, group in zip(self.base, self.run.optimizer.param_groups, strict=True):
            group["lr"] = base * (lr / self.first)
        loss = self.run.advance(self.run.work + 1, keep_before=False)
        self.losses.append(math.nan if loss is None else loss)
        return self.losses[-1]

    def affords(self, limit: int) -> bool:
        """Whether another step like the last stays within `limit` evaluations."""
        return self.run.work + (self.run.cost if self.losses else 1) <= limit


def subject(task: Task, given: Any, model: nn.Module | None, steps: int) -> Subject:
    """What `given` means: a spec, a rule, or a live optimizer on the live `model`."""
    if model is not None and not isinstance(model, nn.Module):
        raise RavineError(f"model= is a live nn.Module that the test starts from a copy of, got {type(model).__name__}")
    if isinstance(given, torch.optim.Optimizer):
        return _live(task, given, model)
    spec = _spec(given)
    meaning = parts(spec)
    lrs = tuple(part.lr for part in meaning)
    if not all(lr > 0 for lr in lrs):
        raise RavineError(f"'{spec}' has a group whose lr is 0: the test multiplies all lrs by one factor")
    # Schedules are left out: what is tested is the lr that they multiply.
    bare = Spec(tuple(dataclasses.replace(group, schedules=()) for group in spec.groups))
    make: Callable[[nn.Module], torch.optim.Optimizer] = lambda built: assemble(bare, built, steps, nonfinite="ignore")  # noqa: E731
    return Subject(task, spec, make, lrs, meaning[0].rule, model)


def _live(task: Task, optimizer: torch.optim.Optimizer, model: nn.Module | None) -> Subject:
    if model is None:
        raise RavineError("a live optimizer needs the model that it moves: give model= too, or a spec such as 'adam'")
    mine = {id(p) for p in model.parameters()}
    if not all(id(p) in mine for group in optimizer.param_groups for p in group["params"]):
        raise RavineError("the optimizer moves parameters that are not the model's: give the model it was made for")
    lrs = tuple(float(group["lr"]) for group in optimizer.param_groups)
    if not all(lr > 0 for lr in lrs):
        raise RavineError(f"the optimizer's groups have lrs {lrs}: each must be above 0, the test multiplies them")
    rule = rule_of(optimizer.param_groups[0]) if isinstance(optimizer, Optimizer) else None
    spec = parse(str(rule)) if rule is not None and len(lrs) == 1 else None
    return Subject(task, spec, lambda _: optimizer, lrs, rule, model, optimizer)


def _proportional(rule: Rule) -> bool:
    """Whether twice the gradient makes twice the step, at p = 0 where weight decay adds nothing, without any state."""
    p, g = torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    once, twice = g, 2 * g
    for link in rule.links:
        try:
            if link.init(p):
                return False
            once, twice = (link.update(x, p, 1, lr=1.0)[0] for x in (once, twice))
        except (KeyError, TypeError):  # it asks for totals, or more than the gradient
            return False
    return torch.allclose(twice, 2 * once)


def _bare(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The copy of a live optimizer without its schedule, and without raising where a loss is infinite."""
    if isinstance(optimizer, Optimizer):
        optimizer.nonfinite = "ignore"
        for group in optimizer.param_groups:
            group["schedule"] = str(constant())
    return optimizer


def _spec(given: Any) -> Spec:
    if isinstance(given, Composition) or (isinstance(given, type) and issubclass(given, Rule)):
        given = given()
    if isinstance(given, Rule):
        return Spec((Group(tuple(link.call() for link in given.links)),))
    if isinstance(given, str):
        return parse(given)
    if isinstance(given, Spec):
        return given
    raise RavineError(
        f"spec must be a spec such as 'adam', a rule, or a live optimizer with model=, got {type(given).__name__}"
    )


def _with_lr(group: Group, lr: float) -> Group:
    """The group with this lr where it has one, else in the first link that is more than a change of another's step."""
    rated = [i for i, link in enumerate(group.links) if link.get("lr") is not None]
    rules = [make_rule((link.without("lr"),)) for link in group.links]
    at = (rated or [i for i, rule in enumerate(rules) if any(link.default_lr is not None for link in rule.links)])[0]
    links = tuple(link.including(lr=lr) if i == at else link for i, link in enumerate(group.links))
    return dataclasses.replace(group, links=links)
