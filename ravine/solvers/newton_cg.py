"""Truncated Newton: the Newton equation solved by conjugate gradients, as far as it is worth it."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ravine.core.operator import Operator
from ravine.curvature.counted import Counted
from ravine.curvature.krylov import System, cg
from ravine.solvers.base import Direction, Memory, Model, Point, Problem
from ravine.solvers.first_length import as_before

KEPT = 32  # iterates of a path


@dataclass(frozen=True)
class NewtonCG(Direction):
    """H d = -g by conjugate gradients from 0, until |H d + g| <= min(forcing, sqrt|g|) |g|, or negative curvature.

    With a line search, Nocedal & Wright 2006, algorithm 7.1: where the first direction has negative curvature d = -g,
    where a later one has, d is what was reached. search="trust_region" is Steihaug's (algorithm 7.2): it goes along
    negative curvature, or along none, to the edge. most: products a step at most; unless given, n in a trust region
    and 20 n along a line.
    """

    forcing: float = 0.2
    most: int | None = None
    ranges: ClassVar = {"forcing": "(0, 1)", "most": "[1, inf)"}
    needs: ClassVar = frozenset({"product"})
    regions: ClassVar[bool] = True

    def direction(self, point: Point, memory: Memory, problem: Problem) -> Tensor:
        return self.model(point, memory, problem).end()

    def first(self, point: Point, d: Tensor, memory: Memory) -> float:
        return as_before(point.value, float(point.gradient @ d), memory)

    def learn(self, memory: Memory, before: Point, after: Point, d: Tensor, alpha: float) -> None:
        memory["value"] = before.value

    def model(self, point: Point, memory: Memory, problem: Problem) -> "Path":
        norm = float(point.gradient.norm())
        tol = min(self.forcing, norm**0.5) * norm
        most = self.most or problem.size * (1 if self.searcher.region else 20)
        return Path(problem.hessian(point), point.gradient, tol, most)


class Path(Model):
    """The iterates of conjugate gradients on H p = -g, each longer and lower on the model than the one before.

    A path is walked once: a smaller radius cuts it shorter. Of its iterates 32 are kept at most: beyond that every
    other one is left out, and the path goes straight from one that is left to the next, rising in length and falling
    on the model all the same, since each iterate is the lowest of a space that holds those before it.
    """

    def __init__(self, H: Operator, g: Tensor, tol: float, most: int) -> None:
        self.g, self.most = g, most
        # As numbers around 1, so that squares are none too large or small; a power of two rounds nothing.
        most_bits = 100 if g.dtype == torch.float32 else 900
        self.unit = 2.0 ** min(max(math.frexp(float(g.abs().max()))[1], -most_bits), most_bits)
        self.tol = tol / self.unit
        self.system = System(Counted(H, 0), 0.0, lambda r: r)
        self.iterates = [torch.zeros_like(g)]
        self._steps = cg(self.system, g / -self.unit)
        self._ended, self._walked = False, 0

    def walk(self) -> bool:
        """One iterate further; whether there was one."""
        if self._ended:
            return False
        found = next(self._steps, None)
        if found is None:
            self._ended = True
            return False
        x, left = found
        self.iterates.append(x * self.unit)
        self._walked += 1
        self._ended = left <= self.tol or self._walked >= self.most
        if len(self.iterates) > KEPT:
            del self.iterates[2:-2:2]  # the first step stays, the least that a step must be worth
        return True

    @property
    def down(self) -> Tensor | None:
        """The direction downhill in which it met negative curvature, or none."""
        d = self.system.flat if self.system.negative is None else self.system.negative
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
        for before, x in pairwise(self.iterates):
            if float(x.norm()) >= radius:
                return _edge(before, x - before, radius)
        while self.walk():
            before, x = self.iterates[-2:]
            if float(x.norm()) >= radius:
                return _edge(before, x - before, radius)
        return self.iterates[-1] if self.down is None else _edge(self.iterates[-1], self.down, radius)


def _edge(start: Tensor, d: Tensor, radius: float) -> Tensor:
    """start + t d, t >= 0, of length `radius`."""
    a, b, c = float(d @ d), float(start @ d), float(start @ start) - radius * radius
    root = max(b * b - a * c, 0.0) ** 0.5
    t = (root - b) / a if b <= 0 else -c / (root + b)
    return torch.add(start, d, alpha=t)
