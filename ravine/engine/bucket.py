"""Parameters that make the same step together, by one call of a kernel."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.rule import Rule, Totals
from ravine.engine.chance import noise_for
from ravine.engine.evaluation import Evaluation
from ravine.engine.kernel import Kernel, Kind, kernel
from ravine.engine.layout import fits, line, room
from ravine.engine.rounding import is_low, real
from ravine.engine.single import given
from ravine.engine.sums import SumKernel, sum_kernel

State = dict[str, Any]
Names = tuple[tuple[int, str], ...]  # of totals, each with the link that has it


class Member(NamedTuple):
    """A parameter in a compiled step: its place among the groups, itself with a gradient, and its state."""

    place: tuple[int, int]
    p: Any  # a Tensor, whose type says that it may have no gradient
    state: State
    label: tuple[Any, ...]  # what its noise is drawn from


class How(NamedTuple):
    """What the members of a group's step share."""

    rule: Rule
    structure: str
    lr: float
    maximize: bool
    rounding: str
    totals: Totals
    told: Evaluation = Evaluation()


def links(rule: Rule) -> tuple[type[Rule], ...]:
    """The classes of a rule's links: one that is defined anew, in a notebook, needs a kernel of its own."""
    return tuple([type(link) for link in rule.links])


def names(totals: Totals) -> Names:
    """Of totals what kernels are traced with."""
    return tuple((i, name) for i, summed in totals.items() for name in summed)


class Bucket:
    """Members that make the same step together: one of any size, or several small ones gathered."""

    def __init__(self, members: Sequence[Member], how: How) -> None:
        first = members[0]
        self.members, self.done = members, first.state["step"]
        self._gradient, self._paired = first.p.grad.dtype, first.p.is_complex()
        self._lying = [(m.p.shape, m.p.stride()) for m in members]
        tensors = {key: x for key, x in first.state.items() if isinstance(x, Tensor)}
        self._single = {key: x for key, x in tensors.items() if not x.ndim}
        self._values = _values(self._single)
        flat = tuple((key, x.dtype) for key, x in tensors.items() if x.ndim)
        values = [real(m.p) for m in members]
        value = values[0]
        rounding = how.rounding if is_low(value.dtype) else "nearest"
        types = (value.dtype, real(first.p.grad).dtype, value.device)
        self.kind = Kind(links(how.rule), how.structure, *types, flat, tuple(self._single), (), rounding)
        self._rule = how.rule  # its numbers do not count
        self._kernels: dict[tuple[int, Names], SumKernel | None] = {}
        self._flat: list[Tensor] = []
        self._views: list[State] = [dict(self._single) for _ in members]
        for m in members:
            for key, _ in flat:
                if m.state[key].shape != real(m.p).shape:
                    found, wanted = tuple(m.state[key].shape), tuple(real(m.p).shape)
                    raise RavineError(f"the state '{key}' of a parameter has shape {found}, but the parameter {wanted}")
        for m in members:
            m.state.update(self._single)
        for key, dtype in flat:
            whole, parts = room(values, dtype)
            for m, views, part in zip(members, self._views, parts, strict=True):
                if len(members) == 1 and m.state[key].stride() == real(m.p).stride():
                    part = m.state[key]  # where it is, in place
                    whole = line(part)
                else:
                    part.copy_(m.state[key])
                m.state[key] = views[key] = part
            self._flat.append(whole)
        self._gathers = len(members) > 1
        if self._gathers:
            self._p, self._p_parts = room(values, value.dtype)
            self._g, self._g_parts = room(values, self.kind.gradient)
        else:
            self._p = line(value.detach())
        self.has_gradients = False  # those of this step, in the buffer

    def release(self) -> None:
        for m, views in zip(self.members, self._views, strict=True):
            for key, view in views.items() if self._gathers else ():
                if key in m.state and m.state[key] is view:
                    m.state[key] = view.clone()

    @property
    def needs(self) -> tuple[Any, ...]:
        """Buckets for which these are the same share the numbers of their step."""
        return (self.done, *self._values)

    def given(self, how: How) -> tuple[Rule, int, float, bool, State, Totals]:
        """What the numbers of the next step are made of."""
        return how.rule, self.done + 1, how.lr, how.maximize, self._single, how.totals

    def prepare(self, totals: Names) -> None:
        self.kernel: Kernel = kernel(replace(self.kind, totals=totals), self._rule)

    def sums(self, i: int, how: How) -> SumKernel | None:
        """The kernel for the sums of link `i`; none where a link before it refreshes its state at this step."""
        if any(link.refreshes_at(self.done + 1) for link in how.rule.links[:i]):
            return None
        before = names(how.totals)
        if (i, before) not in self._kernels:
            self._kernels[i, before] = sum_kernel(replace(self.kind, totals=before), self._rule, i)
        return self._kernels[i, before]

    def holds(self, params: Sequence[Any], states: Mapping[Tensor, State]) -> bool:
        """Whether the members, their gradients, steps and state are still those that were gathered here."""
        done, count = self.done, len(params)
        for ((_, i), p, state, _), views, lies in zip(self.members, self._views, self._lying, strict=True):
            if i >= count or params[i] is not p or states.get(p) is not state or state.get("step") != done:
                return False
            if not fits(p) or p.grad.dtype is not self._gradient or (p.shape, p.stride()) != lies:
                return False
            for key, view in views.items():
                if state[key] is not view:
                    return False
        return True

    def refresh(self, how: How) -> None:
        """What the rule refreshes at this step, written into the state."""
        if not how.rule.refreshes(self.done + 1):
            return
        for m in self.members:
            g, p, t, kept = given(m.p, m.state, how.maximize)
            more = how.told.more(m.p, m.label, t)
            for key, value in how.rule.refreshed(g, p, t, kept, how.lr, how.totals, more).items():
                m.state[key].copy_(value)

    def lines(self, reads: Sequence[int]) -> list[Tensor]:
        """Of weights, gradients and flat state those at the places `reads`, each as one line."""
        return [self._weights() if i == 0 else self._gradients() if i == 1 else self._flat[i - 2] for i in reads]

    def step(self, vector: Tensor, single: State) -> None:
        rest = [*self._flat, self._noise()] if self.kernel.kind.rounding == "stochastic" else self._flat
        self.kernel(self._weights(), self._gradients(), vector, rest)
        self.has_gradients = False
        if self._gathers:
            torch._foreach_copy_(self._reals(m.p for m in self.members), self._p_parts)
        else:
            torch._C._increment_version((self.members[0].p,))  # which a kernel does not do
        self.done += 1
        for m in self.members:
            m.state["step"] = self.done
        if single:
            self._single = single
            self._values = _values(single)
            for m, views in zip(self.members, self._views, strict=True):
                m.state.update(single)
                views.update(single)

    def _weights(self) -> Tensor:
        """All weights: gathered anew at each call, since another group may have moved the same memory since."""
        if self._gathers:
            torch._foreach_copy_(self._p_parts, self._reals(m.p for m in self.members))
        else:
            p = self.members[0].p
            if self._p.data_ptr() != p.data_ptr():  # the user has given it other data
                self._p = line(real(p.detach()))
        return self._p

    def _gradients(self) -> Tensor:
        """All gradients, gathered once a step."""
        if not self._gathers:
            g = self.members[0].p.grad
            return line(real(g) if self._paired else g)
        if not self.has_gradients:
            torch._foreach_copy_(self._g_parts, self._reals(m.p.grad for m in self.members))
            self.has_gradients = True
        return self._g

    def _reals(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        return [real(x) for x in tensors] if self._paired else list(tensors)

    def _noise(self) -> Tensor:
        whole, parts = room([real(m.p) for m in self.members], torch.int32)
        for m, part in zip(self.members, parts, strict=True):
            part.copy_(noise_for(real(m.p), m.label, self.done + 1))
        return whole


def _values(single: Mapping[str, Tensor]) -> tuple[float, ...]:
    return tuple([x.item() for x in single.values()])
