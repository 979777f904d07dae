"""Sharpness-aware minimization: the gradient is taken where the loss nearby is worst."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension


@dataclass(frozen=True)
class SAM(Rule):
    """Any rule, on the gradient at the top of a small ball around the parameters, to first order.

        e = rho g / ||g||                    gradient at p + e
        adaptive:  e = rho T^2 g / ||T g||,  T = |p| + eta

    Foret et al. 2021, eq. 2 and Algorithm 1 (arXiv:2010.01412), rho = 0.05; adaptive is ASAM, Kwon et al. 2021, eq. 10
    (arXiv:2102.11600), for which 0.5 is usual. Norms are over all parameters that have this link. A step takes two
    gradients, so it needs a closure, and costs a race twice; groups without this link get the second gradient too.
    Batch normalization's running statistics see both passes.
    """

    rho: float = 0.05
    eta: float = 0.01
    adaptive: bool = False

    ranges = {"rho": "(0, inf)", "eta": "[0, inf)"}
    wraps = True
    space = {"rho": Dimension(0.005, 0.5, points=9)}

    def measure(self, g: Tensor, p: Tensor) -> dict[str, Tensor]:
        return {"square": (self._scale(p) * g).double().square().sum()}

    def probe_at(self, g: Tensor, p: Tensor, measured: Mapping[str, Tensor]) -> Tensor:
        norm = measured["square"].sqrt().clamp(min=1e-12).to(p.dtype)
        top: Tensor = p + self.rho * self._scale(p) ** 2 * g / norm
        return top

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        return g, {}

    def _scale(self, p: Tensor) -> Any:
        return p.abs() + self.eta if self.adaptive else 1.0
