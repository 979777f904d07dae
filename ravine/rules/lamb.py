"""LAMB: Adam whose every tensor moves in proportion to its own norm."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, where, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import ADAPTIVE, Dimension
from ravine.rules.norms import norm


@dataclass(frozen=True)
class LAMB(Rule):
    """Layer-wise adaptive moments for large batches: Adam's step, scaled to the norm of the weights.

        m <- beta1 m + (1 - beta1) g          v <- beta2 v + (1 - beta2) g^2
        r  = m / (1 - beta1^t)  /  (sqrt(v / (1 - beta2^t)) + eps)  +  weight_decay p
        u  = ||p|| / ||r|| r,   and u = r where either norm is zero

    You et al. 2020, Algorithm 2 (arXiv:1904.00962), with phi(z) = z. Norms are those of a whole tensor. Earlier
    versions of the paper and its first code have no bias corrections: `bias_correction=False`. Weight decay stands
    inside the ratio, so it is a number of this rule and no link behind it.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.01
    bias_correction: bool = True

    ranges = {"beta1": "[0, 1)", "beta2": "[0, 1)", "eps": "(0, inf)", "weight_decay": "[0, inf)"}
    scope = "tensor"
    default_lr = 1e-3
    space = {key: ADAPTIVE[key] for key in ("lr", "beta1", "beta2")} | {
        "weight_decay": Dimension(1e-4, 1, points=17, zero=0.2)
    }

    def init(self, p: Tensor) -> State:
        return {"m": zeros_like(p), "v": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        m = self.beta1 * state["m"] + (1 - self.beta1) * g
        v = self.beta2 * state["v"] + (1 - self.beta2) * g * g
        first, second = (1 - self.beta1**t, 1 - self.beta2**t) if self.bias_correction else (1.0, 1.0)
        r = m / first / ((v / second).sqrt() + self.eps) + self.weight_decay * p
        weight, step = norm(p), norm(r)
        return where((weight > 0) & (step > 0), weight / step, 1.0) * r, {"m": m, "v": v}
