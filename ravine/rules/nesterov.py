"""Nesterov momentum: the gradient is taken where the velocity is about to lead."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension
from ravine.core.torch_format import TorchFormat


@dataclass(frozen=True)
class Nesterov(Rule):
    """SGD with Nesterov's accelerated momentum.

        form="torch":   m <- momentum m + g             p <- p - lr (g + momentum m)
        form="book":    m <- momentum m + lr g          theta <- theta - m,   g taken at p = theta - momentum m

    Nesterov 1983; Sutskever et al. 2013. The book's form is Goodfellow et al. 2016, Algorithm 8.3, with v = -m: the
    parameters rest at the look-ahead point p, where the next gradient is taken, and `Optimizer.swapped()` shows theta.
    Where the momentum changes from step to step, the look-ahead is taken with that of the step before.
    torch.optim.SGD(nesterov=True) has lr outside the velocity and only p; at a constant lr the two walk the same way.
    """

    momentum: float = 0.9
    form: str = "torch"

    ranges = {"momentum": "[0, 1)"}
    choices = {"form": ("torch", "book")}
    default_lr = 0.01
    space = {"lr": Dimension(1e-3, 5), "momentum": Dimension(0.7, 0.995, "log1m", points=9)}

    @property
    def applies_lr(self) -> bool:
        return self.form == "book"

    @property
    def judges_elsewhere(self) -> bool:
        return self.form == "book"

    def init(self, p: Tensor) -> State:
        # Where p rests depends on the momentum of the step that brought it there, which schedulers may change.
        ahead = {"mu": p.new_zeros((), dtype=torch.float64)} if self.judges_elsewhere else {}
        return {"m": zeros_like(p)} | ahead

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        if not self.applies_lr:
            m = self.momentum * state["m"] + g
            return g + self.momentum * m, {"m": m}
        m = self.momentum * state["m"] + state["lr"] * g
        return (1 + self.momentum) * m - state["mu"] * state["m"], {"m": m, "mu": 0 * state["mu"] + self.momentum}

    def judged(self, p: Tensor, **state: Tensor) -> Tensor:
        return p + state["mu"] * state["m"] if self.judges_elsewhere else p

    def in_torch(self) -> TorchFormat | None:
        if self.form == "book":
            return None
        fixed = {"nesterov": True, "dampening": 0}
        return TorchFormat({"m": "momentum_buffer"}, {"momentum": "momentum"}, fixed, counts=False)
