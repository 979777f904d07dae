"""The sign of a step."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, where

from ravine.core.rule import Rule, State


@dataclass(frozen=True)
class Sign(Rule):
    """Only the sign of each coordinate is kept.

        u = sign(g), and NaN where g is NaN

    chain(Sign(), SGD()) is signSGD, chain(Momentum(), Sign()) is Signum (Bernstein et al. 2018, arXiv:1802.04434).
    """

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        return where(g.isnan(), g, g.sign()), {}
