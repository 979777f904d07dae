"""Truncated Newton: the Newton equation solved by conjugate gradients, as far as it is worth it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ravine.core.operator import Operator
from ravine.curvature.counted import Counted
from ravine.curvature.krylov import System, cg
from ravine.solvers.base import Direction, Memory, Model, Point, Problem, as_before


@dataclass(frozen=True)
class NewtonCG(Direction):
    """H d = -g by conjugate gradients from 0, until |H d + g| <= min(forcing, sqrt|g|) |g|, or negative curvature.

    With a line search, Nocedal & Wright 2006, algorithm 7.1: where the first direction has negative curvature d = -g,
    where a later one has, d is what was reached. search="trust_region" is Steihaug's (algorithm 7.2): it goes along
    negative curvature to the edge. most: products a step at most; n unless given.
    """

    forcing: float = 0.2
    most: int | None = None
    ranges: ClassVar = {"forcing": "(0, 1)", "most": "[1, inf)"}
    needs: ClassVar = frozenset({"product"})
    regions: ClassVar[bool] = True

    def direction(self, point: Point, memory: Memory, problem: Problem) -> Tensor:
        return self.model(point, memory, problem).end()

    def first(self, point: Point, d: Tensor, memory: Memory) -> float:
        return as_before(point, d, memory)

    def learn(self, memory: Memory, before: Point, after: Point, d: Tensor, alpha: float) -> None:
        memory["value"] = before.value

    def model(self, point: Point, memory: Memory, problem: Problem) -> "Path":
        norm = float(point.gradient.norm())
        tol = min(self.forcing, norm**0.5) * norm
        return Path(problem.hessian(point), point.gradient, tol, self.most or problem.size)


class Path(Model):
    """The iterates of conjugate gradients on H p = -g, each longer and lower on the model than the one before.

    A path is walked once: a smaller radius cuts it shorter. negative: where it met negative curvature, the direction.
    """

    def __init__(self, H: Operator, g: Tensor, tol: float, most: int) -> None:
        self.g, self.tol, self.most = g, tol, most
        self.system = System(Counted(H, 0), 0.0, lambda r: r)
        self.iterates = [torch.zeros_like(g)]
        self._steps = cg(self.system, -g)
        self._ended = False

    def walk(self) -> bool:
        """One iterate further; whether there was one."""
        if self._ended:
            return False
        found = next(self._steps, None)
        if found is None:
            self._ended = True
            return False
        x, left = found
        self.iterates.append(x)
        self._ended = left <= self.tol or len(self.iterates) > self.most
        return True

    @property
    def negative(self) -> Tensor | None:
        d = self.system.negative
        return d if d is None or float(d @ self.g) <= 0 else -d

    def end(self) -> Tensor:
        """The last iterate; where there is none, -g at the length that the size of its curvature tells."""
        while self.walk():
            del self.iterates[:-1]
        if bool(self.iterates[-1].any()):
            return self.iterates[-1]
        return self.g * (-1.0 / abs(self.system.curvature or 1.0))

    def within(self, radius: float) -> tuple[Tensor, float]:
        p = self._cut(radius)
        return p, -float(self.g @ p) - 0.5 * float(p @ (self.system.A @ p))

    def _cut(self, radius: float) -> Tensor:
        i = 1
        while i < len(self.iterates) or self.walk():
            x = self.iterates[i]
            if float(x.norm()) >= radius:
                return _edge(self.iterates[i - 1], x - self.iterates[i - 1], radius)
            i += 1
        if self.negative is not None:
            return _edge(self.iterates[-1], self.negative, radius)
        return self.iterates[-1]


def _edge(start: Tensor, d: Tensor, radius: float) -> Tensor:
    """start + t d, t >= 0, of length `radius`."""
    a, b, c = float(d @ d), float(start @ d), float(start @ start) - radius * radius
    root = max(b * b - a * c, 0.0) ** 0.5
    t = (root - b) / a if b <= 0 else -c / (root + b)
    return torch.add(start, d, alpha=t)
