"""The one torch.optim.Optimizer: it owns groups, state, checkpoints and the loop; rules own the maths."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, overload

import torch
from torch import Tensor

import ravine.rules  # noqa: F401  # makes the built-in names known, so that checkpoints can be read back
from ravine.core.declared import check_value
from ravine.core.errors import RavineError, unknown
from ravine.core.rule import Rule, make_rule
from ravine.core.spec import parse_links, parse_schedules
from ravine.schedules import Schedule, constant, make_schedule

_OWN = ("params", "lr", "rule", "schedule", "steps", "maximize")


class Optimizer(torch.optim.Optimizer):
    """Moves every parameter by `p <- p - lr * u`, where its group's rule makes `u` of the gradient.

    params: parameters, named parameters or group dicts, as for any optimizer of torch. A group may bring its own
        `rule`, `lr`, `schedule` and hyperparameters.
    rule: a rule or a chain of rules.
    lr: the learning rate; None takes the rule's default.
    schedule: a factor on lr by the number of steps done, such as `warmup(100) * cosine(5000)`. torch's LR schedulers
        work too: they change `group["lr"]`.
    maximize: climb instead of descend.

    The numeric hyperparameters stand in `param_groups` under their names and may be changed between steps. Each
    parameter counts its own steps, so one whose first gradient comes late gets its own bias correction. Raises
    `RavineError` for values outside their range, before any parameter has moved.

    >>> import torch, ravine
    >>> from ravine.rules import Adam, Decay
    >>> model = torch.nn.Linear(2, 1)
    >>> opt = ravine.Optimizer(model.parameters(), ravine.chain(Adam(beta2=0.99), Decay(0.1)), lr=1e-3)
    >>> model(torch.ones(2)).backward(); opt.step(); opt.param_groups[0]["weight_decay"]
    0.1
    """

    def __init__(
        self,
        params: Any,
        rule: Rule,
        lr: float | None = None,
        schedule: Schedule | None = None,
        maximize: bool = False,
    ) -> None:
        if not isinstance(rule, Rule):
            raise RavineError(f"rule must be a rule such as ravine.rules.Adam(), got {rule!r}")
        super().__init__(params, {"rule": rule, "lr": lr, "schedule": schedule or constant(), "maximize": maximize})
        # From here on a group added later needs to name only what differs; rules are kept as text, see _group.
        self.defaults |= {"lr": rule.lr if lr is None else lr}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        group = {key: self.defaults[key] for key in ("rule", "lr", "schedule", "maximize")} | param_group
        super().add_param_group(_group(group, self.defaults["rule"]))

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step for every parameter that has a gradient. Returns the closure's loss, if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group, rule, lr in [(group, _rule(group), _lr(group)) for group in self.param_groups]:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, rule, lr, group["maximize"])
            group["steps"] += 1
        return loss

    def _move(self, p: Tensor, rule: Rule, lr: float, maximize: bool) -> None:
        g = p.grad
        assert g is not None
        if g.is_sparse:
            if not rule.sparse:
                raise RavineError(f"'{rule}' needs dense gradients: use nn.Embedding(sparse=False), or sgd")
            g = g.to_dense()
        state = self.state[p]
        if not state:
            state.update(step=0, **rule.init(p))
        state["step"] += 1
        u, new = rule.update(-g if maximize else g, p, **{"t" if k == "step" else k: v for k, v in state.items()})
        state.update(new)
        p.sub_(u, alpha=lr)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state, to the bit. Refuses another rule's, before anything has changed."""
        groups = state_dict["param_groups"]
        for mine, saved in zip(self.param_groups, groups, strict=False):
            if "rule" not in saved or saved["rule"] != mine["rule"]:
                theirs = saved.get("rule", "another library's optimizer")
                raise RavineError(f"the checkpoint is of '{theirs}', but this optimizer is '{mine['rule']}'")
        super().load_state_dict(state_dict)
        # torch casts every floating state to the dtype of its parameter; a state's own dtype is part of the rule.
        saved_ids = [i for group in groups for i in group["params"]]
        for i, p in zip(saved_ids, [p for group in self.param_groups for p in group["params"]], strict=True):
            for key, value in state_dict["state"].get(i, {}).items():
                if isinstance(value, Tensor):
                    self.state[p][key] = value.detach().clone().to(p.device)


def _group(given: dict[str, Any], default: Rule) -> dict[str, Any]:
    """A param group as it is kept: the rule's choices as text, its numbers under their own names.

    Text, because an object in `param_groups` would not load with `torch.load(weights_only=True)`; numbers apart,
    because schedulers change them.
    """
    rule = given["rule"]
    if isinstance(rule, str):
        rule = make_rule(parse_links(rule))
    if not isinstance(rule, Rule):
        raise RavineError(f"a group's rule must be a rule such as ravine.rules.Adam(), got {rule!r}")
    numbers = rule.numbers()
    for key in given:
        if key not in (*_OWN, *numbers, "param_names", "initial_lr", "name"):
            raise unknown(f"hyperparameter of '{rule}'", key, ("lr", *numbers))
    rule = rule.with_numbers({key: given[key] for key in numbers if key in given})
    lr = given["lr"] if given["lr"] is not None else rule.lr
    check_value("lr", lr, float, "[0, inf)")
    schedule = given["schedule"]
    if not isinstance(schedule, Schedule):
        raise RavineError(f"schedule must be a schedule such as ravine.schedules.cosine(1000), got {schedule!r}")
    schedule(0)  # one that does not know its horizon says so now
    own = {"rule": rule.structure(), "lr": lr, "schedule": str(schedule), "steps": 0, "maximize": given["maximize"]}
    return given | own | rule.numbers()


def _rule(group: dict[str, Any]) -> Rule:
    names = _number_names(group["rule"])
    return _bound(group["rule"], tuple((name, group[name]) for name in names))


def _lr(group: dict[str, Any]) -> float:
    return float(group["lr"]) * _schedule(group["schedule"])(group["steps"])


@lru_cache(maxsize=256)
def _number_names(structure: str) -> tuple[str, ...]:
    return tuple(make_rule(parse_links(structure)).numbers())


@lru_cache(maxsize=1024)
def _bound(structure: str, numbers: Iterable[tuple[str, float]]) -> Rule:
    return make_rule(parse_links(structure)).with_numbers(dict(numbers))


@lru_cache(maxsize=256)
def _schedule(text: str) -> Schedule:
    return make_schedule(parse_schedules(text))
