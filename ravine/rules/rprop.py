"""Rprop: only the signs of gradients count; each weight finds its own step size."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, where, zeros_like

from ravine.core.rule import Rule, State, choose
from ravine.core.space import Dimension
from ravine.core.torch_format import TorchFormat


@dataclass(frozen=True)
class Rprop(Rule):
    """Resilient propagation: a weight's step grows while its gradient keeps its sign and shrinks when it turns.

        eta <- clamp(eta factor, step_min, step_max),   factor = eta_plus, eta_minus or 1 as g g_before is >, < or = 0
        g   <- 0 where the sign turned          p <- p - eta sign(g)

    Riedmiller & Braun 1993, in the form of torch.optim.Rprop (iRprop-: no step where the sign turned, Igel & Huesken
    2000). `lr` is where all step sizes start; changing it later has no effect. For full batches: on minibatches the
    signs are mostly noise.
    """

    eta_minus: float = 0.5
    eta_plus: float = 1.2
    step_min: float = 1e-6
    step_max: float = 50.0

    ranges = {"eta_minus": "(0, 1)", "eta_plus": "(1, inf)", "step_min": "[0, inf)", "step_max": "(0, inf)"}
    default_lr = 1e-2
    space = {"lr": Dimension(1e-5, 1e-1)}

    @property
    def applies_lr(self) -> bool:
        return True

    def init(self, p: Tensor) -> State:
        return {"before": zeros_like(p), "eta": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        eta = choose(t > 1, state["eta"], 0 * state["eta"] + state["lr"])
        agreement = g * state["before"]
        eta = where(agreement > 0, eta * self.eta_plus, where(agreement < 0, eta * self.eta_minus, eta))
        eta = eta.clamp(self.step_min, self.step_max)
        g = where(agreement < 0, 0.0, g)
        return eta * g.sign(), {"before": g, "eta": eta}

    def in_torch(self) -> TorchFormat | None:
        numbers = {"etas": ("eta_minus", "eta_plus"), "step_sizes": ("step_min", "step_max")}
        return TorchFormat({"before": "prev", "eta": "step_size"}, numbers)
