"""ADOPT: Adam that converges with any beta2."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State, choose
from ravine.core.space import ADAPTIVE


@dataclass(frozen=True)
class ADOPT(Rule):
    """The gradient is normalized by the second moment of those before it, clipped, and only then averaged.

        at the first gradient:   v = g^2,   and no step
        afterwards:              m <- beta1 m + (1 - beta1) clip(g / max(sqrt(v), eps), (t - 1)^(1/4))          u = m
                                 v <- beta2 v + (1 - beta2) g^2,   after m

    Taniguchi et al. 2024, Algorithm 2 (arXiv:2411.02853v3), where the first gradient has the number 0;
    `clip=False` is their Algorithm 1. The authors' code skips decoupled weight decay too at the first gradient; a
    `Decay` behind this rule does not.
    """

    beta1: float = 0.9
    beta2: float = 0.9999
    eps: float = 1e-6
    clip: bool = True

    ranges = {"beta1": "[0, 1)", "beta2": "[0, 1)", "eps": "(0, inf)"}
    default_lr = 1e-3
    space = {key: ADAPTIVE[key] for key in ("lr", "beta1", "beta2")}

    def init(self, p: Tensor) -> State:
        return {"m": zeros_like(p), "v": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        normed = g / state["v"].sqrt().clamp(min=self.eps)
        if self.clip:
            limit = (t - 1) ** 0.25  # 0 at the first gradient
            normed = normed.clamp(-limit, limit)
        else:
            normed = normed * (t > 1)
        m = self.beta1 * state["m"] + (1 - self.beta1) * normed
        v = choose(t > 1, self.beta2 * state["v"] + (1 - self.beta2) * g * g, g * g)
        return m, {"m": m, "v": v}
