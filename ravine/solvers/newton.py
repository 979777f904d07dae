"""Newton's method with the whole Hessian."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.solvers.base import Direction, Memory, Model, Point, Problem, as_before
from ravine.solvers.quadratic_model import SpectralModel


@dataclass(frozen=True)
class Newton(Direction):
    """d = -(H + damping I)^-1 g (the chapter's 8.27 and 8.28), with H changed where it is not positive definite.

    modify: "shift" adds tau I, the first of a doubling row with which Cholesky's factorization exists (Nocedal &
    Wright 2006, algorithm 3.3); "eigenvalues" lifts those below delta = 1e-8 of the largest to delta (eq. 3.40);
    "cholesky" changes the pivots of L D L' as Gill & Murray do (algorithm 6.5 of the first edition); "none" leaves H as
    it is: each step then goes for the nearest point where the gradient is zero, a saddle if there is one.
    search="trust_region" minimizes the model inside a ball exactly. A step takes n products.
    """

    damping: float = 0.0
    modify: str = "shift"
    choices: ClassVar = {"modify": ("shift", "eigenvalues", "cholesky", "none")}
    ranges: ClassVar = {"damping": "[0, inf)"}
    needs: ClassVar = frozenset({"product"})
    dense: ClassVar[bool] = True
    instead: ClassVar[str] = "newton_cg"
    regions: ClassVar[bool] = True

    def direction(self, point: Point, memory: Memory, problem: Problem) -> Tensor:
        H, g = symmetric(problem, point), point.gradient
        if self.damping:
            H.diagonal().add_(self.damping)
        if self.modify == "eigenvalues":
            values, Q = torch.linalg.eigh(H)
            least = 1e-8 * max(float(values.abs().max()), 1e-300)
            d: Tensor = (Q @ ((Q.T @ g) / values.clamp(min=least))).neg_()
            return d
        if self.modify == "none":
            return -_solved(H, g)
        L = _shifted(H) if self.modify == "shift" else _modified(H)
        return torch.neg(torch.cholesky_solve(g[:, None], L)[:, 0])

    def first(self, point: Point, d: Tensor, memory: Memory) -> float:
        return as_before(point, d, memory)

    def learn(self, memory: Memory, before: Point, after: Point, d: Tensor, alpha: float) -> None:
        memory["value"] = before.value

    def model(self, point: Point, memory: Memory, problem: Problem) -> Model:
        H = symmetric(problem, point)
        values, Q = torch.linalg.eigh(H)
        return SpectralModel(values + self.damping, Q.T @ point.gradient, Q)


def symmetric(problem: Problem, point: Point) -> Tensor:
    """The Hessian as a matrix: n products."""
    H = problem.hessian(point).dense()
    if not torch.isfinite(H).all():
        raise RavineError("the Hessian is not finite here, where the loss and its gradient are: use lbfgs or bfgs")
    return 0.5 * (H + H.T)


def _solved(H: Tensor, g: Tensor) -> Tensor:
    factors, pivots, info = torch.linalg.lu_factor_ex(H)
    pivot = factors.diagonal().abs()
    if int(info) or float(pivot.min()) <= len(g) * torch.finfo(H.dtype).eps * float(pivot.max()):
        raise RavineError(
            "the Hessian is singular here, so Newton's step does not exist: use newton(modify='shift'), "
            "newton(damping=...), or newton(search='trust_region')"
        )
    d: Tensor = torch.linalg.lu_solve(factors, pivots, g[:, None])[:, 0]
    return d


def _shifted(H: Tensor) -> Tensor:
    """The Cholesky factor of H + tau I."""
    beta = 1e-3 * max(float(H.norm()) / len(H) ** 0.5, 1e-300)
    lowest = float(H.diagonal().min())
    tau = 0.0 if lowest > 0 else beta - lowest
    while True:
        shifted = H.clone()
        shifted.diagonal().add_(tau)
        L: Tensor
        L, info = torch.linalg.cholesky_ex(shifted)
        if not int(info):
            return L
        tau = max(2 * tau, beta)


def _modified(H: Tensor) -> Tensor:
    """L with L L' = H + E, E a diagonal that is zero where H is positive definite enough."""
    n, eps = len(H), torch.finfo(H.dtype).eps
    gamma = float(H.diagonal().abs().max())
    xi = float((H - torch.diag(H.diagonal())).abs().max())
    delta = eps * max(gamma + xi, 1.0)
    beta2 = max(gamma, xi / max((n * n - 1) ** 0.5, 1.0), eps)
    rest, L = H.clone(), torch.zeros_like(H)
    for j in range(n):
        column = rest[j:, j].clone()
        theta = float(column[1:].abs().max()) if j + 1 < n else 0.0
        pivot = max(abs(float(column[0])), theta * theta / beta2, delta)
        L[j:, j] = column / pivot**0.5
        L[j, j] = pivot**0.5
        if j + 1 < n:
            rest[j + 1 :, j + 1 :].addr_(column[1:], column[1:], alpha=-1.0 / pivot)
    return L
