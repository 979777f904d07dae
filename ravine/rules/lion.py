"""Lion: the sign of a momentum that looks back twice."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, where, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension


@dataclass(frozen=True)
class Lion(Rule):
    """Evolved sign momentum: every coordinate moves by lr, in the direction of an average with more of the present.

        u = sign(beta1 m + (1 - beta1) g)          m <- beta2 m + (1 - beta2) g

    Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", Algorithm 2 (arXiv:2302.06675). lr is a third to
    a tenth of AdamW's, and the weight decay, chain(Lion(), Decay(...)), as many times larger. Unlike a plain sign, NaN
    stays NaN: sign(NaN) = 0 would keep the weight where it is for ever, and nobody would see it.
    """

    beta1: float = 0.9
    beta2: float = 0.99

    ranges = {"beta1": "[0, 1)", "beta2": "[0, 1)"}
    default_lr = 1e-4
    space = {
        "lr": Dimension(1e-6, 1e-2),
        "beta1": Dimension(0.7, 0.996, "log1m", points=9),
        "beta2": Dimension(0.7, 0.9999, "log1m", points=33),
    }

    def init(self, p: Tensor) -> State:
        return {"m": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        c = self.beta1 * state["m"] + (1 - self.beta1) * g
        return where(c > 0, 1.0, where(c < 0, -1.0, c)), {"m": self.beta2 * state["m"] + (1 - self.beta2) * g}
