"""Adan: Nesterov's look-ahead made of the differences of gradients."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension


@dataclass(frozen=True)
class Adan(Rule):
    """Adaptive Nesterov momentum: running means of the gradient g, of its change y, and of (g + beta2 y)^2.

        y  = g - g_before (0 at first)        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) y          n <- beta3 n + (1 - beta3) (g + beta2 y)^2
        u  = (m / (1 - beta1^t) + beta2 v / (1 - beta2^t))  /  (sqrt(n / (1 - beta3^t)) + eps)

    Xie et al. 2022, Algorithm 1 (arXiv:2208.06677), whose betas are one minus these. The bias corrections are those of
    the authors' code; the paper starts m and n at the first gradient instead, and may restart. Their weight decay is
    proximal: chain(Adan(), Decay(0.02, "proximal")).
    """

    beta1: float = 0.98
    beta2: float = 0.92
    beta3: float = 0.99
    eps: float = 1e-8

    ranges = {"beta1": "[0, 1)", "beta2": "[0, 1)", "beta3": "[0, 1)", "eps": "[0, inf)"}
    default_lr = 1e-3
    space = {
        "lr": Dimension(1e-5, 1e-1),
        "beta1": Dimension(0.7, 0.996, "log1m", points=9),
        "beta2": Dimension(0.7, 0.996, "log1m", points=33),
        "beta3": Dimension(0.7, 0.9999, "log1m", points=33),
    }

    def init(self, p: Tensor) -> State:
        return {key: zeros_like(p) for key in ("m", "v", "n", "before")}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        y = (g - state["before"]) * (t > 1)
        m = self.beta1 * state["m"] + (1 - self.beta1) * g
        v = self.beta2 * state["v"] + (1 - self.beta2) * y
        ahead = g + self.beta2 * y
        n = self.beta3 * state["n"] + (1 - self.beta3) * ahead * ahead
        step = m / (1 - self.beta1**t) + self.beta2 / (1 - self.beta2**t) * v
        u = step / ((n / (1 - self.beta3**t)).sqrt() + self.eps)
        return u, {"m": m, "v": v, "n": n, "before": g.clone()}
