"""Levenberg and Marquardt's method on a network's outputs."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from ravine.core.space import Dimension
from ravine.curvature.solve import solve
from ravine.solvers.base import Memory, Moved, Point, Problem
from ravine.solvers.outputs import OutputDirection, at, seen


@dataclass(frozen=True)
class LevenbergMarquardt(OutputDirection):
    """(G + λ I) d = -g, G the Gauss-Newton matrix of the batch: tried, and taken where the loss falls.

    Levenberg 1944 and Marquardt 1963 for a criterion of any kind in the place of squares (Schraudolph 2002). The
    equation is solved by conjugate gradients to a residual of `tol` |g|, in `most` products at most. With
    ρ = (f(x) - f(x + d)) / (½ dᵀ(λ d - g)), λ is multiplied by max(1/3, 1 - (2ρ - 1)³) where ρ > 0, and by 2, 4, 8, ...
    where it is not and d is tried anew, `tries` times at most (Madsen, Nielsen & Tingleff 2004, eq. 2.21). With
    residuals of a plain function use `gauss_newton`, which has them whole. lr scales the step.
    """

    damping: float = 1.0
    tol: float = 0.1
    most: int = 100
    tries: int = 8

    ranges: ClassVar = {"damping": "(0, inf)", "tol": "(0, 1)", "most": "[2, inf)", "tries": "[1, inf)"}
    space: ClassVar = {"damping": Dimension(1e-3, 1e2)}

    def step(self, problem: Problem, point: Point, memory: Memory) -> Moved:
        """One step: the damping grows until the loss falls."""
        problem, point = seen(problem, self.name), at(problem, point)
        damping, growth, g = memory.setdefault("damping", float(self.damping)), 2.0, point.gradient
        G, lr = problem.gauss_newton(problem.batch), float(memory.get("lr", 1.0))
        for _ in range(self.tries):
            d = solve(G, -g, shift=damping, method="cg", tol=self.tol, most=self.most).value
            foreseen = 0.5 * float(d @ (damping * d - g))
            after = torch.add(point.x, d, alpha=lr)
            rho = (point.value - problem.value(after)) / foreseen if foreseen > 0 else -math.inf
            if rho > 0:
                memory["damping"] = damping * max(1 / 3, 1 - (2 * rho - 1) ** 3)
                return Moved(Point(after, math.nan, g))
            damping, growth = damping * growth, 2 * growth
            memory["damping"] = damping
        return Moved(point, f"the loss did not fall in {self.tries} tries; the damping has grown to {damping:.3g}")
