"""AdaGrad: each coordinate's step shrinks with all its gradients so far."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, full_like

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension
from ravine.core.torch_format import TorchFormat


@dataclass(frozen=True)
class AdaGrad(Rule):
    """Steps divided by the root of the sum of squared gradients.

        r <- r + g^2          u = g / (sqrt(r) + eps) / (1 + (t - 1) lr_decay)

    Duchi, Hazan & Singer 2011; Goodfellow et al. 2016, Algorithm 8.4. `eps` stands outside the root in both; the book
    has 1e-7, torch.optim.Adagrad 1e-10, as here. `initial` is where r starts; `lr_decay` is torch's.
    """

    eps: float = 1e-10
    initial: float = 0.0
    lr_decay: float = 0.0

    ranges = {"eps": "[0, inf)", "initial": "[0, inf)", "lr_decay": "[0, inf)"}
    name = "adagrad"
    default_lr = 1e-2
    space = {"lr": Dimension(1e-4, 1), "eps": Dimension(1e-10, 1e-3, points=33)}

    def init(self, p: Tensor) -> State:
        return {"r": full_like(p, self.initial)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        r = state["r"] + g * g
        return g / (r.sqrt() + self.eps) / (1 + (t - 1) * self.lr_decay), {"r": r}

    def in_torch(self) -> TorchFormat | None:
        numbers = {"eps": "eps", "initial_accumulator_value": "initial", "lr_decay": "lr_decay"}
        return TorchFormat({"r": "sum"}, numbers)
