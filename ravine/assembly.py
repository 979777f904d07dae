"""From a spec to an optimizer on a model."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from ravine.core.composition import make_rule
from ravine.core.declared import check_value
from ravine.core.errors import RavineError, unknown
from ravine.core.roles import ROLES, roles
from ravine.core.rule import Rule
from ravine.core.spec import Group, Spec, parse
from ravine.optimizer import Optimizer
from ravine.schedules import Schedule, make_schedule

REST = "rest"


@dataclass(frozen=True)
class Part:
    """What one group of a spec means: the rule, its learning rate, its schedule, and for which role."""

    rule: Rule
    lr: float
    schedule: Schedule
    role: str | None


def parts(spec: Spec | str) -> list[Part]:
    """The meaning of every group of `spec`; everything in it is checked."""
    spec = parse(spec) if isinstance(spec, str) else spec
    named = [group.role for group in spec.groups]
    if len(named) > 1 and None in named:
        raise RavineError(f"'{spec}' has several groups: each needs a role ({', '.join((*ROLES, REST))})")
    for role in named:
        if role is not None and role not in (*ROLES, REST):
            raise unknown("role", role, (*ROLES, REST))
        if named.count(role) > 1:
            raise RavineError(f"'{spec}' gives the role '{role}' twice")
    return [_part(group) for group in spec.groups]


def _part(group: Group) -> Part:
    rated = [link for link in group.links if link.get("lr") is not None]
    if len(rated) > 1:
        raise RavineError(f"'{group}' gives lr twice; a group has one")
    for link in rated:
        check_value(f"{link.name}: lr", link.get("lr"), float, "[0, inf)")
    rule = make_rule(tuple(link.without("lr") for link in group.links))
    lr = float(rated[0].get("lr")) if rated else rule.lr  # type: ignore[arg-type]  # checked above
    return Part(rule, lr, make_schedule(group.schedules), group.role)


def assemble(spec: Spec | str, model: nn.Module, horizon: int, nonfinite: str = "raise") -> Optimizer:
    """The optimizer that `spec` describes on the trainable parameters of `model`.

    `horizon` is the number of steps of the run, for schedules that leave theirs open. Raises `RavineError` where a
    role of the spec has no parameters in this model, or a parameter has no group.
    """
    meaning = parts(spec)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise RavineError("the model has no trainable parameters")
    role_of = roles(model)
    named = {part.role for part in meaning}
    groups: list[dict[str, Any]] = []
    for part in meaning:
        if part.role is None:
            chosen = list(trainable.items())
        elif part.role == REST:
            chosen = [(name, p) for name, p in trainable.items() if role_of[name] not in named]
        else:
            chosen = [(name, p) for name, p in trainable.items() if role_of[name] == part.role]
        if not chosen and part.role != REST:
            found = ", ".join(sorted({role_of[name] for name in trainable}))
            raise RavineError(f"no parameter of this model has the role '{part.role}'; its roles are {found}")
        if chosen:
            schedule = part.schedule.bound(horizon)
            groups.append({"params": chosen, "rule": part.rule, "lr": part.lr, "schedule": schedule})
    missed = len(trainable) - sum(len(group["params"]) for group in groups)
    if missed:
        raise RavineError(f"{missed} parameters belong to no group of '{spec}': add '; {REST}: ...'")
    return Optimizer(groups, meaning[0].rule, meaning[0].lr, nonfinite=nonfinite)
