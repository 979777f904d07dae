"""Nesterov momentum: the velocity is corrected by the newest gradient before it is used."""

from dataclasses import dataclass

from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension


@dataclass(frozen=True)
class Nesterov(Rule):
    """SGD with Nesterov's accelerated momentum.

        m <- momentum m + g
        u  = g + momentum m

    Nesterov 1983; Sutskever et al. 2013, in the form of torch.optim.SGD(nesterov=True): the parameters rest at the
    look-ahead point, where the gradient is taken.
    """

    momentum: float = 0.9

    ranges = {"momentum": "[0, 1)"}
    default_lr = 0.01
    space = {"lr": Dimension(1e-3, 5), "momentum": Dimension(0.7, 0.995, "log1m", points=9)}

    def init(self, p: Tensor) -> State:
        return {"m": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: int, **state: Tensor) -> tuple[Tensor, State]:
        m = self.momentum * state["m"] + g
        return g + self.momentum * m, {"m": m}
