"""What a named solver may be given, for help and editors: the arguments of its optimizer, then its spec's."""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

from ravine.core.errors import RavineError
from ravine.solvers.base import Direction

_INNER = ("self", "solver", "hyperparameters")


def signature(optimizer: type, kind: str) -> inspect.Signature:
    """The arguments of `optimizer` without those that say which solver, then the fields of the solver `kind`."""
    own = list(inspect.signature(optimizer.__init__).parameters.values())  # type: ignore[misc]  # of the class, not of one
    fields = dataclasses.fields(Direction.registry[kind])
    only = inspect.Parameter.KEYWORD_ONLY
    more = [inspect.Parameter(f.name, only, default=f.default, annotation=f.type) for f in fields]
    return inspect.Signature([*(one for one in own if one.name not in _INNER), *more])


def refuse_unnamed(kind: str, more: Sequence[Any]) -> None:
    """Raise where arguments after the first have no name."""
    if more:
        raise RavineError(f"{kind}: give arguments by name, as in lr=0.1; after the first there is {more[0]!r:.80}")
