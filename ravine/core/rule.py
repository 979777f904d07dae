"""A rule: how one tensor's gradient becomes its step; and the chain of several."""

import copy
import dataclasses
from collections.abc import Mapping
from functools import cached_property

from torch import Tensor

from ravine.core.declared import types
from ravine.core.errors import RavineError
from ravine.core.link import DEAR, Link
from ravine.core.link import SCOPES as SCOPES
from ravine.core.link import State as State
from ravine.core.link import choose as choose
from ravine.core.link import log as log
from ravine.core.passage import Passage
from ravine.core.passage import Totals as Totals
from ravine.core.space import Dimension


@dataclasses.dataclass(frozen=True)
class Rule(Passage, Link, register=False):
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
    takes_displacement: the same, and what it is handed is the displacement that the links before it make.
    wraps: it may be written around others: `lookahead(adam)` is `adam + lookahead`, and with `leads` it stands before
        them: `accumulate(adam)` is `accumulate + adam`. With `rests_alone` it says by itself where the parameters rest,
        so that no other link which does (`judges_elsewhere`) fits beside it.
    needs: names of what `update` is handed besides: "gradient", the parameter's own, before any link; "lr", as far as
        it is part of `g` already: the learning rate behind a link that applies it, 1 before; "loss", the number that
        the closure returned. And, to `refresh` instead where there is one: "noise", standard normal numbers of the
        shape of `p`, which the engine draws anew at each step and the same when a run is resumed; "product": `signs` z
        = +1 or -1 with the shape of `p`, drawn likewise, and `product`, the part of the Hessian times all z that
        belongs to `p`; "sampled": the gradient `sampled` of the mean loss at `examples` targets drawn from the model.
    refresh(g, p, t, **state): state that is dear to compute, before `update` at steps 1, 1 + every, 1 + 2 every, ...
    summarize(g, p, t, **state): 0-d tensors that the engine sums over all parameters and hands to `update` as `totals`.
    judges_elsewhere: the gradient is taken elsewhere than at the parameters that count, which `judged(p, **state)`
        gives.
    probe_at(g, p, measured): where a second gradient is taken, which is the one that counts; `measured` are the sums
        over all parameters of what `measure(g, p)` gives. For SAM.
    collects: the number of gradients gathered for a step, all but the last by `collect(g, **state) -> state`.
    refuses(p): why it cannot move a parameter of that shape; the engine says so before anything has moved.
    """

    @cached_property
    def is_plain(self) -> bool:
        """Whether a step is arithmetic on gradient, state and numbers alone, which can be compiled."""
        return all(link.is_arithmetic for link in self.links)

    @cached_property
    def looks_twice(self) -> bool:
        """Whether a step takes gradients or products beside the gradient."""
        return any({"product", "sampled"} & link.needs or link.probes() for link in self.links)

    @cached_property
    def asks(self) -> bool:
        """Whether a step needs what `more` tells."""
        return any((DEAR | {"loss"}) & link.needs for link in self.links)

    @cached_property
    def is_curious(self) -> bool:
        """Whether a step takes more than the gradient that stands in `p.grad`."""
        return self.asks or self.looks_twice

    def cost(self, need: str) -> float:
        """How many times a call of `step` takes this need, on average."""
        return max((1 / max(1, link.refreshes_every) for link in self.links if need in link.needs), default=0.0)

    def refreshes(self, t: int) -> bool:
        return any(link.refreshes_at(t) for link in self.links)

    def needed_at(self, t: int, need: str) -> bool:
        return any(link.needs_at(t, need) for link in self.links)

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
        twice = [rule for rule in self.rules if rule.probes()]
        if len(twice) > 1:
            raise RavineError(
                f"'{twice[0]}' and '{twice[1]}' cannot nest: each takes the gradient at a place of its own"
            )
        resting = [rule for rule in self.rules if rule.judges_elsewhere]
        if len(resting) > 1 and (any(r.rests_alone for r in resting) or all(r.takes_displacement for r in resting)):
            raise RavineError(
                f"'{resting[0]}' and '{resting[1]}' cannot nest: both say where the parameters rest; use one of them"
            )
        self._check_order()

    def _check_order(self) -> None:
        applied: Rule | None = None
        for i, rule in enumerate(self.rules):
            if rule.applies_lr and applied is not None:
                raise RavineError(f"'{applied}' and '{rule}' both apply the learning rate: a chain has room for one")
            if applied is not None and applied.takes_displacement and not rule.probes():
                right = f"'{rule} + {applied}'"
                raise RavineError(f"'{applied}' is told the whole step, so '{rule}' stands before it: {right}")
            if rule.collects > 1 and i > 0:
                raise RavineError(f"'{rule}' gathers gradients, so it stands first: '{rule} + {self.rules[0]}'")
            applied = rule if rule.applies else applied

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

    @property
    def collects(self) -> int:
        return max(rule.collects for rule in self.rules)

    def refuses(self, p: Tensor) -> str:
        return next((reason for rule in self.rules if (reason := rule.refuses(p))), "")

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


def _numeric(cls: type[Rule]) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if types(cls)[field.name] is float]
