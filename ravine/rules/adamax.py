"""Adamax: Adam with the largest gradient in memory in place of the root mean square."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, maximum, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import ADAPTIVE
from ravine.core.torch_format import BETAS, TorchFormat


@dataclass(frozen=True)
class Adamax(Rule):
    """Adam in the infinity norm.

        m <- beta1 m + (1 - beta1) g          v <- max(beta2 v, |g| + eps)          u = m / (1 - beta1^t) / v

    Kingma & Ba 2015, Algorithm 2, which has no `eps`; torch.optim.Adamax adds it to |g|, as here.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    ranges = {"beta1": "[0, 1)", "beta2": "[0, 1)", "eps": "(0, inf)"}
    default_lr = 2e-3
    space = ADAPTIVE

    def init(self, p: Tensor) -> State:
        return {"m": zeros_like(p), "v": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        m = self.beta1 * state["m"] + (1 - self.beta1) * g
        v = maximum(self.beta2 * state["v"], g.abs() + self.eps)
        return m / (1 - self.beta1**t) / v, {"m": m, "v": v}

    def in_torch(self) -> TorchFormat | None:
        return TorchFormat({"m": "exp_avg", "v": "exp_inf"}, BETAS)
