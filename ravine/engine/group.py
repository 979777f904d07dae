"""Param groups: what the user gave, checked, and how it is kept between steps."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from torch import Tensor

from ravine.core.composition import make_rule, unwrapped
from ravine.core.declared import Declared, check_value
from ravine.core.errors import RavineError, unknown
from ravine.core.rule import Rule
from ravine.core.spec import parse_links, parse_schedules
from ravine.schedules import Schedule, make_schedule

_OWN = ("params", "lr", "rule", "schedule", "steps", "maximize", "collected")
CYCLED = ("momentum", "betas")  # what torch's OneCycleLR and CyclicLR look for in an optimizer's defaults


class Group(dict[str, Any]):
    """A param group in which `betas`, torch's word, reads and writes `beta1` and `beta2`.

    So torch's schedulers can cycle them; what is stored, saved and loaded is the rule's own two numbers.
    """

    def __contains__(self, key: object) -> bool:
        return super().__contains__("beta1") and super().__contains__("beta2") if key == "betas" else key in self.keys()

    def __getitem__(self, key: str) -> Any:
        return (self["beta1"], self["beta2"]) if key == "betas" else super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "betas":
            self["beta1"], self["beta2"] = value
        else:
            super().__setitem__(key, value)

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key in CYCLED and key not in self:  # torch fills groups up from the defaults, also where no rule has it
            return default
        return super().setdefault(key, default) if key != "betas" else self[key]


def make_group(given: Mapping[str, Any]) -> Group:
    """A param group as it is kept: the rule's choices as text, its numbers under their own names.

    Text, because an object in `param_groups` would not load with `torch.load(weights_only=True)`; numbers apart,
    because schedulers change them.
    """
    rule = given["rule"]
    if isinstance(rule, str):
        links = unwrapped(parse_links(rule))
        rated = [link.get("lr") for link in links if link.get("lr") is not None]
        if len(rated) > 1:
            raise RavineError(f"'{rule}' gives lr twice; a group has one")
        given = {**given, "lr": rated[0]} if rated else given
        rule = make_rule(tuple(link.without("lr") for link in links))
    if not isinstance(rule, Rule):
        raise RavineError(f"a group's rule must be a rule such as ravine.rules.Adam(), got {rule!r}")
    numbers = rule.numbers()
    for key in given:
        if key not in (*_OWN, *numbers, "param_names", "initial_lr", "name"):
            raise unknown(f"hyperparameter of '{rule}'", key, ("lr", *numbers))
    rule = rule.with_numbers({key: given[key] for key in numbers if key in given})
    lr = given["lr"] if given["lr"] is not None else rule.lr
    check_value("lr", _number(lr), float, "[0, inf)")
    schedule = given["schedule"]
    if not isinstance(schedule, Schedule):
        raise RavineError(f"schedule must be a schedule such as ravine.schedules.cosine(1000), got {schedule!r}")
    schedule(0)  # one that does not know its horizon says so now
    own = {"rule": rule.structure(), "lr": lr, "schedule": str(schedule), "steps": 0, "maximize": given["maximize"]}
    return Group({**given, **own, **rule.numbers()})


def rule_of(group: Mapping[str, Any]) -> Rule:
    """The group's rule with its numbers as they are now, checked."""
    names = _number_names(group["rule"], Declared.revision)
    return _bound(group["rule"], tuple((name, group[name]) for name in names), Declared.revision)


def lr_of(group: Mapping[str, Any]) -> float:
    """The group's learning rate for its next step: its `lr` times its schedule."""
    lr = _number(group["lr"])
    check_value("lr", lr, float, "[0, inf)")
    return float(lr * _schedule(group["schedule"], Declared.revision)(group["steps"]))


def _number(lr: Any) -> Any:
    """torch takes a tensor of one element for lr, and its schedulers fill it."""
    return lr.item() if isinstance(lr, Tensor) and lr.numel() == 1 else lr


@lru_cache(maxsize=256)
def _number_names(structure: str, revision: int) -> tuple[str, ...]:
    return tuple(make_rule(parse_links(structure)).numbers())


@lru_cache(maxsize=1024)
def _bound(structure: str, numbers: Iterable[tuple[str, float]], revision: int) -> Rule:
    return make_rule(parse_links(structure)).with_numbers(dict(numbers))


@lru_cache(maxsize=256)
def _schedule(text: str, revision: int) -> Schedule:
    return make_schedule(parse_schedules(text))
