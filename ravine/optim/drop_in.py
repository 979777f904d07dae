"""The base of the drop-in names: an optimizer that is described by arguments, and not by a rule."""

from typing import Any, TypedDict

from ravine.core.errors import RavineError, unknown
from ravine.core.rule import Rule, chain
from ravine.optimizer import Optimizer
from ravine.rules import Decay
from ravine.schedules import Schedule

Pair = tuple[float, float]


class Options(TypedDict, total=False):
    """What every optimizer takes by keyword: torch's ways of execution, and those of `ravine.Optimizer`."""

    maximize: bool
    foreach: bool | None
    fused: bool | None
    capturable: bool
    differentiable: bool
    nonfinite: str
    execution: str
    rounding: str
    schedule: Schedule | None
    seed: int


_ENGINE = ("maximize", "nonfinite", "execution", "rounding", "schedule", "seed")


class DropIn(Optimizer):
    """An optimizer that is described in torch's words, by the constructor and by each param group."""

    def __init__(self, params: Any, lr: float, arguments: dict[str, Any], options: Options) -> None:
        for name in options:
            if name not in Options.__annotations__:
                raise unknown(f"argument of {type(self).__name__}", name, ("lr", *arguments, *Options.__annotations__))
        for name in ("capturable", "differentiable"):
            if options.get(name):
                raise RavineError(f"{name}=True is not supported; leave it out")
        self._arguments = arguments
        engine = {name: value for name, value in options.items() if name in _ENGINE}
        super().__init__(params, self._described(**arguments), lr, **engine)  # type: ignore[arg-type]  # checked there

    def _described(self, *_: Any, **arguments: Any) -> Rule:
        """The rule behind torch's arguments."""
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        own = {key: value for key, value in param_group.items() if key in self._arguments}
        if own and "rule" not in param_group:
            others = {key: value for key, value in param_group.items() if key not in own}
            param_group = others | {"rule": self._described(**self._arguments | own)}
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_arguments": self._arguments}


def decayed(rule: Rule, weight_decay: float, decoupled: bool = False) -> Rule:
    """The rule with an L2 penalty, or with decoupled weight decay."""
    if decoupled:
        return chain(rule, Decay(weight_decay))
    return chain(Decay(weight_decay), rule) if weight_decay else rule


def pair(name: str, values: Any, example: Any = (0.9, 0.999)) -> Pair:
    """The two numbers of an argument such as `betas`, checked to be two."""
    if not isinstance(values, tuple | list) or len(values) != 2:
        raise RavineError(f"{name} must be two numbers, as in {name}={example}, got {values!r}")
    return values[0], values[1]


def only(name: str, given: Any, allowed: Any) -> None:
    """Raise where an argument is given a value that is not supported."""
    if given != allowed:
        raise RavineError(f"{name}={given!r} is not supported; leave it out, or {name}={allowed!r}")
