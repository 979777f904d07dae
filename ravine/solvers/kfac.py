"""K-FAC as a solver."""

from dataclasses import dataclass

from torch import Tensor

from ravine.curvature.kronecker import Factors
from ravine.solvers.layerwise import Layerwise, State


@dataclass(frozen=True)
class KFAC(Layerwise):
    """d = -(Ā ⊗ Ḡ)⁻¹ g in each layer, with Ā and Ḡ damped averages of its inputs' and its outputs' gradients' squares.

    Martens & Grosse 2015, arXiv 1503.05671, algorithm 2; convolutions after Grosse & Martens 2016, arXiv 1602.01407.
    Averages decay by min(1 - 1/k, `decay`) (section 5), over targets drawn from the model's own predictions on a
    `share` of the batch, at `every`th step; with no way to draw, of the criterion's exact curvature. Inverses are made
    anew at the first three steps and each `refresh`th, damped by √λ π and √λ / π (section 6.3, with γ = √λ).
    The step is α d + μ δ, δ the last one: the best of the model with the exact Gauss-Newton matrix and λ, on the same
    share (section 7; without `momentum`, α d). Every `adapt`th step λ, from `damping` on, becomes (19/20)^adapt times
    as large or small, as the model's foresight tells (section 6.5), but not below `least`. lr scales the step.

    Unlike in the paper a step is taken back, with a `reason`, and λ doubled, where the loss is above twice the one
    before it. At an `adapt`th step that is asked of its own batch; else of the next one, where that begins with a loss
    above twice the last.

    Layers are Linear, Conv1d and Conv2d. Parameters of others, of grouped convolutions, and weights shared by several
    layers get a diagonal instead: averages of squares of the gradients, and λ. γ is not searched for, nor are iterates
    averaged, and the decay of weights is no part of the model, unlike in the paper.
    """

    def renew(self, state: State, damping: float, place: Tensor) -> None:
        state["left"], state["right"] = Factors(place, state["A"], state["G"]).inverses(damping)

    def through(self, state: State, v: Tensor, damping: float) -> Tensor:
        made: Tensor = state["left"] @ v @ state["right"]
        return made
