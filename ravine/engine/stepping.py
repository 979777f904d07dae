"""The step of one group: by kernels for those parameters for which there are any, by the loop for the others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from torch import Tensor

from ravine.core.rule import Totals
from ravine.engine.bucket import How, Member
from ravine.engine.compiled import Compiled
from ravine.engine.single import given, move


class GroupStep:
    """A step of a group's parameters, first to be summed over and then to be made.

    failed: called where kernels cannot be compiled; it raises, or says that the loop takes over.
    """

    def __init__(
        self, how: How, compiled: Compiled | None, looped: Sequence[Member], failed: Callable[[Exception], None]
    ) -> None:
        self._how, self._compiled, self._looped, self._failed = how, compiled, looped, failed
        if compiled is not None:
            compiled.begin()

    def summed(self, i: int, before: Totals) -> Iterator[Mapping[str, Tensor]]:
        """What link `i` wants summed, in parts; `before` are the totals of the links before it."""
        how, looped = self._how._replace(totals=before), self._looped
        if self._compiled is not None:
            found, left = self._compiled.summed(i, how)
            yield found
            looped = [*left, *looped]
        for m in looped:
            own = given(m.p, m.state, how.maximize)
            more = how.told.more(m.p, m.label, own[2]) if how.rule.asks else None
            yield how.rule.summed(i, *own, how.lr, before, more)

    def moves(self, totals: Totals) -> list[Callable[[], None]]:
        """What moves the parameters, ready to be called."""
        how = self._how._replace(totals=totals)
        steps: list[Callable[[], None]] = []
        if self._compiled is not None:
            try:
                self._compiled.prepare(totals)
                steps.append(partial(self._compiled.step, how))
            except Exception as error:
                self._failed(error)
                self._looped = sorted([*self._compiled.members, *self._looped], key=lambda m: m.place)
        return steps + [partial(move, m.p, m.state, how, m.label) for m in self._looped]
