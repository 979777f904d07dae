"""AdaHessian: Adam with a diagonal of the Hessian in place of squared gradients."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension


@dataclass(frozen=True)
class AdaHessian(Rule):
    """Adam's moments, the second one of Hutchinson's estimate of the diagonal of the Hessian, averaged over neighbours.

        D  = z (H z), z = +1 or -1, and its absolute values averaged over a convolution's kernel
        m <- beta1 m + (1 - beta1) g          v <- beta2 v + (1 - beta2) D^2
        u  = m / (1 - beta1^t)  /  ((v / (1 - beta2^t))^(power / 2) + eps)

    Yao et al. 2021, Algorithm 1 and eqs. 7-12 (arXiv:2006.00719). As in the authors' package, D is averaged over the
    last two dimensions of convolutions (`averaged`) and over nothing elsewhere, where the paper has blocks of any size.
    The authors estimate D at every step; with `every` the bias correction counts estimates.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    power: float = 1.0
    every: int = 1
    averaged: bool = True

    ranges = {"beta1": "[0, 1)", "beta2": "[0, 1)", "eps": "[0, inf)", "power": "(0, 1]", "every": "[1, inf)"}
    name = "adahessian"
    needs = frozenset({"product"})
    default_lr = 0.1
    space = {"lr": Dimension(1e-3, 1), "beta1": Dimension(0.7, 0.996, "log1m", points=9)}

    @property
    def refreshes_every(self) -> int:
        return self.every

    def init(self, p: Tensor) -> State:
        return {"m": zeros_like(p), "v": zeros_like(p)}

    def refresh(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> State:
        diagonal = (state["signs"] * state["product"]).abs()
        if self.averaged and p.ndim == 4:
            diagonal = diagonal.mean(dim=(2, 3), keepdim=True).expand_as(p)
        return {"v": self.beta2 * state["v"] + (1 - self.beta2) * diagonal * diagonal}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        m = self.beta1 * state["m"] + (1 - self.beta1) * g
        estimates = (t - 1) // self.every + 1
        v = (state["v"] / (1 - self.beta2**estimates)) ** (self.power / 2)
        return m / (1 - self.beta1**t) / (v + self.eps), {"m": m, "v": state["v"]}
