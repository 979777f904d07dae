"""Chains with a name of their own, and from the words of a spec to a rule."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from ravine.core.declared import check_arguments, check_value
from ravine.core.errors import RavineError, unknown
from ravine.core.rule import Rule, chain
from ravine.core.spec import Call, Group, Spec


@dataclasses.dataclass(frozen=True)
class Composition:
    """A chain with a name of its own: `adamw` is Adam, then weight decay. Its arguments are those of its links.

    more: adds links to `rule`, by arguments of its own: `rmsprop(momentum=0.9)` is RMSProp, then momentum. Such a
        composition goes by the name of the rule that it extends.
    """

    name: str
    rule: Rule
    doc: str
    more: Callable[..., Rule] | None = None

    def __post_init__(self) -> None:
        if self.name in Rule.registry and not (self.more and self.rule.name == self.name):
            raise RavineError(f"the optimizer name '{self.name}' is taken by a rule")
        COMPOSITIONS[self.name] = self

    def arguments(self) -> dict[str, Any]:
        """Names and defaults of all arguments."""
        own = self.rule.hyperparameters() if len(self.rule.links) == 1 else self.rule.numbers()
        return own | {name: one.default for name, one in self._added().items()}

    def _added(self) -> dict[str, inspect.Parameter]:
        """The arguments of `more`, behind the rule that it extends."""
        return dict(list(inspect.signature(self.more).parameters.items())[1:]) if self.more else {}

    def __call__(self, **hyperparameters: Any) -> Rule:
        allowed, added = self.arguments(), self._added()
        for key, value in hyperparameters.items():
            if key not in allowed:
                raise unknown(f"argument of optimizer '{self.name}'", key, allowed)
            if key in added:
                check_value(f"{self.name}: {key}", value, type(added[key].default), None)
        own = {key: value for key, value in hyperparameters.items() if key not in added}
        alone = len(self.rule.links) == 1
        rule = dataclasses.replace(self.rule, **own) if alone else self.rule.with_numbers(own)
        extra = {key: value for key, value in hyperparameters.items() if key in added}
        return self.more(rule, **extra) if self.more else rule


COMPOSITIONS: dict[str, Composition] = {}


def make_rule(calls: tuple[Call, ...]) -> Rule:
    """The rule that the links of a spec's group describe, with any `lr` taken out before."""
    return chain(*(_make(call) for call in unwrapped(calls)))


def unwrapped(calls: tuple[Call, ...]) -> tuple[Call, ...]:
    """The links one after the other: `lookahead(adam, k=5)` is `adam + lookahead(k=5)`, for links that wrap."""
    found: list[Call] = []
    for call in calls:
        member = _known(call.name) if call.inner else None
        if member is not None and getattr(member, "wraps", False):
            inner, alone = unwrapped(call.inner), Call(call.name, call.arguments)
            found += (alone, *inner) if member.leads else (*inner, alone)
        else:
            found.append(call)
    return tuple(found)


def plain(spec: Spec) -> Spec:
    """The same spec with nothing wrapped, see `unwrapped`."""
    groups = (Group(unwrapped(group.links), group.schedules, group.role) for group in spec.groups)
    return Spec(tuple(groups), spec.label)


def called(rule: Rule) -> str:
    """The name of a rule where it has one, such as `muon`; else its links."""
    structure = rule.structure()
    names = (name for name, made in COMPOSITIONS.items() if made.rule.structure() == structure)
    return next(names, str(rule))


def catalogue() -> Iterator[tuple[str, float | None, dict[str, float], str]]:
    """Name, default lr (None for a link that only changes another's step), arguments and summary of every optimizer."""
    for name, member in Rule.family().items():
        if name not in COMPOSITIONS:  # those that extend a rule are listed below, with the arguments that they add
            yield name, member.default_lr, member().hyperparameters(), member.summary()
    for name, composition in COMPOSITIONS.items():
        yield name, composition.rule.lr, composition.arguments(), composition.doc


def _known(name: str) -> Any:
    """The rule or composition of that name, of this package or another."""
    if name in COMPOSITIONS or name in Rule.registry:
        return COMPOSITIONS.get(name) or Rule.registry[name]
    known = {**Rule.family(), **COMPOSITIONS}  # with those of other packages
    if name not in known:
        raise unknown("optimizer", name, known)
    return known[name]


def _make(call: Call) -> Rule:
    found = _known(call.name)
    if isinstance(found, Composition):
        check_arguments(f"optimizer '{call.name}'", call, ["lr", *found.arguments()])
        return found(**dict(call.arguments))
    return Rule.make(call)
