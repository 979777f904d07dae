"""Schedule-free: averaging in place of a schedule."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, maximum

from ravine.core.rule import Rule, State, choose
from ravine.core.space import Dimension


@dataclass(frozen=True)
class ScheduleFree(Rule):
    """Steps from z, gradients at y, and the average x of all z, which is what counts; for any rule without momentum.

        z <- z - lr u(grad f(y))          c = w / (sum of all w so far),  w = t^r lr_max^power
        x <- (1 - c) x + c z              y = (1 - momentum) z + momentum x

    Defazio et al. 2024, "The Road Less Scheduled", eqs. 3-5 and Algorithm 1 (arXiv:2405.15682), with the weights of
    schedulefree 1.4: lr_max is the largest lr so far, so that steps of a warm-up count little. The parameters rest at
    y, where the next gradient is taken; `Optimizer.swapped()` shows x, so there is no mode to switch and forget.

    `schedule_free(sgd)` and `schedule_free_adamw` are the authors' SGDScheduleFree and AdamWScheduleFree: `momentum`
    (their beta) takes the place of the rule's own, and RMSProp, bias-corrected, that of Adam. Use a warm-up and no
    other schedule.
    """

    momentum: float = 0.9
    r: float = 0.0
    power: float = 2.0

    ranges = {"momentum": "(0, 1)", "r": "[0, inf)", "power": "[0, inf)"}
    wraps = True
    takes_displacement = True
    rests_alone = True
    space = {"momentum": Dimension(0.7, 0.99, "log1m", points=9)}

    @property
    def judges_elsewhere(self) -> bool:
        return True

    def init(self, p: Tensor) -> State:
        zero = p.new_zeros((), dtype=torch.float64)
        return {"z": p.clone(), "sum": zero, "largest": zero.clone(), "mu": zero + 1}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        largest = maximum(state["largest"], 0 * state["largest"] + state["lr"])
        weight = t**self.r * largest**self.power
        total = state["sum"] + weight
        c = choose(total > 0, weight / total, 0 * total)
        mu, z = self.momentum, state["z"]
        # x from where y rests, with the momentum that brought it there, which a scheduler may have changed since.
        x_pull = (1 - c) * mu / state["mu"]
        own = (1 - mu) + mu * c - x_pull * (1 - state["mu"])
        y = x_pull * p + own * z - (1 - mu + mu * c) * g
        return p - y, {"z": z - g, "sum": total, "largest": largest, "mu": 0 * state["mu"] + mu}

    def judged(self, p: Tensor, **state: Tensor) -> Tensor:
        return (p - (1 - state["mu"]) * state["z"]) / state["mu"]
