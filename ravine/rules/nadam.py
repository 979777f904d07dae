"""NAdam: Adam with Nesterov's look-ahead in its first moment."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import ADAPTIVE
from ravine.core.torch_format import BETAS, MOMENTS, TorchFormat


@dataclass(frozen=True)
class NAdam(Rule):
    """Adam whose first moment looks one step ahead, with a momentum mu that warms up.

        mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)          w <- w mu_t
        m   <- beta1 m + (1 - beta1) g                          v <- beta2 v + (1 - beta2) g^2
        u    = (mu_{t+1} m / (1 - w mu_{t+1}) + (1 - mu_t) g / (1 - w))  /  (sqrt(v / (1 - beta2^t)) + eps)

    Dozat 2016, "Incorporating Nesterov Momentum into Adam", Algorithm 2, with his momentum schedule (0.004 = 1/250).
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    momentum_decay: float = 0.004

    ranges = {"beta1": "[0, 1)", "beta2": "[0, 1)", "eps": "[0, inf)", "momentum_decay": "[0, inf)"}
    name = "nadam"
    default_lr = 2e-3
    space = ADAPTIVE

    def init(self, p: Tensor) -> State:
        # The product of all mu so far is a number of its own, kept in float64 whatever the weights are.
        return {"m": zeros_like(p), "v": zeros_like(p), "w": p.new_ones((), dtype=torch.float64)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        mu = self.beta1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))
        ahead = self.beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * self.momentum_decay))
        w = state["w"] * mu
        m = self.beta1 * state["m"] + (1 - self.beta1) * g
        v = self.beta2 * state["v"] + (1 - self.beta2) * g * g
        look = ahead / (1 - w * ahead) * m + (1 - mu) / (1 - w) * g
        return look / ((v / (1 - self.beta2**t)).sqrt() + self.eps), {"m": m, "v": v, "w": w}

    def in_torch(self) -> TorchFormat | None:
        return TorchFormat(MOMENTS | {"w": "mu_product"}, BETAS | {"momentum_decay": "momentum_decay"})
