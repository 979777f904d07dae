"""Saddle-free Newton."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ravine.curvature.lanczos import Basis
from ravine.solvers.base import Memory, Point, Problem, refuse_dense
from ravine.solvers.newton import Curved, downhill, symmetric


@dataclass(frozen=True)
class SaddleFree(Curved):
    """d = -(|H| + damping I)^-1 g, |H| = Q |L| Q' (Dauphin et al. 2014, arXiv 1406.2572, sec. 4, algorithm 1).

    subspace: 0 takes the whole Hessian, n products a step. k > 0 takes |H| on the Krylov space of k vectors that
    Lanczos's method makes from g, k products a step; g lies in it. |eigenvalues| below 1e-8 of the largest count as
    that. The paper's krylov method adds the last step to the space and damps by a list of values in turn; ours takes
    the length from the search. Where H is zero to rounding, or no step along d is found, d is -g / |g|.
    """

    damping: float = 0.0
    subspace: int = 0
    ranges: ClassVar = {"damping": "[0, inf)", "subspace": "[0, inf)"}
    needs: ClassVar = frozenset({"product"})
    instead: ClassVar[str] = "saddle_free(subspace=50)"

    def check_size(self, n: int) -> None:
        if not self.subspace:
            refuse_dense(self.name, n, self.instead)

    def direction(self, point: Point, memory: Memory, problem: Problem) -> Tensor:
        g = point.gradient
        norm = float(g.norm())
        if not norm:
            return torch.zeros_like(g)
        if memory.pop("straight", False):
            return downhill(g)
        if not self.subspace:
            values, Q = torch.linalg.eigh(symmetric(problem, point))
            if self.straight(float(values.abs().max()) + self.damping, point, memory):
                return downhill(g)
            d: Tensor = (Q @ ((Q.T @ g) / self._absolute(values))).neg_()
            return d
        basis = Basis(problem.hessian(point), g / norm)
        basis.extend(self.subspace)
        values, turned = torch.linalg.eigh(basis.tridiagonal)
        if self.straight(float(values.abs().max()) + self.damping, point, memory):
            return downhill(g)
        inner = turned @ (turned[0] * norm / self._absolute(values))
        return torch.neg(basis.vectors @ inner.to(g))

    def _absolute(self, values: Tensor) -> Tensor:
        size = values.abs()
        return size.clamp(min=max(1e-8 * float(size.max()), 1e-300)) + self.damping
