"""Steps by compiled kernels: parameters with like states are flattened, the small ones gathered, and stepped at once.

A call of a kernel takes 10 us, as long as a step on 30,000 weights. So tensors below `SMALL` elements whose steps are
alike share one call: their state lies in one buffer, of which `optimizer.state` holds views, and their weights and
gradients are copied into another and back.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ravine.core.rule import Totals
from ravine.engine.bucket import Bucket, How, Member, Names, State, links, names
from ravine.engine.sums import SumKernel

SMALL = 1 << 16


class Compiled:
    """The compiled steps of one group: its buckets, made when first needed and anew when they no longer fit.

    A step finds its processor's caches full of weights, and every look at a parameter takes a microsecond: so what was
    found out at one step is only looked over at the next.
    """

    def __init__(self, members: Sequence[Member], among: int, how: How) -> None:
        self._among = among  # that have a gradient
        self._buckets = [Bucket(alike, how) for alike in _sorted(members)]
        self.members = members
        self.places = {m.place for m in members}
        self.complete = len(self.places) == among  # no parameter is left to the loop
        self._like = (links(how.rule), how.structure, how.rounding)
        self._totals: Names | None = None

    def holds(self, params: Sequence[Any], states: Mapping[Tensor, State], how: How) -> bool:
        """Whether the next step is one of the same parameters of the group, lying and standing as they did."""
        if self._like != (links(how.rule), how.structure, how.rounding):
            return False
        if len([1 for p in params if p.grad is not None]) != self._among:
            return False
        return all(bucket.holds(params, states) for bucket in self._buckets)

    def release(self) -> None:
        """Give every member's state memory of its own: a view would keep the whole buffer."""
        for bucket in self._buckets:
            bucket.release()

    def begin(self) -> None:
        """Forget what was gathered for a step that failed before it was made."""
        for bucket in self._buckets:
            bucket.has_gradients = False

    def summed(self, i: int, how: How) -> tuple[dict[str, Tensor], list[Member]]:
        """What link `i` wants summed, over the members for which kernels do it; and the other members."""
        left: list[Member] = []
        alike: dict[Hashable, tuple[SumKernel, list[Bucket]]] = {}
        for bucket in self._buckets:
            if (made := bucket.sums(i, how)) is None:
                left += bucket.members
            else:
                alike.setdefault((id(made), *bucket.needs), (made, []))[1].append(bucket)
        found: dict[str, float] = {}
        for made, buckets in alike.values():
            for name, value in _sums(made, buckets, how).items():
                found[name] = found.get(name, 0.0) + value
        where = self._buckets[0].kind.device if found else None
        return {name: torch.tensor(x, dtype=torch.float64, device=where) for name, x in found.items()}, left

    def prepare(self, totals: Totals) -> None:
        """Have the kernels ready for a step at which these are summed over all parameters."""
        if self._totals != (wanted := names(totals)):
            for bucket in self._buckets:
                bucket.prepare(wanted)
            self._totals = wanted

    def step(self, how: How) -> None:
        """One step for all members."""
        for bucket in self._buckets:
            bucket.refresh(how)
        vectors: dict[Hashable, tuple[Tensor, State]] = {}
        for bucket in self._buckets:
            needs = (id(bucket.kernel), *bucket.needs)
            if needs not in vectors:
                vectors[needs] = bucket.kernel.numbers(*bucket.given(how))
            bucket.step(*vectors[needs])


def _sums(made: SumKernel, buckets: Sequence[Bucket], how: How) -> dict[str, float]:
    """What a link wants of buckets that stand at the same step, with the same numbers."""
    numbers = made.kind.numbers(*buckets[0].given(how))
    vector = made.vector(numbers)
    found = [x for bucket in buckets for x in made(bucket.lines(made.reads), vector)]
    sums = torch.stack(found).view(len(buckets), -1).sum(0).tolist() if found else []
    return made.totals(numbers, sums, sum(len(bucket.members) for bucket in buckets))


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
