"""Delta-bar-delta: each weight has a learning rate of its own, which learns from the signs of its gradients."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, where, zeros_like

from ravine.core.rule import Rule, State, choose
from ravine.core.space import Dimension


@dataclass(frozen=True)
class DeltaBarDelta(Rule):
    """A weight's rate grows by a constant while gradients agree with their past, and shrinks by a share when they turn.

        eta   <- eta + kappa where d g > 0,   (1 - phi) eta where d g < 0          (d: the average before this step)
        d     <- (1 - theta) g + theta d
        p     <- p - eta g

    Jacobs 1988, "Increased rates of convergence through learning rate adaptation", section 5; Goodfellow et al. 2016,
    section 8.5. `lr` is where all rates start; changing it later has no effect. For full batches, as Jacobs meant it.
    """

    kappa: float = 1e-3
    phi: float = 0.1
    theta: float = 0.7

    ranges = {"kappa": "[0, inf)", "phi": "[0, 1)", "theta": "[0, 1)"}
    default_lr = 0.05
    space = {"lr": Dimension(1e-3, 5), "kappa": Dimension(1e-5, 1e-1, points=9)}

    @property
    def applies_lr(self) -> bool:
        return True

    def init(self, p: Tensor) -> State:
        return {"d": zeros_like(p), "eta": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        eta = choose(t > 1, state["eta"], 0 * state["eta"] + state["lr"])
        agreement = g * state["d"]
        eta = where(agreement > 0, eta + self.kappa, where(agreement < 0, (1 - self.phi) * eta, eta))
        return eta * g, {"d": (1 - self.theta) * g + self.theta * state["d"], "eta": eta}
