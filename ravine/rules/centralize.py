"""Gradient centralization."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ravine.core.rule import Rule, State


@dataclass(frozen=True)
class Centralize(Rule):
    """Takes the mean out of each output unit's gradient; vectors pass unchanged.

        u_i = g_i - mean(g_i)

    Yong et al. 2020, eq. 1 (arXiv:2004.01461). A unit is a row of the first dimension.
    """

    scope = "tensor"

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        return g - g.mean(dim=tuple(range(1, g.ndim)), keepdim=True) if g.ndim > 1 else g + 0, {}
