"""Lookahead: slow weights that follow where fast ones lead."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ravine.core.rule import Rule, State, choose
from ravine.core.space import Dimension


@dataclass(frozen=True)
class Lookahead(Rule):
    """k steps of any rule from the slow weights, which then go a share of the way, and the fast weights with them.

        theta <- theta - step                      at every step
        phi   <- phi + alpha (theta - phi)         at every k-th, and theta <- phi

    Zhang, Lucas, Hinton & Ba 2019, Algorithm 1 (arXiv:1907.08610), with its k = 5 and alpha = 0.5; the rule's own state
    is kept over the k-th step. Gradients are taken at theta, where the parameters rest; what counts is phi, as there,
    which `Optimizer.swapped()` shows.
    """

    alpha: float = 0.5
    k: int = 5

    ranges = {"alpha": "(0, 1]", "k": "[1, inf)"}
    wraps = True
    takes_displacement = True
    space = {"alpha": Dimension(0.2, 0.9, points=17)}

    @property
    def judges_elsewhere(self) -> bool:
        return True

    def init(self, p: Tensor) -> State:
        return {"phi": p.clone()}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        ahead = p - g
        share = choose(t % self.k < 0.5, self.alpha, 0.0 * self.alpha)
        phi = state["phi"] + share * (ahead - state["phi"])
        return choose(t % self.k < 0.5, p - phi, g), {"phi": phi}

    def judged(self, p: Tensor, **state: Tensor) -> Tensor:
        return state["phi"]
