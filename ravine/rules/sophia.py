"""Sophia: momentum divided by a running diagonal of the curvature, clipped."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension


@dataclass(frozen=True)
class Sophia(Rule):
    """Steps that Newton would make coordinate by coordinate, none longer than lr.

        m <- beta1 m + (1 - beta1) g          h <- beta2 h + (1 - beta2) h_hat, at every `every`-th step
        u  = clamp(m / max(gamma h, eps), -1, 1)
        "hutchinson":    h_hat = z (H z),  z = +1 or -1
        "gauss_newton":  h_hat = B g_hat^2,  g_hat the gradient of the mean loss at B targets drawn from the model

    Liu, Li, Hall, Liang & Ma 2023, Algorithms 1-3 (arXiv:2305.14342); gamma is 0.01 for Hutchinson's estimate and 0.05
    for Gauss-Newton-Bartlett's there, and is to be tuned until a tenth to a half of the coordinates are not clipped.
    The paper draws z from a normal distribution; signs estimate the same with less variance (Hutchinson 1989).
    Weight decay is decoupled: chain(Sophia(), Decay(0.2)). The authors' package clips m / (rho B h + 1e-15) and leaves
    the division by B to its users.
    """

    beta1: float = 0.96
    beta2: float = 0.99
    gamma: float = 0.01
    eps: float = 1e-12
    every: int = 10
    estimator: str = "hutchinson"

    ranges = {"beta1": "[0, 1)", "beta2": "[0, 1)", "gamma": "(0, inf)", "eps": "(0, inf)", "every": "[1, inf)"}
    choices = {"estimator": ("hutchinson", "gauss_newton")}
    default_lr = 1e-3
    space = {
        "lr": Dimension(1e-5, 1e-1),
        "gamma": Dimension(1e-3, 1, points=9),
        "beta1": Dimension(0.7, 0.996, "log1m", points=17),
    }

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]  # by the estimator
        return frozenset({"product" if self.estimator == "hutchinson" else "sampled"})

    @property
    def refreshes_every(self) -> int:
        return self.every

    def init(self, p: Tensor) -> State:
        return {"m": zeros_like(p), "h": zeros_like(p)}

    def refresh(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> State:
        if self.estimator == "hutchinson":
            found = state["signs"] * state["product"]
        else:
            found = state["examples"] * state["sampled"] * state["sampled"]
        return {"h": self.beta2 * state["h"] + (1 - self.beta2) * found}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        m = self.beta1 * state["m"] + (1 - self.beta1) * g
        u = m / (self.gamma * state["h"]).clamp(min=self.eps)
        return u.clamp(-1.0, 1.0), {"m": m, "h": state["h"]}
