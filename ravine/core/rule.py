"""A rule: how one tensor's gradient becomes its step; and the chain of several."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from ravine.core.declared import Declared, check_arguments, types
from ravine.core.errors import RavineError, unknown
from ravine.core.space import Dimension
from ravine.core.spec import Call

State = dict[str, Tensor]
SCOPES = ("element", "matrix", "tensor")  # from narrow to wide


@dataclasses.dataclass(frozen=True)
class Rule(Declared):
    """How one tensor's gradient becomes its step.

    `init(p)` gives the state kept for the parameter `p`. `update(g, p, t, **state)` gives `(u, new_state)` for the
    gradient `g` at the parameter's step `t` = 1, 2, ...; the engine then moves `p` to `p - lr * u`. Both are pure:
    nothing is written in place, nothing is known of groups, schedules or checkpoints.

    What the engine, the race and the tests must know of a rule, its class says: `scope` (what a tensor means to it:
    "element", "matrix" or "tensor"), `default_lr`, and `space`, the hyperparameters that a race may tune. A link that
    only changes another's step (weight decay) has `default_lr = None`.
    """

    kind: ClassVar[str] = "optimizer"
    scope: ClassVar[str] = "element"
    sparse: ClassVar[bool] = False
    default_lr: ClassVar[float | None] = None
    space: ClassVar[Mapping[str, Dimension]] = {}

    def init(self, p: Tensor) -> State:
        return {}

    def update(self, g: Tensor, p: Tensor, t: int, **state: Tensor) -> tuple[Tensor, State]:
        raise NotImplementedError

    @property
    def links(self) -> tuple["Rule", ...]:
        """The rules applied in turn: a plain rule is a chain of one."""
        return (self,)

    @cached_property
    def _places(self) -> dict[str, tuple[int, str]]:
        places: dict[str, tuple[int, str]] = {}
        for i, link in enumerate(self.links):
            for field in _numeric(type(link)):
                key, n = field, 1
                while key in places:
                    n += 1
                    key = f"{field}_{n}"
                places[key] = (i, field)
        return places

    def numbers(self) -> dict[str, float]:
        """The numeric hyperparameters of all links by name; a name that comes again gets _2, _3, ... behind it.

        They live in the optimizer's param groups, where schedulers and users change them.
        """
        return {key: getattr(self.links[i], field) for key, (i, field) in self._places.items()}

    def with_numbers(self, values: Mapping[str, float]) -> "Rule":
        """The same rule with the numeric hyperparameters named in `values` set and checked."""
        links = list(self.links)
        for key, (i, field) in self._places.items():
            if key in values and values[key] != getattr(links[i], field):
                links[i] = dataclasses.replace(links[i], **{field: values[key]})
        return chain(*links)

    def structure(self) -> str:
        """What remains when the numbers are taken out: the names of the links and their choices, as a spec."""
        calls = []
        for link in self.links:
            call = link.call()
            for field in _numeric(type(link)):
                call = call.without(field)
            calls.append(str(call))
        return " + ".join(calls)

    @property
    def lr(self) -> float:
        """The learning rate where none is given: that of the first link which has one."""
        found = next((link.default_lr for link in self.links if link.default_lr is not None), None)
        if found is None:
            raise RavineError(f"'{self}' only changes another rule's step: chain it to one, as in 'sgd + {self}'")
        return found

    def dimensions(self) -> dict[str, Dimension]:
        """What a race may tune, by the names of `numbers()`, with `lr` first."""
        rates = [link.space["lr"] for link in self.links if "lr" in link.space]
        found = {"lr": rates[0]} if rates else {}
        for key, (i, field) in self._places.items():
            if field in self.links[i].space:
                found[key] = self.links[i].space[field]
        return found


@dataclasses.dataclass(frozen=True)
class Chain(Rule, register=False):
    """Rules applied in turn: the step of one is the gradient of the next."""

    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise RavineError(f"a chain is made of rules, got {rule!r}; write chain(Adam(), Decay(0.1))")

    @property
    def links(self) -> tuple[Rule, ...]:
        return self.rules

    @property
    def scope(self) -> str:  # type: ignore[override]  # a class's own fact, but a chain has it from its links
        """That of the widest link."""
        return max((rule.scope for rule in self.rules), key=SCOPES.index)

    def __str__(self) -> str:
        return " + ".join(str(rule) for rule in self.rules)

    def init(self, p: Tensor) -> State:
        return {f"{i}.{key}": value for i, rule in enumerate(self.rules) for key, value in rule.init(p).items()}

    def update(self, g: Tensor, p: Tensor, t: int, **state: Tensor) -> tuple[Tensor, State]:
        new: State = {}
        for i, rule in enumerate(self.rules):
            mine = {key.partition(".")[2]: value for key, value in state.items() if key.partition(".")[0] == str(i)}
            g, kept = rule.update(g, p, t, **mine)
            new |= {f"{i}.{key}": value for key, value in kept.items()}
        return g, new


def chain(*rules: Rule) -> Rule:
    """The rules applied in turn; one rule alone stays itself, and chains inside are unrolled.

    >>> from ravine.rules import Adam, Decay
    >>> print(chain(Adam(beta2=0.99), Decay(weight_decay=0.1)))
    adam(beta2=0.99) + decay(weight_decay=0.1)
    """
    if not rules:
        raise RavineError("an empty chain moves nothing: give at least one rule, as in chain(Adam())")
    flat = Chain(tuple(link for rule in rules for link in (rule.links if isinstance(rule, Rule) else (rule,))))
    return flat.rules[0] if len(flat.rules) == 1 else flat


@dataclasses.dataclass(frozen=True)
class Composition:
    """A chain with a name of its own: `adamw` is Adam, then weight decay. Its arguments are those of its links."""

    name: str
    rule: Rule
    doc: str

    def __post_init__(self) -> None:
        if self.name in Rule.registry:
            raise RavineError(f"the optimizer name '{self.name}' is taken by a rule")
        COMPOSITIONS[self.name] = self

    def __call__(self, **hyperparameters: float) -> Rule:
        numbers = self.rule.numbers()
        for key in hyperparameters:
            if key not in numbers:
                raise unknown(f"argument of optimizer '{self.name}'", key, numbers)
        return self.rule.with_numbers(hyperparameters)


COMPOSITIONS: dict[str, Composition] = {}


def make_rule(calls: tuple[Call, ...]) -> Rule:
    """The rule that the links of a spec's group describe, with any `lr` taken out before."""
    return chain(*(_make(call) for call in calls))


def catalogue() -> Iterator[tuple[str, float | None, dict[str, float], str]]:
    """Name, default lr (None for a link that only changes another's step), arguments and summary of every optimizer."""
    for name, member in Rule.registry.items():
        rule = member()
        yield name, rule.default_lr, rule.hyperparameters(), member.summary()
    for name, composition in COMPOSITIONS.items():
        yield name, composition.rule.lr, composition.rule.numbers(), composition.doc


def _make(call: Call) -> Rule:
    if call.name not in Rule.registry | COMPOSITIONS:
        raise unknown("optimizer", call.name, Rule.registry | COMPOSITIONS)
    if call.name in COMPOSITIONS:
        check_arguments(f"optimizer '{call.name}'", call, list(COMPOSITIONS[call.name].rule.numbers()))
        return COMPOSITIONS[call.name](**dict(call.arguments))  # type: ignore[arg-type]  # checked by the rules
    return Rule.make(call)


def _numeric(cls: type[Rule]) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if types(cls)[field.name] is float]
