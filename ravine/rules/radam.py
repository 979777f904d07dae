"""RAdam: Adam that holds back while its second moment is still a guess."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State, choose
from ravine.core.space import ADAPTIVE
from ravine.core.torch_format import BETAS, MOMENTS, TorchFormat
from ravine.rules.rectification import rectification


@dataclass(frozen=True)
class RAdam(Rule):
    """Adam with the variance of its early step sizes rectified.

        m <- beta1 m + (1 - beta1) g          v <- beta2 v + (1 - beta2) g^2
        rho_inf = 2 / (1 - beta2) - 1         rho = rho_inf - 2 t beta2^t / (1 - beta2^t)
        u = m / (1 - beta1^t) a,   a = 1 while rho <= 5, then  r sqrt(1 - beta2^t) / (sqrt(v) + eps)
        r^2 = (rho - 4)(rho - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho)

    Liu et al. 2020, Algorithm 2 (arXiv:1908.03265), which has no `eps` and begins at rho > 4; the threshold 5 and the
    place of `eps`, before the bias correction, are those of the authors' code and of torch.optim.RAdam.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    ranges = {"beta1": "[0, 1)", "beta2": "[0, 1)", "eps": "[0, inf)"}
    name = "radam"
    default_lr = 1e-3
    space = ADAPTIVE

    def init(self, p: Tensor) -> State:
        return {"m": zeros_like(p), "v": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        m = self.beta1 * state["m"] + (1 - self.beta1) * g
        v = self.beta2 * state["v"] + (1 - self.beta2) * g * g
        known = 1 - self.beta2**t
        sure, r = rectification(t, self.beta2)
        step = m / (1 - self.beta1**t)
        return choose(sure, step * (r * known**0.5) / (v.sqrt() + self.eps), step), {"m": m, "v": v}

    def in_torch(self) -> TorchFormat | None:
        return TorchFormat(MOMENTS, BETAS)
