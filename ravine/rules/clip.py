"""Clipping: a bound on what one step may be given."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, where

from ravine.core.rule import Rule, State
from ravine.rules.norms import unit_norms


@dataclass(frozen=True)
class ClipValue(Rule):
    """Each coordinate clipped to [-limit, limit].

        u = clamp(g, -limit, limit)

    Mikolov 2012; Goodfellow et al. 2016, section 10.11.1; torch.nn.utils.clip_grad_value_.
    """

    limit: float = 1.0

    ranges = {"limit": "(0, inf)"}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        return g.clamp(-self.limit, self.limit), {}


@dataclass(frozen=True)
class ClipNorm(Rule):
    """The gradients of all parameters together scaled down to a norm of at most `limit`.

        u = g min(1, limit / (||g_all|| + 1e-6))

    Pascanu, Mikolov & Bengio 2013, Algorithm 1 (arXiv:1211.5063); the 1e-6 is that of torch.nn.utils.clip_grad_norm_.
    The norm is taken over every parameter that has this link, in all groups.
    """

    limit: float = 1.0

    ranges = {"limit": "(0, inf)"}

    def summarize(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> dict[str, Tensor]:
        return {"square": g.double().square().sum()}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        norm = state["totals"]["square"].sqrt()
        return g * (self.limit / (norm + 1e-6)).clamp(max=1.0), {}


@dataclass(frozen=True)
class AdaptiveClip(Rule):
    """Each output unit's gradient scaled down to a share of its weights' norm.

        u_i = g_i min(1, limit max(||p_i||, eps) / ||g_i||)

    Brock et al. 2021, eq. 3 (arXiv:2102.06171), with its defaults. A unit is a row of the first dimension; a vector or
    a number is one unit.
    """

    limit: float = 0.01
    eps: float = 1e-3

    ranges = {"limit": "(0, inf)", "eps": "(0, inf)"}
    scope = "tensor"

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        allowed = self.limit * unit_norms(p).clamp(min=self.eps)
        norm = unit_norms(g)
        return where(norm > allowed, g * (allowed / norm.clamp(min=1e-30)), g), {}
