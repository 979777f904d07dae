"""The sign of a step, drawn so that it is right on average."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, erf, where

from ravine.core.rule import Rule, State


@dataclass(frozen=True)
class StochasticSign(Rule):
    """Each coordinate becomes +1 or -1 at random, with a mean in proportion to what it was.

        u = +1 with probability (b + g) / (2 b), else -1;   its mean is g / b, and sign(g) where |g| >= b

    sto-sign, Jin et al. 2020, Definition 2 (arXiv:2002.10940), with one b for all coordinates; the paper wants it at
    least as large as the largest |g|. The noise z is normal, so that b erf(z / sqrt(2)) is uniform in (-b, b), and
    u = +1 where g lies above it. NaN stays NaN.
    """

    b: float = 1.0

    ranges = {"b": "(0, inf)"}
    needs = frozenset({"noise"})

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        threshold = self.b * erf(state["noise"] / 2**0.5)
        return where(g.isnan(), g, where(g > threshold, 1.0, -1.0).to(g.dtype)), {}
