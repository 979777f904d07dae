"""What averages of iterates share: a link that lets every step pass, and keeps the average beside the weights."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, lerp

from ravine.core.rule import Rule, State, choose


@dataclass(frozen=True)
class Average(Rule, register=False):
    """The weights after each step, averaged: m <- m + c(t) (theta - m) with the share c(t) that a subclass gives.

    The steps are the rule's own; what counts is m, which `Optimizer.swapped()` shows. `ravine.averaging` keeps the same
    averages for optimizers of others. Weights of 16 bits are averaged in float32, before they are rounded.
    """

    wraps = True
    takes_displacement = True

    @property
    def judges_elsewhere(self) -> bool:
        return True

    @property
    def first(self) -> int:
        """The number of the first iterate that counts; before it the average is the weights themselves."""
        return 1

    def share(self, t: Any) -> Any:
        """How much of the average after `t` = 1, 2, ... iterates is the newest one; 1 for those up to `first`."""
        raise NotImplementedError

    def init(self, p: Tensor) -> State:
        return {"average": p.clone()}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        return g, {"average": towards(state["average"], p - g, self.share(t))}

    def judged(self, p: Tensor, **state: Tensor) -> Tensor:
        return state["average"]


def towards(a: Tensor, b: Tensor, share: Any) -> Tensor:
    """From `a` to `b` by `share` of the way, from the nearer end: exactly `b` at 1, however far `a` is."""
    if not isinstance(share, Tensor):
        return lerp(a, b, share)
    moved: Tensor = choose(share < 0.5, nearer(a, b, share), b - (1 - share) * (b - a))
    return moved


def nearer(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """The same for shares below a half."""
    moved: Tensor = a + share * (b - a)
    return moved
