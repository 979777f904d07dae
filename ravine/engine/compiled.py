"""Steps by compiled kernels: parameters with like states are flattened, the small ones gathered, and stepped at once.

A call of a kernel takes 10 us, as long as a step on 30,000 weights. So tensors below `SMALL` elements whose steps are
alike share one call: their state lies in one buffer, of which `optimizer.state` holds views, and their weights and
gradients are copied into another and back.
"""

from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.rule import Rule, Totals
from ravine.engine.chance import noise_for
from ravine.engine.evaluation import Evaluation
from ravine.engine.kernel import Kernel, Kind, kernel
from ravine.engine.rounding import is_low, real
from ravine.engine.single import given

SMALL = 1 << 16
State = dict[str, Any]


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


def fits(p: Tensor) -> bool:
    """Whether a parameter and its gradient lie in memory side by side, in the same order and without holes.

    One without a dimension does not: its state could not be told from one that is a number.
    """
    g = p.grad
    if type(p) not in _PLAIN or type(g) is not Tensor or g.is_sparse or not p.numel() or not p.ndim:
        return False
    if g.is_neg() or g.is_conj():  # torch has put a sign off, which memory does not show
        return False
    if p.is_contiguous() and g.is_contiguous():
        return True
    return p.stride() == g.stride() and _dense(p.shape, p.stride())


_PLAIN = (Tensor, torch.nn.Parameter)


@lru_cache(maxsize=4096)
def _dense(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether that is so in whatever order of dimensions: channels_last, or a transposed matrix."""
    expected = 1
    for step, size in sorted(zip(stride, shape, strict=True)):
        if size != 1 and step != expected:
            return False
        expected *= size
    return True


class Compiled:
    """The compiled steps of one group: its buckets, made when first needed and anew when they no longer fit.

    A step finds its processor's caches full of weights, and every look at a parameter takes a microsecond: so what was
    found out at one step is only looked over at the next.
    """

    def __init__(self, members: Sequence[Member], among: int, how: How) -> None:
        self._among = among  # that have a gradient
        totals = tuple((i, name) for i, summed in how.totals.items() for name in summed)
        self._buckets = [Bucket(alike, how, totals) for alike in _sorted(members)]
        self.places = {m.place for m in members}
        self.complete = len(self.places) == among  # no parameter is left to the loop
        self._like = (links(how.rule), how.structure, how.rounding, totals)

    def holds(self, params: Sequence[Any], states: Mapping[Tensor, State], how: How) -> bool:
        """Whether the next step is one of the same parameters of the group, lying and standing as they did."""
        totals = tuple((i, name) for i, summed in how.totals.items() for name in summed)
        if self._like != (links(how.rule), how.structure, how.rounding, totals):
            return False
        if len([1 for p in params if p.grad is not None]) != self._among:
            return False
        return all(bucket.holds(params, states) for bucket in self._buckets)

    def release(self) -> None:
        """Give every member's state memory of its own: a view would keep the whole buffer."""
        for bucket in self._buckets:
            bucket.release()

    def step(self, how: How) -> None:
        """One step for all members."""
        for bucket in self._buckets:
            bucket.refresh(how)
        vectors: dict[Hashable, tuple[Tensor, State]] = {}
        for bucket in self._buckets:
            needs = (bucket.done, bucket.needs)
            if needs not in vectors:
                vectors[needs] = bucket.kernel.numbers(
                    how.rule, bucket.done + 1, how.lr, how.maximize, bucket.single, how.totals
                )
            bucket.step(*vectors[needs])


def links(rule: Rule) -> tuple[type[Rule], ...]:
    """The classes of a rule's links: one that is defined anew, in a notebook, needs a kernel of its own."""
    return tuple([type(link) for link in rule.links])


def _sorted(members: Sequence[Member]) -> list[list[Member]]:
    """The members that go together: small ones of like types at the same step; each large one by itself."""
    found: dict[tuple[Any, ...], list[Member]] = {}
    seen: set[int] = set()
    for m in members:
        # Two on one memory are stepped one after the other, as the loop does.
        alone = m.place if m.p.numel() >= SMALL or m.p.data_ptr() in seen else None
        seen.add(m.p.data_ptr())
        key = (alone, m.p.dtype, m.p.grad.dtype, m.p.device, _numbers(m.state), m.state["step"])
        found.setdefault(key, []).append(m)
    return list(found.values())


def _numbers(state: State) -> tuple[float, ...]:
    return tuple([x.item() for x in state.values() if isinstance(x, Tensor) and not x.ndim])


class Bucket:
    """Members that make the same step together: one of any size, or several small ones gathered."""

    def __init__(self, members: Sequence[Member], how: How, totals: tuple[tuple[int, str], ...]) -> None:
        first = members[0]
        self._members, self.done = members, first.state["step"]
        self._gradient, self._paired = first.p.grad.dtype, first.p.is_complex()
        self._lying = [(m.p.shape, m.p.stride()) for m in members]
        tensors = {key: x for key, x in first.state.items() if isinstance(x, Tensor)}
        self.single = {key: x for key, x in tensors.items() if not x.ndim}
        flat = tuple((key, x.dtype) for key, x in tensors.items() if x.ndim)
        value = real(first.p)
        rounding = how.rounding if is_low(value.dtype) else "nearest"
        types = (value.dtype, real(first.p.grad).dtype, value.device)
        kind = Kind(links(how.rule), how.structure, *types, flat, tuple(self.single), totals, rounding)
        self.kernel: Kernel = kernel(kind, how.rule)
        self._flat: list[Tensor] = []
        self._views: list[State] = [dict(self.single) for _ in members]
        for m in members:
            for key, _ in flat:
                if m.state[key].shape != real(m.p).shape:
                    found, wanted = tuple(m.state[key].shape), tuple(real(m.p).shape)
                    raise RavineError(f"the state '{key}' of a parameter has shape {found}, but the parameter {wanted}")
        for m in members:
            m.state.update(self.single)
        for key, dtype in flat:
            line, parts = _room(members, dtype)
            for m, views, part in zip(members, self._views, parts, strict=True):
                if len(members) == 1 and m.state[key].stride() == real(m.p).stride():
                    part = m.state[key]  # where it is, in place
                    line = _line(part)
                else:
                    part.copy_(m.state[key])
                m.state[key] = views[key] = part
            self._flat.append(line)
        self._gathers = len(members) > 1
        if self._gathers:
            self._p, self._p_parts = _room(members, value.dtype)
            self._g, self._g_parts = _room(members, kind.gradient)
        else:
            self._p = _line(value.detach())
        self._needs()

    def release(self) -> None:
        for m, views in zip(self._members, self._views, strict=True):
            for key, view in views.items() if self._gathers else ():
                if key in m.state and m.state[key] is view:
                    m.state[key] = view.clone()

    def _needs(self) -> None:
        """Buckets at the same step that need the same numbers share them."""
        self.needs = (id(self.kernel), *(x.item() for x in self.single.values()))

    def holds(self, params: Sequence[Any], states: Mapping[Tensor, State]) -> bool:
        """Whether the members, their gradients, steps and state are still those that were gathered here."""
        done, count = self.done, len(params)
        for ((_, i), p, state, _), views, lies in zip(self._members, self._views, self._lying, strict=True):
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
        for m in self._members:
            g, p, t, kept = given(m.p, m.state, how.maximize)
            more = how.told.more(m.p, m.label, t)
            for key, value in how.rule.refreshed(g, p, t, kept, how.lr, how.totals, more).items():
                m.state[key].copy_(value)

    def step(self, vector: Tensor, single: State) -> None:
        rest = [*self._flat, self._noise()] if self.kernel.kind.rounding == "stochastic" else self._flat
        if self._gathers:
            values, gradients = [m.p for m in self._members], [m.p.grad for m in self._members]
            if self._paired:
                values, gradients = [real(p) for p in values], [real(g) for g in gradients]
            torch._foreach_copy_(self._g_parts, gradients)
            torch._foreach_copy_(self._p_parts, values)
            self.kernel(self._p, self._g, vector, rest)
            torch._foreach_copy_(values, self._p_parts)
        else:
            p = self._members[0].p
            if self._p.data_ptr() != p.data_ptr():  # the user has given it other data
                self._p = _line(real(p.detach()))
            self.kernel(self._p, _line(real(p.grad) if self._paired else p.grad), vector, rest)
            torch._C._increment_version((p,))  # which a kernel does not do
        self.done += 1
        for m in self._members:
            m.state["step"] = self.done
        if single:
            self.single = single
            for m, views in zip(self._members, self._views, strict=True):
                m.state.update(single)
                views.update(single)
            self._needs()

    def _noise(self) -> Tensor:
        whole, parts = _room(self._members, torch.int32)
        for m, part in zip(self._members, parts, strict=True):
            part.copy_(noise_for(real(m.p), m.label, self.done + 1))
        return whole


def _room(members: Sequence[Member], dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """A buffer for something of every member, and the parts of it as views with the members' shapes."""
    values = [real(m.p) for m in members]
    whole = torch.empty(sum(p.numel() for p in values), dtype=dtype, device=values[0].device)
    parts = zip(values, torch.split(whole, [p.numel() for p in values]), strict=True)
    return whole, [part.as_strided(p.shape, p.stride(), part.storage_offset()) for p, part in parts]


def _line(x: Any) -> Tensor:
    """All of `x` as one dimension, in the order in which it lies in memory."""
    line: Tensor = x if x.ndim == 1 else x.as_strided((x.numel(),), (1,))
    return line
