"""Momentum: gradients add up along the directions in which they agree."""

from dataclasses import dataclass

from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension


@dataclass(frozen=True)
class Momentum(Rule):
    """SGD with a velocity that forgets a share `1 - momentum` of itself at each step.

        m <- momentum m + (1 - dampening) g          (m <- g at the first step)
        u  = m

    Polyak 1964, in the convention of torch.optim.SGD: the velocity is a sum of gradients, and lr stands outside it.
    """

    momentum: float = 0.9
    dampening: float = 0.0

    ranges = {"momentum": "[0, 1)", "dampening": "[0, 1]"}
    default_lr = 0.01
    space = {"lr": Dimension(1e-3, 5), "momentum": Dimension(0.7, 0.995, "log1m", points=9)}

    def init(self, p: Tensor) -> State:
        return {"m": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: int, **state: Tensor) -> tuple[Tensor, State]:
        m = self.momentum * state["m"] + (1 - self.dampening * (t > 1)) * g
        return m, {"m": m}
