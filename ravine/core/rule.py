"""A rule: how one tensor's gradient becomes its step; and the chain of several."""

import copy
import dataclasses
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from ravine.core.declared import Declared, types
from ravine.core.errors import RavineError
from ravine.core.space import Dimension
from ravine.core.torch_format import TorchFormat

State = dict[str, Tensor]
More = Mapping[str, Any]
Totals = Mapping[int, Mapping[str, Tensor]]  # by the link's place in the chain, then by name
SCOPES = ("element", "matrix", "tensor")  # from narrow to wide


@dataclasses.dataclass(frozen=True)
class Rule(Declared):
    """How one tensor's gradient becomes its step.

    `init(p)` gives the state kept for the parameter `p`. `update(g, p, t, **state)` gives `(u, new_state)` for the
    gradient `g` at the parameter's step `t` = 1, 2, ...; the engine then moves `p` to `p - lr * u`. Both are pure:
    nothing is written in place, nothing is known of groups, schedules or checkpoints. Compiled, `t` and the numeric
    hyperparameters are 0-d float64 tensors, so that a choice between two of them is made by `choose`.

    What the engine, the race and the tests must know of a rule, its class says: `scope` (what a tensor means to it:
    "element", "matrix" or "tensor"), `default_lr`, and `space`, the hyperparameters that a race may tune. A link that
    only changes another's step (weight decay) has `default_lr = None`. A few rules need more of the engine:

    applies_lr: lr lives inside the state. `update` is handed `lr` and returns the whole displacement: `p` moves to
        `p - u`.
    needs: names of what `update` is handed besides. "lr", as far as it is part of `g` already: the learning rate behind
        a link that applies it, 1 before; "loss", the number that the closure returned; "noise", standard normal numbers
        of the shape of `p`, which the engine draws anew at each step and the same when a run is resumed; "gradient",
        the parameter's gradient as it was before any link.
    refresh(g, p, t, **state): state that is dear to compute, before `update` at steps 1, 1 + every, 1 + 2 every, ...
    summarize(g, p, t, **state): 0-d tensors that the engine sums over all parameters and hands to `update` as `totals`.
    judges_elsewhere: the gradient is taken elsewhere than at the parameters that count, which `judged(p, **state)`
        gives.
    """

    kind: ClassVar[str] = "optimizer"
    entry_group: ClassVar[str] = "ravine.rules"
    scope: ClassVar[str] = "element"
    sparse: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()
    default_lr: ClassVar[float | None] = None
    space: ClassVar[Mapping[str, Dimension]] = {}

    @property
    def applies_lr(self) -> bool:
        return False

    @property
    def judges_elsewhere(self) -> bool:
        return False

    def init(self, p: Tensor) -> State:
        return {}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        raise NotImplementedError

    def summarize(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> dict[str, Tensor]:
        return {}

    def refresh(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> State:
        return {}

    @property
    def refreshes_every(self) -> int:
        """The number of steps from one refresh to the next; 0 for a rule that has none."""
        return 0

    def judged(self, p: Tensor, **state: Tensor) -> Tensor:
        return p

    def in_torch(self) -> TorchFormat | None:
        """How torch.optim writes what this rule keeps; None where torch has no such rule."""
        return None

    @classmethod
    def arguments_of_specs(cls) -> list[str]:
        return ["lr", *super().arguments_of_specs()]  # which the group takes before the rule is made

    def move(
        self, g: Tensor, p: Tensor, t: Any, state: State, lr: Any, totals: Totals | None = None,
        more: More | None = None,
    ) -> tuple[Tensor, Any, State]:  # fmt: skip
        """A step of all links: `(u, scale, new_state)`, after which the parameter stands at `p - scale * u`.

        `more` tells what links may need besides: "loss", and "noise", which makes it for a link.
        """
        return self._through(len(self.links), g, p, t, state, lr, totals, more)

    def move_alone(self, g: Tensor, p: Tensor, t: Any, state: State, lr: Any) -> tuple[Tensor, Any, State]:
        """The same for a parameter beside which there is no other: what is summed over all is its own."""
        totals: dict[int, Mapping[str, Tensor]] = {}
        for i in (i for i, link in enumerate(self.links) if link.summarizes()):
            totals[i] = self.summed(i, g, p, t, state, lr, totals)
        return self.move(g, p, t, state, lr, totals)

    def summed(
        self, i: int, g: Tensor, p: Tensor, t: Any, state: State, lr: Any, totals: Totals | None = None,
        more: More | None = None,
    ) -> Mapping[str, Tensor]:  # fmt: skip
        """What link `i` wants summed over all parameters; `totals` are those of the links before."""
        g, _, _ = self._through(i, g, p, t, state, lr, totals, more)
        return self.links[i].summarize(g, p, t, **self.part(i, state))

    def _through(
        self, end: int, g: Tensor, p: Tensor, t: Any, state: State, lr: Any, totals: Totals | None,
        more: More | None = None,
    ) -> tuple[Tensor, Any, State]:  # fmt: skip
        new: State = {}
        applied, gradient = False, g
        for i, link in enumerate(self.links[:end]):
            given: dict[str, Any] = self.part(i, state)
            applied = applied or link.applies_lr
            if link.applies_lr or "lr" in link.needs:
                given["lr"] = lr if applied else 1.0
            if link.summarizes():
                given["totals"] = (totals or {})[i]
            if "loss" in link.needs:
                given["loss"] = (more or {})["loss"]
            if "noise" in link.needs:
                given["noise"] = (more or {})["noise"](i)
            if "gradient" in link.needs:
                given["gradient"] = gradient
            if link.refreshes_every and (t - 1) % link.refreshes_every == 0:
                fresh = link.refresh(g, p, t, **given)
                given |= fresh
                new |= {self.key(i, key): value for key, value in fresh.items()}
            g, kept = link.update(g, p, t, **given)
            new |= {self.key(i, key): value for key, value in kept.items()}
        return g, 1.0 if applied else lr, new

    def start(self, p: Tensor) -> State:
        """The state of all links for the parameter `p`."""
        return {self.key(i, key): v for i, link in enumerate(self.links) for key, v in link.init(p).items()}

    def part(self, i: int, state: State) -> State:
        """The state of link `i` alone, under the names that it gave."""
        prefix = self.key(i, "")
        return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}

    def key(self, i: int, key: str) -> str:
        """The name in a chain's state of what link `i` calls `key`."""
        return key if len(self.links) == 1 else f"{i}.{key}"

    @classmethod
    def summarizes(cls) -> bool:
        return cls.summarize is not Rule.summarize

    @cached_property
    def is_plain(self) -> bool:
        """Whether a step is nothing but `update` on gradient, state and numbers, which can be compiled."""
        return not any({"loss", "noise"} & link.needs or link.refreshes_every for link in self.links)

    def judgement(self, p: Tensor, state: State) -> Tensor:
        """The parameters to be judged, from those at which the gradient is taken."""
        for i, link in reversed(list(enumerate(self.links))):
            p = link.judged(p, **self.part(i, state))
        return p

    @property
    def links(self) -> tuple["Rule", ...]:
        """The rules applied in turn: a plain rule is a chain of one."""
        return (self,)

    @cached_property
    def places(self) -> dict[str, tuple[int, str]]:
        """The numeric hyperparameters by their names in `numbers()`: the link each is of, and what that calls it."""
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
        return {key: getattr(self.links[i], field) for key, (i, field) in self.places.items()}

    def with_numbers(self, values: Mapping[str, float]) -> "Rule":
        """The same rule with the numeric hyperparameters named in `values` set and checked."""
        links = list(self.links)
        for key, (i, field) in self.places.items():
            if key in values and values[key] != getattr(links[i], field):
                links[i] = dataclasses.replace(links[i], **{field: values[key]})
        return chain(*links)

    def bound(self, values: Mapping[str, Tensor]) -> "Rule":
        """The same rule with 0-d tensors for numbers, which are not checked: as it is compiled."""
        links = [copy.copy(link) for link in self.links]
        for key, (i, field) in self.places.items():
            object.__setattr__(links[i], field, values[key])
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
        for key, (i, field) in self.places.items():
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
        twice = [rule for rule in self.rules if rule.applies_lr]
        if len(twice) > 1:
            raise RavineError(f"'{twice[0]}' and '{twice[1]}' both apply the learning rate: a chain has room for one")

    @property
    def links(self) -> tuple[Rule, ...]:
        return self.rules

    @property
    def scope(self) -> str:  # type: ignore[override]  # a class's own fact, but a chain has it from its links
        """That of the widest link."""
        return max((rule.scope for rule in self.rules), key=SCOPES.index)

    @property
    def judges_elsewhere(self) -> bool:
        return any(rule.judges_elsewhere for rule in self.rules)

    def __str__(self) -> str:
        return " + ".join(str(rule) for rule in self.rules)


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


def choose(condition: Any, a: Any, b: Any) -> Any:
    """`a` where `condition` holds, else `b`; for numbers as for tensors, so that a rule reads the same compiled."""
    return torch.where(condition, a, b) if isinstance(condition, Tensor) else a if condition else b


def log(x: Any) -> Any:
    """The natural logarithm of a number as of a tensor; minus infinity at zero, as torch has it."""
    return x.log() if isinstance(x, Tensor) else math.log(x) if x > 0 else -math.inf


def _numeric(cls: type[Rule]) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if types(cls)[field.name] is float]
