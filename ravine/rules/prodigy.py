"""Prodigy: Adam that finds its learning rate by itself."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State, choose
from ravine.core.space import Dimension

_SHARED = ("d", "largest", "r")  # the same numbers for all parameters


@dataclass(frozen=True)
class Prodigy(Rule):
    """Adam's steps times an estimate d of the distance to the solution, one number for all parameters.

        d <- max(d, d_coef r / ||s||_1),   with what the steps before have left in r and s
        m <- beta1 m + (1 - beta1) d g                v <- beta2 v + (1 - beta2) d^2 g^2
        r <- beta3 r + lr d^2 <g, p_0 - p>            s <- beta3 s + lr d^2 g                    beta3 = sqrt(beta2)
        p <- p - lr d (m / (sqrt(v) + d eps) + weight_decay p)

    Mishchenko & Defazio 2023, Algorithm 4 (arXiv:2306.06101); r and the norm are summed over all parameters. lr is a
    factor on what is found: leave it at 1, with a schedule that ends at 0. The options are those of prodigyopt, which
    takes eps times the d of the next step, where the paper and this take that of the present one. `weight_decay` is a
    number of the rule, since it is scaled by d; an L2 penalty is a `Decay` before it. `growth_rate` bounds d(t+1)/d(t);
    `safeguard_warmup` leaves lr out of s. A parameter whose first gradient comes late begins with the others' d.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    beta3: float | None = None
    eps: float = 1e-8
    weight_decay: float = 0.0
    d0: float = 1e-6
    d_coef: float = 1.0
    growth_rate: float = float("inf")
    use_bias_correction: bool = False
    safeguard_warmup: bool = False

    ranges = {
        "beta1": "[0, 1)", "beta2": "[0, 1)", "beta3": "[0, 1)", "eps": "(0, inf)", "weight_decay": "[0, inf)",
        "d0": "(0, inf)", "d_coef": "(0, inf)", "growth_rate": "(1, inf]",
    }  # fmt: skip
    default_lr = 1.0
    space = {"lr": Dimension(0.1, 10), "d_coef": Dimension(0.1, 10, points=17)}

    @property
    def applies_lr(self) -> bool:
        return True

    def init(self, p: Tensor) -> State:
        d = p.new_full((), self.d0, dtype=torch.float64)
        moments = {key: zeros_like(p) for key in ("m", "v", "s")}
        return moments | {"p0": p.clone(), "d": d, "largest": d.clone(), "r": 0 * d}

    def summarize(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> dict[str, Tensor]:
        known = 0 * state["d"] + (t > 1)
        size = state["s"].abs().sum(dtype=torch.float64)
        dot = (g * (state["p0"] - p)).sum(dtype=torch.float64)
        return {"size": size, "dot": dot, "known": known} | {key: known * state[key] for key in _SHARED}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        d, largest, r = self._found(t, state)
        rate = d * state["lr"]
        if self.use_bias_correction:
            rate = rate * (1 - self.beta2**t) ** 0.5 / (1 - self.beta1**t)
        beta3 = self.beta2**0.5 if self.beta3 is None else self.beta3
        m = self.beta1 * state["m"] + (1 - self.beta1) * d * g
        v = self.beta2 * state["v"] + (1 - self.beta2) * d * d * g * g
        # r and s over d0, which leaves their ratio as it is and s far from the smallest float32
        r = beta3 * r + d / self.d0 * rate * state["totals"]["dot"]
        s = beta3 * state["s"] + d / self.d0 * (d if self.safeguard_warmup else rate) * g
        u = rate * (m / (v.sqrt() + d * self.eps)) + rate * self.weight_decay * p
        return u, {"m": m, "v": v, "s": s, "p0": state["p0"], "d": d, "largest": largest, "r": r}

    def _found(self, t: Any, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """d for this step, the largest estimate so far, and r of the step before."""
        totals: Any = state["totals"]
        late = (totals["known"] > 0) & (0 * totals["known"] + t < 2)
        d, largest, r = (torch.where(late, totals[key] / totals["known"], state[key]) for key in _SHARED)
        size = totals["size"]
        estimate = torch.where(size > 0, self.d_coef * r / size, 0 * size)
        d = torch.where(d > self.d0, d, _larger(d, estimate))
        largest = _larger(largest, estimate)
        grown = d * self.growth_rate
        return torch.where(grown < largest, grown, largest), largest, r


def _larger(a: Tensor, b: Tensor) -> Any:
    return choose(a > b, a, b)
