"""Steps by compiled kernels: parameters with like states are flattened, the small ones gathered, and stepped at once.

A call of a kernel takes 10 us, as long as a step on 30,000 weights. So tensors below `SMALL` elements whose steps are
alike share one call: their state lies in one buffer, of which `optimizer.state` holds views, and their weights and
gradients are copied into another and back.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ravine.core.rule import Rule
from ravine.engine.kernel import Kernel, Kind, Totals, kernel
from ravine.engine.rounding import is_low, noise_for

SMALL = 1 << 16
State = dict[str, Any]


class Member(NamedTuple):
    """A parameter in a compiled step, in real numbers: its place among the groups, value, gradient and state."""

    place: tuple[int, int]
    p: Tensor
    g: Tensor
    state: State


class How(NamedTuple):
    """What the members of a group's step share."""

    rule: Rule
    structure: str
    lr: float
    maximize: bool
    rounding: str
    totals: Totals


def fits(p: Tensor, g: Tensor) -> bool:
    """Whether a parameter and its gradient lie in memory side by side, in the same order and without holes."""
    if type(p) not in _PLAIN or type(g) is not Tensor or p.layout is not torch.strided or not p.numel():
        return False
    stride = p.stride()
    return stride == g.stride() and p.shape == g.shape and _dense(p.shape, stride)


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
    """The compiled steps of one optimizer: its buckets, made when first needed and anew when they no longer fit."""

    def __init__(self) -> None:
        self._buckets: dict[Hashable, Bucket] = {}

    def prepared(self, members: Sequence[Member], how: How) -> list[Callable[[], None]]:
        """The steps of all members, ready to be made; whatever can fail fails here."""
        steps: list[Callable[[], None]] = []
        vectors: dict[Hashable, tuple[Tensor, State]] = {}
        like = (how.structure, how.rounding, tuple((i, name) for i, summed in how.totals.items() for name in summed))
        for (*_, numbers, done), alike in _sorted(members).items():
            name = (like, tuple(id(m.p) for m in alike))
            bucket = self._buckets.get(name)
            if bucket is None or not bucket.holds(alike):
                bucket = self._buckets[name] = Bucket(alike, how, like[2])
            needed = (bucket.kernel, numbers, done)
            if needed not in vectors:
                single = {key: alike[0].state[key] for key in bucket.kernel.kind.single}
                vectors[needed] = bucket.kernel.numbers(how.rule, done + 1, how.lr, how.maximize, single, how.totals)
            steps.append(partial(bucket.step, alike, *vectors[needed]))
        return steps


def _sorted(members: Sequence[Member]) -> dict[tuple[Any, ...], list[Member]]:
    """The members that go together: small ones of like types at the same step; each large one by itself."""
    found: dict[tuple[Any, ...], list[Member]] = {}
    for m in members:
        alone = id(m.p) if m.p.numel() >= SMALL else 0
        numbers = tuple([x.item() for x in m.state.values() if isinstance(x, Tensor) and not x.ndim])
        key = (alone, m.p.dtype, m.g.dtype, m.p.device, numbers, m.state["step"])
        found.setdefault(key, []).append(m)
    return found


class Bucket:
    """Members that make the same step together: one of any size, or several small ones gathered."""

    def __init__(self, members: Sequence[Member], how: How, totals: tuple[tuple[int, str], ...]) -> None:
        first = members[0]
        tensors = {key: x for key, x in first.state.items() if isinstance(x, Tensor)}
        flat = tuple((key, x.dtype) for key, x in tensors.items() if x.ndim)
        single = tuple(key for key, x in tensors.items() if not x.ndim)
        rounding = how.rounding if is_low(first.p.dtype) else "nearest"
        kind = Kind(how.structure, first.p.dtype, first.g.dtype, first.p.device, flat, single, totals, rounding)
        self.kernel: Kernel = kernel(kind, how.rule)
        self.flat: dict[str, Tensor] = {}
        self._views: list[State] = [{} for _ in members]
        for key, dtype in flat:
            self.flat[key], parts = _room(members, dtype)
            for m, views, part in zip(members, self._views, parts, strict=True):
                if len(members) == 1 and m.state[key].stride() == m.p.stride():
                    part = m.state[key]  # where it is, in place
                    self.flat[key] = _flat(part)
                else:
                    part.copy_(m.state[key])
                m.state[key] = views[key] = part
        self._gathers = len(members) > 1
        if self._gathers:
            self._p, self._p_parts = _room(members, first.p.dtype)
            self._g, self._g_parts = _room(members, first.g.dtype)

    def holds(self, members: Sequence[Member]) -> bool:
        """Whether the state of these members is still the one that lies here."""
        pairs = zip(members, self._views, strict=True)
        return all(m.state[key] is view for m, views in pairs for key, view in views.items())

    def step(self, members: Sequence[Member], vector: Tensor, single: State) -> None:
        noise = self._noise(members) if self.kernel.kind.rounding == "stochastic" else None
        values = [m.p for m in members]
        if self._gathers:
            torch._foreach_copy_(self._g_parts, [m.g for m in members])
            torch._foreach_copy_(self._p_parts, values)
            self.kernel(self._p, self._g, vector, self.flat, noise)
            torch._foreach_copy_(values, self._p_parts)
        else:
            self.kernel(_flat(values[0]), _flat(members[0].g), vector, self.flat, noise)
            torch.autograd.graph.increment_version(values)  # which a kernel does not do
        for m in members:
            m.state.update(single)
            m.state["step"] += 1

    def _noise(self, members: Sequence[Member]) -> Tensor:
        whole, parts = _room(members, torch.int32)
        for m, part in zip(members, parts, strict=True):
            part.copy_(noise_for(m.p, m.place, m.state["step"] + 1))
        return whole


def _room(members: Sequence[Member], dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """A buffer for something of every member, and the parts of it as views with the members' shapes."""
    whole = torch.empty(sum(m.p.numel() for m in members), dtype=dtype, device=members[0].p.device)
    parts = whole.split([m.p.numel() for m in members])
    shaped = [
        part.as_strided(m.p.shape, m.p.stride(), part.storage_offset()) for m, part in zip(members, parts, strict=True)
    ]
    return whole, shaped


def _flat(x: Tensor) -> Tensor:
    """All of `x` as one dimension, in the order in which it lies in memory."""
    return x.as_strided((x.numel(),), (1,))
