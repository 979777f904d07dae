"""Newton's method with the whole Hessian."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.solvers.base import Direction, Memory, Model, Moved, Point, Problem
from ravine.solvers.first_length import as_before
from ravine.solvers.quadratic_model import SpectralModel


class Curved(Direction, register=False):
    """What solvers by the Hessian's eigenvalues or factors share: where it tells nothing, a step goes along -g."""

    def straight(self, size: float, point: Point, memory: Memory) -> bool:
        """Whether to go along -g, where the Hessian has this size: it is zero to rounding, or its step led nowhere.

        It is zero to rounding where its step is longer than max(|x|, 1) / eps^2: the gradient would be the same there.
        """
        reach, eps = max(float(point.x.norm()), 1.0), torch.finfo(point.x.dtype).eps
        memory["flat"] = size * reach <= eps * eps * float(point.gradient.norm())
        return bool(memory["flat"])

    def first(self, point: Point, d: Tensor, memory: Memory) -> float:
        return as_before(point.value, float(point.gradient @ d), memory)

    def learn(self, memory: Memory, before: Point, after: Point, d: Tensor, alpha: float) -> None:
        memory["value"] = before.value

    def forget(self, memory: Memory) -> bool:
        if memory.get("flat") or memory.get("straight"):  # it was along -g already
            return False
        memory["straight"] = True
        return True

    def step(self, problem: Problem, point: Point, memory: Memory) -> Moved:
        moved = super().step(problem, point, memory)
        if not (moved.reason and memory.get("flat")):
            return moved
        return Moved(moved.point, f"{moved.reason}; the Hessian is zero to rounding here, so that it went along -g")


@dataclass(frozen=True)
class Newton(Curved):
    """d = -(H + damping I)^-1 g (the chapter's 8.27 and 8.28), with H changed where it is not positive definite.

    modify: "shift" adds tau I, the first of a doubling row with which Cholesky's factorization exists (Nocedal &
    Wright 2006, algorithm 3.3); "eigenvalues" lifts those below delta = 1e-8 of the largest to delta (eq. 3.40);
    "cholesky" changes the pivots of L D L' as Gill & Murray do (algorithm 6.5 of the first edition); "none" leaves H as
    it is: each step then goes for the nearest point where the gradient is zero, a saddle if there is one. Where H is
    zero to rounding, or no step along d is found, -g / |g| takes the place of d, but for "none".
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
        g = point.gradient
        if memory.pop("straight", False):
            return downhill(g)
        H = symmetric(problem, point)
        if self.damping:
            H.diagonal().add_(self.damping)
        if self.modify == "none":
            return -_solved(H, g)
        if self.straight(float(H.norm()), point, memory):
            return downhill(g)
        if self.modify == "eigenvalues":
            values, Q = torch.linalg.eigh(H)
            least = 1e-8 * max(float(values.abs().max()), 1e-300)
            d: Tensor = (Q @ ((Q.T @ g) / values.clamp(min=least))).neg_()
            return d
        L = _shifted(H) if self.modify == "shift" else _modified(H)
        return torch.neg(torch.cholesky_solve(g[:, None], L)[:, 0])

    def forget(self, memory: Memory) -> bool:
        return self.modify != "none" and super().forget(memory)

    def model(self, point: Point, memory: Memory, problem: Problem) -> Model:
        H = symmetric(problem, point)
        values, Q = torch.linalg.eigh(H)
        return SpectralModel(values + self.damping, Q.T @ point.gradient, Q)


def downhill(g: Tensor) -> Tensor:
    """-g / |g|."""
    return torch.neg(g / g.norm())


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
