"""Gauss-Newton and Levenberg-Marquardt for residuals."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ravine.solvers.base import Direction, Memory, Model, Point, Problem
from ravine.solvers.quadratic_model import SpectralModel


@dataclass(frozen=True)
class GaussNewton(Direction):
    """d = -(J'J + damping I)^-1 J'r for f = |r|^2 / 2 with residuals r (m,) and their Jacobian J (m, n).

    Nocedal & Wright 2006, eq. 10.23; with search="trust_region" it is Levenberg's and Marquardt's method (More 1978;
    sec. 10.3): the damping is what keeps the step inside the region. J'J is never formed: J = U S V' is. The functions
    of `minimize` that it takes return r. A step takes min(m, n) products.
    """

    search: str = "trust_region"
    damping: float = 0.0
    ranges: ClassVar = {"damping": "[0, inf)"}
    needs: ClassVar = frozenset({"residuals"})
    dense: ClassVar[bool] = True
    regions: ClassVar[bool] = True

    def model(self, point: Point, memory: Memory, problem: Problem) -> Model:
        r, J = problem.jacobian(point)
        U, S, Vt = torch.linalg.svd(J, full_matrices=False)
        return SpectralModel(S * S + self.damping, S * (U.T @ r), Vt.T)

    def direction(self, point: Point, memory: Memory, problem: Problem) -> Tensor:
        r, J = problem.jacobian(point)
        U, S, Vt = torch.linalg.svd(J, full_matrices=False)
        least = torch.finfo(S.dtype).eps * max(J.shape) * float(S[0])
        inverse = torch.where(least < S, S / (S * S + self.damping), 0.0)
        d: Tensor = (Vt.T @ (inverse * (U.T @ r))).neg_()
        return d
