"""Saddle-free Newton."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ravine.curvature.lanczos import Basis
from ravine.solvers.base import Direction, Memory, Point, Problem, as_before, refuse_dense
from ravine.solvers.newton import symmetric


@dataclass(frozen=True)
class SaddleFree(Direction):
    """d = -(|H| + damping I)^-1 g, |H| = Q |L| Q' (Dauphin et al. 2014, arXiv 1406.2572, sec. 4, algorithm 1).

    subspace: 0 takes the whole Hessian, n products a step. k > 0 takes |H| on the Krylov space of k vectors that
    Lanczos's method makes from g, k products a step; g lies in it. |eigenvalues| below 1e-8 of the largest count as
    that. The paper's krylov method adds the last step to the space and damps by a list of values in turn; ours takes
    the length from the search.
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
        if not self.subspace:
            values, Q = torch.linalg.eigh(symmetric(problem, point))
            d: Tensor = (Q @ ((Q.T @ g) / self._absolute(values))).neg_()
            return d
        norm = float(g.norm())
        if not norm:
            return torch.zeros_like(g)
        basis = Basis(problem.hessian(point), g / norm)
        basis.extend(self.subspace)
        values, turned = torch.linalg.eigh(basis.tridiagonal)
        inner = turned @ (turned[0] * norm / self._absolute(values))
        return torch.neg(basis.vectors @ inner.to(g))

    def first(self, point: Point, d: Tensor, memory: Memory) -> float:
        return as_before(point, d, memory)

    def learn(self, memory: Memory, before: Point, after: Point, d: Tensor, alpha: float) -> None:
        memory["value"] = before.value

    def _absolute(self, values: Tensor) -> Tensor:
        size = values.abs()
        return size.clamp(min=max(1e-8 * float(size.max()), 1e-300)) + self.damping
