"""RMSProp: steps divided by a running root mean square of the gradient."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension
from ravine.core.torch_format import TorchFormat


@dataclass(frozen=True)
class RMSProp(Rule):
    """Steps of about unit size per coordinate, from an exponential average of squared gradients.

        r <- rho r + (1 - rho) g^2
        where="outside":   u = g / (sqrt(r) + eps)          where="inside":   u = g / sqrt(r + eps)

    Hinton 2012, lecture 6; Goodfellow et al. 2016, Algorithm 8.5, has its constant inside the root, 1e-6, and leaves
    rho open (0.9 is usual). torch.optim.RMSprop has it outside, 1e-8, with rho = 0.99 (`alpha`), as here. `centered`
    subtracts the squared running mean of the gradient from r (Graves 2013, eq. 38). `corrected` divides r by
    1 - rho^t, so that it does not begin at zero: Adam without momentum.
    """

    rho: float = 0.99
    eps: float = 1e-8
    where: str = "outside"
    centered: bool = False
    corrected: bool = False

    ranges = {"rho": "[0, 1)", "eps": "[0, inf)"}
    choices = {"where": ("outside", "inside")}
    name = "rmsprop"
    default_lr = 1e-3
    space = {"lr": Dimension(1e-5, 1e-1), "rho": Dimension(0.7, 0.9999, "log1m", points=9)}

    def init(self, p: Tensor) -> State:
        return {"r": zeros_like(p)} | ({"m": zeros_like(p)} if self.centered else {})

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        new = {"r": self.rho * state["r"] + (1 - self.rho) * g * g}
        r = new["r"]
        if self.centered:
            new["m"] = self.rho * state["m"] + (1 - self.rho) * g
            r = (r - new["m"] * new["m"]).clamp(min=0)  # rounding makes it negative where g hardly changes
        r = r / (1 - self.rho**t) if self.corrected else r
        return g / ((r + self.eps).sqrt() if self.where == "inside" else r.sqrt() + self.eps), new

    def in_torch(self) -> TorchFormat | None:
        if self.where == "inside" or self.corrected:
            return None
        state = {"r": "square_avg"} | ({"m": "grad_avg"} if self.centered else {})
        return TorchFormat(state, {"alpha": "rho", "eps": "eps"}, {"centered": self.centered, "momentum": 0})
