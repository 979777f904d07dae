"""AMSGrad: Adam whose step sizes never grow again."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, maximum, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import ADAPTIVE
from ravine.core.torch_format import BETAS, MOMENTS, TorchFormat


@dataclass(frozen=True)
class AMSGrad(Rule):
    """Adam with the largest second moment seen so far in place of the present one.

        m <- beta1 m + (1 - beta1) g          v <- beta2 v + (1 - beta2) g^2          w <- max(w, v)
        u  = m / (1 - beta1^t)  /  (sqrt(w / (1 - beta2^t)) + eps)

    Reddi, Kale & Kumar 2018 (arXiv:1904.09237), with Adam's bias corrections as in torch.optim.Adam(amsgrad=True).
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    ranges = {"beta1": "[0, 1)", "beta2": "[0, 1)", "eps": "[0, inf)"}
    name = "amsgrad"
    default_lr = 1e-3
    space = ADAPTIVE

    def init(self, p: Tensor) -> State:
        return {"m": zeros_like(p), "v": zeros_like(p), "w": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        m = self.beta1 * state["m"] + (1 - self.beta1) * g
        v = self.beta2 * state["v"] + (1 - self.beta2) * g * g
        w = maximum(state["w"], v)
        u = m / (1 - self.beta1**t) / ((w / (1 - self.beta2**t)).sqrt() + self.eps)
        return u, {"m": m, "v": v, "w": w}

    def in_torch(self) -> TorchFormat | None:
        return TorchFormat(MOMENTS | {"w": "max_exp_avg_sq"}, BETAS, {"amsgrad": True})
