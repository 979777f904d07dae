"""From a spec to an optimizer on a model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ravine.core.composition import make_rule, plain
from ravine.core.declared import check_value
from ravine.core.errors import RavineError, unknown
from ravine.core.roles import ROLES, named_parameters, roles
from ravine.core.rule import Rule
from ravine.core.spec import Group, Spec, parse
from ravine.core.task import Task
from ravine.optimizer import Optimizer
from ravine.schedules import Schedule, make_schedule
from ravine.solvers.solver import Solver
from ravine.solving import make_solver, solver_call

REST = "rest"


@dataclass(frozen=True)
class Part:
    """What one group of a spec means: the rule, its learning rate, its schedule, and for which role."""

    rule: Rule
    lr: float
    schedule: Schedule
    role: str | None


def check(spec: Spec | str) -> None:
    """Raise unless `spec` means something: rules for all parameters or by roles, or a solver."""
    spec = parse(spec) if isinstance(spec, str) else spec
    if solver_call(spec) is None:
        parts(spec)


def parts(spec: Spec | str) -> list[Part]:
    """The meaning of every group of `spec`, which is made of rules; everything in it is checked."""
    spec = plain(parse(spec) if isinstance(spec, str) else spec)
    if (call := solver_call(spec)) is not None:
        raise RavineError(f"'{call.name}' is a solver, which moves all parameters as one vector: a rule is needed here")
    named = [group.role for group in spec.groups]
    if len(named) > 1 and None in named:
        raise RavineError(f"'{spec}' has several groups: each needs a role ({', '.join((*ROLES, REST))})")
    _check_roles([role for role in named if role is not None])
    for role in named:
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


def assemble(
    spec: Spec | str, model: nn.Module, horizon: int, nonfinite: str = "raise", task: Task | None = None
) -> Optimizer | Solver:
    """The optimizer or solver that `spec` describes on the trainable parameters of `model`.

    `horizon` is the length of the run in gradient evaluations, for schedules that leave theirs open: they get the
    number of steps that rules make of so many, which is less where a step takes more than one. Raises `RavineError`
    where a role of the spec has no parameters in this model, or a parameter has no group. A solver that looks at
    outputs takes forward, criterion and sample from the `task`.
    """
    spec = parse(spec) if isinstance(spec, str) else spec
    if (call := solver_call(spec)) is not None:
        return make_solver(call, model, task)
    meaning = parts(spec)
    trainable = {name: p for name, p in named_parameters(model).items() if p.requires_grad}
    if not trainable:
        raise RavineError("the model has no trainable parameters")
    if meaning[0].role is None:
        shared: dict[str | None, Named] = {None: list(trainable.items())}
    else:
        shared = dict(_by_role(model, trainable, [part.role or REST for part in meaning], f"'{spec}'"))
    made: list[dict[str, Any]] = []
    rules = [part.rule for part in meaning]
    each = 1.0 + any(link.probes() for rule in rules for link in rule.links)
    each += sum(max(rule.cost(need) for rule in rules) for need in ("product", "sampled"))
    for part in meaning:
        if chosen := shared[part.role]:
            schedule = part.schedule.bound(max(1, round(horizon / each / part.rule.collects)))
            made.append({"params": chosen, "rule": part.rule, "lr": part.lr, "schedule": schedule})
    return Optimizer(made, meaning[0].rule, meaning[0].lr, nonfinite=nonfinite)


def groups(model: nn.Module, **wanted: Rule | str | Mapping[str, Any]) -> list[dict[str, Any]]:
    """Param groups by role, each with a rule of its own, for `ravine.Optimizer`.

    wanted: for a role (input, hidden, output, embedding, norm, bias, or `rest` for those not named) a rule, a spec, or
        a dict with `rule` and whatever else a group may say, such as `lr`.

    Parameters that are frozen now are among them, and move once they get gradients. Raises `RavineError` for a role
    that does not exist or has no parameters in this model, and where a parameter would be left out.

    >>> import torch, ravine
    >>> from ravine.rules import Adam, Momentum
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
    >>> opt = ravine.Optimizer(ravine.groups(model, hidden=Momentum(0.95), rest="adam(lr=0.003)"), lr=0.02)
    >>> [(len(group["params"]), group["rule"], group["lr"]) for group in opt.param_groups]
    [(1, 'momentum', 0.02), (5, 'adam', 0.003)]
    """
    if not wanted:
        raise RavineError("groups needs a rule for a role, as in groups(model, hidden=Momentum(), rest=Adam())")
    _check_roles(list(wanted))
    described = {role: _described(role, given) for role, given in wanted.items()}
    shared = _by_role(model, named_parameters(model), list(wanted), "groups(...)")
    return [{"params": chosen} | described[role] for role, chosen in shared if chosen]


def _described(role: str, given: Rule | str | Mapping[str, Any]) -> dict[str, Any]:
    """What a group says beside its parameters."""
    if isinstance(given, Rule):
        return {"rule": given}
    if isinstance(given, Mapping):
        if "rule" not in given or "params" in given:
            raise RavineError(f"groups: {role}= as a dict needs 'rule' and no 'params', got {sorted(given)}")
        return dict(given)
    if not isinstance(given, str):
        raise RavineError(f"groups: {role}= must be a rule such as Adam(), a spec or a dict, got {given!r}")
    spec = parse(given)
    (part, *more) = parts(spec)
    if more or part.role is not None:
        raise RavineError(f"groups: {role}={given!r} must describe one group, without a role")
    rated = any(link.has("lr") for link in spec.groups[0].links)
    return {"rule": part.rule, "schedule": part.schedule} | ({"lr": part.lr} if rated else {})


def _check_roles(named: Sequence[str]) -> None:
    for role in named:
        if role not in (*ROLES, REST):
            raise unknown("role", role, (*ROLES, REST))


Named = list[tuple[str, nn.Parameter]]


def _by_role(
    model: nn.Module, among: Mapping[str, nn.Parameter], named: Sequence[str], owner: str
) -> Iterator[tuple[str, Named]]:
    """The parameters of each named role, `rest` taking those of no other; raises where none or some are left out."""
    role_of = roles(model)
    for role in named:
        of = [role_of[name] == role if role != REST else role_of[name] not in named for name in among]
        chosen = [item for item, mine in zip(among.items(), of, strict=True) if mine]
        if not chosen and role != REST:
            found = ", ".join(sorted({role_of[name] for name in among}))
            raise RavineError(f"no parameter of this model has the role '{role}'; its roles are {found}")
        yield role, chosen
    if REST not in named and (missed := [name for name in among if role_of[name] not in named]):
        raise RavineError(
            f"{len(missed)} parameters belong to no group of {owner}, '{missed[0]}' among them: give '{REST}' too"
        )
