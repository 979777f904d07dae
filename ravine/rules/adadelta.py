"""Adadelta: AdaGrad with a memory that fades, and steps in the units of the parameters."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension
from ravine.core.torch_format import TorchFormat


@dataclass(frozen=True)
class Adadelta(Rule):
    """The gradient times the ratio of two running root mean squares, of past steps and of gradients.

        r <- rho r + (1 - rho) g^2
        u  = sqrt(s + eps) / sqrt(r + eps) g
        s <- rho s + (1 - rho) u^2

    Zeiler 2012, Algorithm 1 (arXiv:1212.5701), with rho = 0.95 there and 0.9 in torch.optim.Adadelta, as here. `eps`
    stands inside the roots in both.
    """

    rho: float = 0.9
    eps: float = 1e-6

    ranges = {"rho": "[0, 1)", "eps": "(0, inf)"}
    default_lr = 1.0
    space = {
        "lr": Dimension(1e-2, 1e2),
        "rho": Dimension(0.7, 0.9999, "log1m", points=9),
        "eps": Dimension(1e-8, 1e-3, points=33),
    }

    def init(self, p: Tensor) -> State:
        return {"r": zeros_like(p), "s": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        r = self.rho * state["r"] + (1 - self.rho) * g * g
        u = (state["s"] + self.eps).sqrt() / (r + self.eps).sqrt() * g
        return u, {"r": r, "s": self.rho * state["s"] + (1 - self.rho) * u * u}

    def in_torch(self) -> TorchFormat | None:
        return TorchFormat({"r": "square_avg", "s": "acc_delta"}, {"rho": "rho", "eps": "eps"})
