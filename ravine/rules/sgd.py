"""Stochastic gradient descent: against the gradient."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension
from ravine.core.torch_format import TorchFormat


@dataclass(frozen=True)
class SGD(Rule):
    """Gradient descent on minibatches.

        u = g

    Robbins & Monro 1951; Goodfellow, Bengio & Courville 2016, Algorithm 8.1.
    """

    sparse = True
    name = "sgd"
    default_lr = 0.1
    space = {"lr": Dimension(1e-3, 10)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        return g, {}

    def in_torch(self) -> TorchFormat | None:
        return TorchFormat(fixed={"momentum": 0, "dampening": 0, "nesterov": False}, counts=False)
