"""Momentum: gradients add up along the directions in which they agree."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, zeros_like

from ravine.core.errors import RavineError
from ravine.core.rule import Rule, State
from ravine.core.space import Dimension
from ravine.core.torch_format import TorchFormat


@dataclass(frozen=True)
class Momentum(Rule):
    """SGD with a velocity that forgets a share `1 - momentum` of itself at each step.

        form="torch":   m <- momentum m + (1 - dampening) g   (m <- g at the first step)       p <- p - lr m
        form="book":    m <- momentum m + lr g                                                 p <- p - m

    Polyak 1964. torch.optim.SGD keeps a sum of gradients with lr outside; Goodfellow et al. 2016, Algorithm 8.2, keeps
    lr inside the velocity (v = -m), so that a step remembers the learning rates of the past. At a constant lr the two
    are the same.
    """

    momentum: float = 0.9
    dampening: float = 0.0
    form: str = "torch"

    ranges = {"momentum": "[0, 1)", "dampening": "[0, 1]"}
    choices = {"form": ("torch", "book")}
    default_lr = 0.01
    space = {"lr": Dimension(1e-3, 5), "momentum": Dimension(0.7, 0.995, "log1m", points=9)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form == "book" and self.dampening:
            raise RavineError('momentum: dampening belongs to form="torch"; the book has none')

    @property
    def applies_lr(self) -> bool:
        return self.form == "book"

    def init(self, p: Tensor) -> State:
        return {"m": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        share = state["lr"] if self.applies_lr else 1 - self.dampening * (t > 1)
        m = self.momentum * state["m"] + share * g
        return m, {"m": m}

    def in_torch(self) -> TorchFormat | None:
        if self.form == "book":
            return None
        numbers = {"momentum": "momentum", "dampening": "dampening"}
        return TorchFormat({"m": "momentum_buffer"}, numbers, {"nesterov": False}, counts=False)
