"""A running average of the gradient, in place of the gradient: momentum whose steps keep the gradient's size."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, lerp, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension


@dataclass(frozen=True)
class GradientAverage(Rule):
    """Momentum as an exponential average, for the link behind it; with Nesterov's look-ahead unless told otherwise.

        m <- momentum m + (1 - momentum) g
        u  = momentum m + (1 - momentum) g  with nesterov,  m  without

    Jordan et al. 2024, as the authors' Muon and torch.optim.Muon do it. At a constant momentum it is (1 - momentum)
    times torch's Nesterov or heavy-ball momentum; where the momentum changes, as in a warm-up, the average keeps its
    scale and the sum does not.
    """

    momentum: float = 0.95
    nesterov: bool = True

    ranges = {"momentum": "[0, 1)"}
    space = {"momentum": Dimension(0.7, 0.995, "log1m", points=9)}

    def init(self, p: Tensor) -> State:
        return {"m": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        m = _towards(state["m"], g, 1 - self.momentum)
        return (_towards(g, m, self.momentum) if self.nesterov else m), {"m": m}


def _towards(a: Tensor, b: Tensor, share: Any) -> Tensor:
    """From `a` to `b` by `share` of the way: one pass over memory in the loop, where `share` is a plain number."""
    moved: Tensor = a + share * (b - a) if isinstance(share, Tensor) else lerp(a, b, share)
    return moved
