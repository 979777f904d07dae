"""Gradient accumulation: one step from the mean of several batches' gradients."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State


@dataclass(frozen=True)
class Accumulate(Rule):
    """Every call of `step` gathers the gradient; every k-th moves, by the rule behind, from their mean.

        u = (g_1 + ... + g_k) / k

    For batches that do not fit into memory: call `step` after each small one, with `zero_grad` as ever. Between the
    k-th calls nothing moves, and neither steps nor schedules count. It stands first: accumulate(k=4) + adamw, or
    accumulate(adamw, k=4). Rules that take products of the Hessian take them of the k-th batch alone.
    """

    k: int = 4

    ranges = {"k": "[1, inf)"}
    wraps = True
    leads = True

    @property
    def collects(self) -> int:
        return self.k

    def init(self, p: Tensor) -> State:
        return {"total": zeros_like(p)}

    def collect(self, g: Tensor, **state: Any) -> State:
        return {"total": state["total"] + g}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        return (state["total"] + g) / self.k, {"total": 0 * state["total"]}
