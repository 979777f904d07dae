"""LARS: momentum whose every tensor has a learning rate in proportion to its own norm."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, where, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension
from ravine.rules.norms import norm


@dataclass(frozen=True)
class LARS(Rule):
    """Layer-wise adaptive rate scaling for large batches.

        lambda = trust ||p|| / (||g|| + weight_decay ||p||),   and 1 where ||p|| or ||g|| is zero
        v <- momentum v + lr lambda (g + weight_decay p)                    p <- p - v

    You, Gitman & Ginsburg 2017, Algorithm 1 (arXiv:1708.03888), with its trust = 0.001 and weight decay 5e-4; its
    learning rate falls as (1 - t / T)^2, a schedule here. lr lives inside the momentum, as written there; many
    packages have it outside, the same at a constant lr. Packages also leave vectors (biases, norms) without lambda:
    give those `momentum` in a group of their own.
    """

    momentum: float = 0.9
    weight_decay: float = 5e-4
    trust: float = 1e-3

    ranges = {"momentum": "[0, 1)", "weight_decay": "[0, inf)", "trust": "(0, inf)"}
    scope = "tensor"
    default_lr = 1.0
    space = {
        "lr": Dimension(1e-2, 1e3),
        "momentum": Dimension(0.7, 0.995, "log1m", points=9),
        "weight_decay": Dimension(1e-5, 1e-1, points=17, zero=0.2),
    }

    @property
    def applies_lr(self) -> bool:
        return True

    def init(self, p: Tensor) -> State:
        return {"v": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        weight, slope = norm(p), norm(g)
        ratio = self.trust * weight / (slope + self.weight_decay * weight)
        local = where((weight > 0) & (slope > 0), ratio, 1.0)
        v = self.momentum * state["v"] + state["lr"] * local * (g + self.weight_decay * p)
        return v, {"v": v}
