"""AdaBelief: Adam that divides by how far gradients stray from their own average."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State, choose
from ravine.core.space import ADAPTIVE
from ravine.rules.rectification import rectification


@dataclass(frozen=True)
class AdaBelief(Rule):
    """Adam with the variance of the gradient around its running mean in place of its second moment.

        m <- beta1 m + (1 - beta1) g          s <- beta2 s + (1 - beta2) (g - m)^2 + eps
        u  = m / (1 - beta1^t)  /  (sqrt(s / (1 - beta2^t)) + eps)

    Zhuang et al. 2020, Algorithm 2 (arXiv:2010.07468). The authors' package (adabelief-pytorch 0.2) holds back its
    early steps as RAdam does, with eps = 1e-16; so does this, and `rectify=False` is the paper's:

        rectify:   u = m / (1 - beta1^t) a,   a = 1 while rho <= 5, then  r sqrt(1 - beta2^t) / (sqrt(s) + eps)
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-16
    rectify: bool = True

    ranges = {"beta1": "[0, 1)", "beta2": "[0, 1)", "eps": "(0, inf)"}
    name = "adabelief"
    default_lr = 1e-3
    space = {key: ADAPTIVE[key] for key in ("lr", "beta1", "beta2")}

    def init(self, p: Tensor) -> State:
        return {"m": zeros_like(p), "s": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        m = self.beta1 * state["m"] + (1 - self.beta1) * g
        s = self.beta2 * state["s"] + (1 - self.beta2) * (g - m) * (g - m) + self.eps
        step, known = m / (1 - self.beta1**t), 1 - self.beta2**t
        if not self.rectify:
            return step / ((s / known).sqrt() + self.eps), {"m": m, "s": s}
        sure, r = rectification(t, self.beta2)
        return choose(sure, step * (r * known**0.5) / (s.sqrt() + self.eps), step), {"m": m, "s": s}
