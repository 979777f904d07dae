"""Things with a name, hyperparameters and allowed ranges: the base of rules, schedules and probes.

A subclass is a frozen dataclass. Its fields are its hyperparameters, `ranges` says which values they may take, and
its name makes it known to specs, the command line and the documentation. Nothing is listed anywhere else. Other
packages bring theirs as entry points, see `ravine.core.plugins`.
"""

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from ravine.core import plugins
from ravine.core.errors import RavineError, unknown
from ravine.core.spec import Call, Value


@dataclasses.dataclass(frozen=True)
class Declared:
    """A named, checked bundle of hyperparameters.

    `name` is how specs call it (the class name in snake case unless set); `ranges` maps a hyperparameter to the
    interval of its allowed values, as text: `"[0, 1)"`, `"(0, inf)"`, and `choices` one that is a word to its allowed
    words. Values outside raise at construction.
    """

    kind: ClassVar[str] = "thing"
    entry_group: ClassVar[str] = ""
    name: ClassVar[str] = ""
    ranges: ClassVar[Mapping[str, str]] = {}
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    registry: ClassVar[dict[str, Any]]
    revision: ClassVar[int] = 0  # of all registries: what is remembered by name is stale when it has changed

    def __init_subclass__(cls, register: bool = True, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if Declared in cls.__bases__:  # a new family: rules, schedules, probes
            cls.registry = {}
            return
        if not register:
            return
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        holder = cls.registry.get(cls.name)
        if holder is not None and (holder.__module__, holder.__qualname__) != (cls.__module__, cls.__qualname__):
            raise RavineError(
                f"the {cls.kind} name '{cls.name}' belongs to {holder.__module__}.{holder.__qualname__}; "
                f"give {cls.__module__}.{cls.__qualname__} another `name`"
            )
        cls.registry[cls.name] = cls
        Declared.revision += 1

    def __post_init__(self) -> None:
        for field, value in self.hyperparameters().items():
            check_value(f"{self.name}: {field}", value, types(type(self))[field], self.ranges.get(field))
            if field in self.choices and value not in self.choices[field]:
                raise unknown(f"{field} of {self.kind} '{self.name}'", str(value), self.choices[field])

    def hyperparameters(self) -> dict[str, Any]:
        """Field names and values, in the order of the constructor."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def call(self) -> Call:
        """The spec that makes this again, with the hyperparameters that differ from their defaults."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        return Call(self.name, tuple(given.items()))

    def __str__(self) -> str:
        return str(self.call())

    @classmethod
    def make(cls, call: Call) -> Self:
        """The member of this family that `call` names, checked name by name."""
        member = cls.registry.get(call.name) or cls.family().get(call.name)
        if member is None:
            raise unknown(cls.kind, call.name, cls.registry)
        check_arguments(f"{cls.kind} '{call.name}'", call, member.arguments_of_specs())
        made: Self = member(**dict(call.arguments))
        return made

    @classmethod
    def family(cls) -> Mapping[str, Any]:
        """All members of this family by name, with those that other packages bring."""
        plugins.load(cls.entry_group)
        return cls.registry

    @classmethod
    def arguments_of_specs(cls) -> list[str]:
        """What may stand in the parentheses behind the name."""
        return [field.name for field in dataclasses.fields(cls)]

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (cls.__doc__ or "").strip().split("\n")[0]


def check_arguments(owner: str, call: Call, allowed: list[str]) -> None:
    """Raise unless every argument of `call` is in `allowed` and nothing is wrapped."""
    if call.inner:
        raise RavineError(f"{owner} wraps nothing, found '{call.inner[0]}' inside its parentheses; write name=value")
    for key, _ in call.arguments:
        if key not in allowed:
            raise unknown(f"argument of {owner}", key, allowed)


_TYPES: dict[type, dict[str, Any]] = {}


def types(cls: type) -> dict[str, Any]:
    """The resolved annotations of a class, resolved once."""
    if cls not in _TYPES:
        _TYPES[cls] = typing.get_type_hints(cls)
    return _TYPES[cls]


def check_value(owner: str, value: Value, kind: Any, interval: str | None) -> None:
    """Raise unless `value` is of `kind` (float accepts int; bool is no number) and lies in `interval`."""
    allowed = typing.get_args(kind) or (kind,)
    if value is None and type(None) in allowed:
        return
    if str in allowed or bool in allowed:
        if not isinstance(value, allowed):
            raise RavineError(f"{owner} must be {_names(allowed)}, got {value!r}")
        return
    wanted = (int, float) if float in allowed else (int,)
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise RavineError(f"{owner} must be {_names(allowed)}, got {value!r}")
    if interval is not None and not _inside(value, interval):
        raise RavineError(f"{owner} must be in {interval}, got {value!r}")
    if math.isnan(value):
        raise RavineError(f"{owner} must be a number, got nan")


def _names(kinds: tuple[type, ...]) -> str:
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "text", type(None): "none"}
    return " or ".join(words[kind] if kind in words else getattr(kind, "__name__", str(kind)) for kind in kinds)


def _inside(value: float, interval: str) -> bool:
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return above and below
