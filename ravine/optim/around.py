"""Optimizers that stand around another, with their authors' arguments."""

from collections.abc import Callable
from typing import Any

from ravine.core.errors import RavineError
from ravine.core.rule import Rule, chain
from ravine.core.spec import parse_schedules
from ravine.engine.group import rule_of
from ravine.optimizer import Optimizer
from ravine.rules import SAM as _SAM
from ravine.rules import Lookahead as _Lookahead
from ravine.schedules import make_schedule


class _Around(Optimizer):
    """The groups of an optimizer that has not stepped, with a link more behind the rule of each.

    What is around is an optimizer of its own: schedulers go on it, and what was inside is not used again.
    """

    def __init__(self, inside: Any, link: Rule) -> None:
        name = type(self).__name__
        if not isinstance(inside, Optimizer):
            raise RavineError(f"{name} stands around an optimizer of ravine, such as ravine.optim.SGD, got {inside!r}")
        if inside.state:
            raise RavineError(f"{name} stands around an optimizer that has not stepped yet: make it before training")
        groups = [self._described(group, link) for group in inside.param_groups]
        how = {key: getattr(inside, key) for key in ("nonfinite", "execution", "rounding", "seed")}
        super().__init__(groups, groups[0]["rule"], groups[0]["lr"], groups[0]["schedule"], **how)

    def _described(self, group: dict[str, Any], link: Rule) -> dict[str, Any]:
        rule = rule_of(group)
        kept = {key: group[key] for key in ("params", "lr", "maximize", "param_names") if key in group}
        if "param_names" in kept:
            kept["params"] = list(zip(kept.pop("param_names"), kept["params"], strict=True))
        return kept | {"rule": chain(rule, link), "schedule": make_schedule(parse_schedules(group["schedule"]))}


class SAM(_Around):
    """SAM around a class of `ravine.optim`: `SAM(params, ravine.optim.SGD, lr=0.1, momentum=0.9)`.

    `step(closure)` takes both gradients, in place of `first_step` and `second_step`. ASAM's eta is 0, as theirs.
    """

    def __init__(
        self, params: Any, base_optimizer: Callable[..., Any], rho: float = 0.05, adaptive: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(base_optimizer(params, **kwargs), _SAM(rho, 0.0, adaptive))


class Lookahead(_Around):
    """Lookahead around an optimizer of ravine: `Lookahead(ravine.optim.Adam(model.parameters()), k=5, alpha=0.5)`."""

    def __init__(self, optimizer: Any, k: int = 5, alpha: float = 0.5) -> None:
        super().__init__(optimizer, _Lookahead(alpha, k))
