"""Adam: steps of about unit size per coordinate, from running moments of the gradient."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import ADAPTIVE
from ravine.core.torch_format import BETAS, MOMENTS, TorchFormat


@dataclass(frozen=True)
class Adam(Rule):
    """Adaptive moments.

        m <- beta1 m + (1 - beta1) g          v <- beta2 v + (1 - beta2) g^2
        u  = m / (1 - beta1^t)  /  (sqrt(v / (1 - beta2^t)) + eps)

    Kingma & Ba 2015, Algorithm 1 (arXiv:1412.6980); Goodfellow et al. 2016, Algorithm 8.7. `eps` stands outside the
    root, as in both and in torch.optim.Adam.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    ranges = {"beta1": "[0, 1)", "beta2": "[0, 1)", "eps": "[0, inf)"}
    default_lr = 1e-3
    space = ADAPTIVE

    def init(self, p: Tensor) -> State:
        return {"m": zeros_like(p), "v": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        m = self.beta1 * state["m"] + (1 - self.beta1) * g
        v = self.beta2 * state["v"] + (1 - self.beta2) * g * g
        u = m / (1 - self.beta1**t) / ((v / (1 - self.beta2**t)).sqrt() + self.eps)
        return u, {"m": m, "v": v}

    def in_torch(self) -> TorchFormat | None:
        return TorchFormat(MOMENTS, BETAS, {"amsgrad": False})
