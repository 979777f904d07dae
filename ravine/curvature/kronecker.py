"""Curvature as a block for each layer, known by Kronecker factors, with a damped inverse."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.problem import Problem

Map = Callable[[Tensor], Tensor]
"""From matrices of a layer's weights (k, outputs, inputs) to such."""


@dataclass(frozen=True)
class Factors:
    """A layer's block A ⊗ G: the map V -> G V A on matrices of its weights, the bias their last column.

    A: (inputs, inputs), the mean of ā āᵀ over examples and positions. G: (outputs, outputs), the curvature in the
    layer's outputs, summed over positions. place: where in a flat vector each number of the matrix stands.
    """

    place: Tensor
    A: Tensor
    G: Tensor

    def product(self, v: Tensor) -> Tensor:
        """G V A."""
        return self.G @ v @ self.A

    def inverse(self, damping: float) -> Map:
        """V -> (G + √γ / π I)⁻¹ V (A + π √γ I)⁻¹, with π² = (tr A / dim A) / (tr G / dim G).

        Martens & Grosse (2015, sec. 6.3).
        """
        left, right = self.inverses(damping)
        return lambda v: left @ v @ right

    def inverses(self, damping: float) -> tuple[Tensor, Tensor]:
        """(G + √γ / π I)⁻¹ and (A + π √γ I)⁻¹."""
        a, g = float(self.A.diagonal().mean()), float(self.G.diagonal().mean())
        if a <= 0 or g <= 0:  # the block is nothing
            return torch.eye(len(self.G)).to(self.G) / damping, torch.eye(len(self.A)).to(self.A)
        pi, root = math.sqrt(a / g), math.sqrt(damping)
        return _inverted(self.G, root / pi), _inverted(self.A, root * pi)


@dataclass(frozen=True)
class Eigenbasis:
    """A layer's block (Q_A ⊗ Q_G) diag S (Q_A ⊗ Q_G)ᵀ: S (outputs, inputs) holds its values in the factors' basis."""

    place: Tensor
    QA: Tensor
    QG: Tensor
    S: Tensor

    def product(self, v: Tensor) -> Tensor:
        """Q_G (S * (Q_Gᵀ V Q_A)) Q_Aᵀ."""
        return self.QG @ (self.S * (self.QG.T @ v @ self.QA)) @ self.QA.T

    def inverse(self, damping: float) -> Map:
        """The inverse of the block plus γ I, exactly."""
        return lambda v: self.QG @ (self.QG.T @ v @ self.QA / (self.S + damping)) @ self.QA.T


class Kronecker(Operator):
    """An operator made of a block for each layer, and nothing between layers.

    layers: from a module's name to its `Factors` or `Eigenbasis`. left_out: from a parameter's name to the reason why
    it is in no block; there the operator is 0. It is what it was made to be and does not follow the parameters.
    """

    def __init__(
        self, problem: Problem, layers: Mapping[str, Factors | Eigenbasis], left_out: Mapping[str, str]
    ) -> None:
        if not layers:
            told = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:5])
            raise RavineError(f"none of the parameters is in a layer that has Kronecker factors ({told})")
        self.layers, self.left_out = dict(layers), dict(left_out)
        maps = {name: block.product for name, block in self.layers.items()}
        super().__init__(
            problem.size,
            lambda v: self._blockwise(v, maps, torch.zeros_like(v)),
            dtype=problem.dtype,
            device=problem.device,
            slices=problem.slices,
        )

    def inverse(self, damping: float) -> Operator:
        """The inverse of the operator with `damping` γ: of Kronecker factors by the factored Tikhonov damping of
        Martens & Grosse (2015, sec. 6.3), which is not quite that of A + γ I; in an eigenbasis that of A + γ I.

        Parameters that are left out are divided by γ.
        """
        if isinstance(damping, bool) or not isinstance(damping, int | float) or not 0 < damping < math.inf:
            raise RavineError(f"damping must be a number above 0, got {damping!r}")
        maps = {name: block.inverse(float(damping)) for name, block in self.layers.items()}
        return self._made(lambda v: self._blockwise(v, maps, v / damping))

    def _blockwise(self, v: Tensor, maps: Mapping[str, Map], found: Tensor) -> Tensor:
        for name, block in self.layers.items():
            inside = v.T[:, block.place]  # (k, outputs, inputs)
            found[block.place.reshape(-1)] = maps[name](inside).flatten(1).T
        return found


def _inverted(matrix: Tensor, shift: float) -> Tensor:
    """(matrix + shift I)⁻¹ of a positive semi-definite matrix."""
    shifted = matrix.clone()
    shifted.diagonal().add_(shift)
    return torch.cholesky_inverse(torch.linalg.cholesky(shifted))
