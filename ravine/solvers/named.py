"""Every solver as an optimizer of a network, with the arguments that its spec has."""

import dataclasses
import inspect
from typing import Any, ClassVar

from ravine.solvers.base import Direction
from ravine.solvers.solver import Solver


class Named(Solver):
    """A solver of one kind; what is said of it stands at its direction."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        fields = dataclasses.fields(Direction.registry[cls.kind])
        own = list(inspect.signature(Solver.__init__).parameters.values())
        kept = [one for one in own if one.name not in ("solver", "hyperparameters")]
        only = inspect.Parameter.KEYWORD_ONLY
        more = [inspect.Parameter(f.name, only, default=f.default, annotation=f.type) for f in fields]
        cls.__signature__ = inspect.Signature([*kept[1:], *more])  # type: ignore[attr-defined]

    def __init__(self, params: Any, **arguments: Any) -> None:
        super().__init__(params, None, **arguments)


class LBFGS(Named):
    """Limited-memory BFGS: `LBFGS(model.parameters(), history=10, search="strong_wolfe")`."""

    kind: ClassVar[str] = "lbfgs"
