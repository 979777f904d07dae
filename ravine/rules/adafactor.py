"""Adafactor: Adam's second moment in the memory of its rows and columns."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, finfo, zeros_like

from ravine.core.rule import Rule, State, choose
from ravine.core.space import Dimension
from ravine.rules.norms import rms


@dataclass(frozen=True)
class Adafactor(Rule):
    """Steps over a second moment of which only row and column means are kept, clipped as a whole.

        beta2 = 1 - t^beta2_decay                      rho = min(lr, 1 / sqrt(t))
        R <- beta2 R + (1 - beta2) row means of (g^2 + eps1), C of columns;     V = R C / mean(R)
        U  = g / sqrt(V)                               p <- p - max(eps2, RMS(p)) rho U / max(1, RMS(U) / d)

    Shazeer & Stern 2018, Algorithms 4 and 5 (arXiv:1804.04235); lr is the largest rho, 0.01 there. Rows and columns
    are the last two dimensions; tensors with fewer keep V whole. `relative_step=False` takes rho = lr,
    `scale_parameter=False` leaves RMS(p) out, `beta1` averages the displacements (as the authors' code does).

    form="torch" is torch.optim.Adafactor: eps1 is no part of R and C but a bound, mean(R) >= eps1 and
    sqrt(V) >= eps1. eps1 = none is 1e-30 in the paper's form, and the precision of the weights' type in torch's.
    """

    beta2_decay: float = -0.8
    eps1: float | None = None
    eps2: float = 1e-3
    d: float = 1.0
    beta1: float | None = None
    relative_step: bool = True
    scale_parameter: bool = True
    form: str = "paper"

    ranges = {
        "beta2_decay": "(-inf, 0]", "eps1": "(0, inf)", "eps2": "[0, inf)", "d": "(0, inf)", "beta1": "[0, 1)",
    }  # fmt: skip
    choices = {"form": ("paper", "torch")}
    scope = "tensor"
    default_lr = 1e-2
    space = {"lr": Dimension(1e-4, 1)}

    @property
    def applies_lr(self) -> bool:
        return True

    def init(self, p: Tensor) -> State:
        factored = {"r": zeros_like(p[..., :1]), "c": zeros_like(p[..., :1, :])} if p.ndim > 1 else {"v": zeros_like(p)}
        return factored | ({} if self.beta1 is None else {"m": zeros_like(p)})

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        root, new = self._root(g, t, state)
        u = g / root
        rho = choose(state["lr"] * t**0.5 < 1, state["lr"], t**-0.5) if self.relative_step else state["lr"]
        if self.scale_parameter:
            rho = rho * rms(p).clamp(min=self.eps2)
        u = rho / (rms(u) / self.d).clamp(min=1.0) * u
        if self.beta1 is not None:
            u = new["m"] = self.beta1 * state["m"] + (1 - self.beta1) * u
        return u, new

    def _root(self, g: Tensor, t: Any, state: State) -> tuple[Tensor, State]:
        """The root of the second moment, and what is kept of it."""
        exact = self.form == "paper"
        eps1 = self.eps1 if self.eps1 is not None else 1e-30 if exact else finfo(g.dtype).eps
        fresh, square = t**self.beta2_decay, g * g + (eps1 if exact else 0.0)
        if g.ndim < 2:
            v = (1 - fresh) * state["v"] + fresh * square
            return v.sqrt() if exact else v.sqrt().clamp(min=eps1), {"v": v}
        r = (1 - fresh) * state["r"] + fresh * square.mean(dim=-1, keepdim=True)
        c = (1 - fresh) * state["c"] + fresh * square.mean(dim=-2, keepdim=True)
        mean = r.mean(dim=-2, keepdim=True)
        if exact:
            return (r / mean).sqrt() * c.sqrt(), {"r": r, "c": c}
        return (r / mean.clamp(min=eps1) * c).sqrt().clamp(min=eps1), {"r": r, "c": c}
