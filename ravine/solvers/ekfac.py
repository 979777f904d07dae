"""E-KFAC as a solver."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ravine.curvature.ekfac import squares
from ravine.solvers.layerwise import Layerwise, State


@dataclass(frozen=True)
class EKFAC(Layerwise):
    """K-FAC's eigenbasis with the values that fit it best: d = -Q (S + λ)⁻¹ Qᵀ g in each layer.

    George, Laurent, Bouthillier, Ballas & Vincent 2018, arXiv 1806.03884, algorithm 1: S is a decaying average of the
    squares of the examples' gradients in the basis, brought up to date with the factors, where K-FAC's own values are
    as old as the basis. When the basis is made anew, each `refresh`th step, S begins at those. All else is as in
    `kfac`.
    """

    def observe(self, state: State, inputs: list[Tensor], gradients: list[list[Tensor]], weight: float) -> None:
        if "QA" not in state or len({len(a) for a in inputs}) != 1:
            return
        a = torch.cat([part @ state["QA"] for part in inputs], 1)
        found = torch.zeros_like(state["S"])
        for parts in gradients:
            found += squares(torch.cat([g @ state["QG"] for g in parts], 1), a)
        state["S"].lerp_(found, max(weight, 1 - self.decay))

    def renew(self, state: State, damping: float, place: Tensor) -> None:
        (a, state["QA"]), (g, state["QG"]) = torch.linalg.eigh(state["A"]), torch.linalg.eigh(state["G"])
        state["S"] = g.clamp(min=0)[:, None] * a.clamp(min=0)

    def through(self, state: State, v: Tensor, damping: float) -> Tensor:
        QA, QG = state["QA"], state["QG"]
        made: Tensor = QG @ (QG.T @ v @ QA / (state["S"] + damping)) @ QA.T
        return made
