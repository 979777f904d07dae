"""Caution: no coordinate moves against its present gradient."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ravine.core.rule import Rule, State


@dataclass(frozen=True)
class Cautious(Rule):
    """Masks the coordinates whose step and gradient disagree in sign, and scales up the others.

        phi = [u g > 0]
        form="code":    u phi / max(mean(phi), floor)          form="paper":   u phi d / (sum(phi) + 1)

    Liang et al. 2024 (arXiv:2411.16085), Algorithm 2 with xi = 1; d is the number of coordinates of the tensor, and
    the form with a floor is that of the authors' code. chain(Adam(), Cautious(), Decay(0.1)) is their C-AdamW: g is
    the gradient as it came, whatever links stand before.
    """

    floor: float = 1e-3
    form: str = "code"

    ranges = {"floor": "(0, 1]"}
    choices = {"form": ("code", "paper")}
    scope = "tensor"
    needs = frozenset({"gradient"})

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        phi = (g * state["gradient"] > 0).to(g.dtype)
        share = phi.mean().clamp(min=self.floor) if self.form == "code" else (phi.sum() + 1) / phi.numel()
        return g * phi / share, {}
