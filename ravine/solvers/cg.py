"""Nonlinear conjugate gradients over all parameters as one vector."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ravine.solvers.base import Direction, Memory, Point, Problem


@dataclass(frozen=True)
class CG(Direction):
    """d+ = -g+ + beta d, with y = g+ - g.

    beta: "fletcher_reeves" g+'g+ / g'g, "polak_ribiere" max(0, y'g+ / g'g), "hestenes_stiefel" max(0, y'g+ / d'y),
    "dai_yuan" g+'g+ / d'y, "hager_zhang" (y - 2 d y'y / d'y)'g+ / d'y, at least -1 / (|d| min(eta, |g|)).
    Nocedal & Wright 2006, eq. 5.41-5.49; Hager & Zhang 2005, eq. 1.3-1.6.

    restart: d+ = -g+ where |g+'g| >= restart |g+|^2 (Powell 1977 has 0.2; N&W eq. 5.52); and always where d+ does
    not point downhill. Unless given, 0.9 for fletcher_reeves and dai_yuan, which else keep a bad direction, and none
    for the others, whose beta is near 0 there.
    """

    search: str = "strong_wolfe(c2=0.4)"
    beta: str = "hestenes_stiefel"
    restart: float | None = None
    eta: float = 0.01
    choices: ClassVar = {
        "beta": ("fletcher_reeves", "polak_ribiere", "hestenes_stiefel", "dai_yuan", "hager_zhang"),
    }
    ranges: ClassVar = {"restart": "(0, inf)", "eta": "(0, inf)"}

    def direction(self, point: Point, memory: Memory, problem: Problem) -> Tensor:
        g = point.gradient
        if "d" not in memory:
            return -g
        d, before = memory["d"], memory["g"]
        gg = float(g @ g)
        if abs(float(g @ before)) >= self._restart() * gg:
            self.forget(memory)
            return -g
        made: Tensor = (d * self._beta(g, before, d, gg)).sub_(g)
        if not float(made @ g) < 0:
            self.forget(memory)
            return -g
        return made

    def _restart(self) -> float:
        if self.restart is not None:
            return self.restart
        return 0.9 if self.beta in ("fletcher_reeves", "dai_yuan") else math.inf

    def _beta(self, g: Tensor, before: Tensor, d: Tensor, gg: float) -> float:
        if self.beta == "fletcher_reeves":
            return gg / float(before @ before)
        y = g - before
        if self.beta == "polak_ribiere":
            return max(0.0, float(y @ g) / float(before @ before))
        dy = float(d @ y)
        if not dy:
            return 0.0
        if self.beta == "hestenes_stiefel":
            return max(0.0, float(y @ g) / dy)
        if self.beta == "dai_yuan":
            return gg / dy
        beta = (float(y @ g) - 2 * float(y @ y) / dy * float(d @ g)) / dy
        return max(beta, -1.0 / (float(d.norm()) * min(self.eta, float(before.norm()))))

    def first(self, point: Point, d: Tensor, memory: Memory) -> float:
        """As far as the last step went in proportion to its slope (N&W 2006, sec. 3.5)."""
        if "fall" not in memory:
            return min(1.0, 1.0 / float(d.norm()))
        return float(memory["fall"] / float(point.gradient @ d))

    def learn(self, memory: Memory, before: Point, after: Point, d: Tensor, alpha: float) -> None:
        memory["d"], memory["g"] = d, before.gradient
        memory["fall"] = alpha * float(before.gradient @ d)

    def forget(self, memory: Memory) -> bool:
        memory.pop("g", None)
        return memory.pop("d", None) is not None
