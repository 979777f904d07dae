"""Levenberg and Marquardt's method on a network's outputs."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

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
    residuals of a plain function use `gauss_newton`, which has them whole.

    lr scales the step, and ρ is of the step that is taken: the model foretells a fall of -(lr gᵀd + ½ lr² dᵀG d).
    Where all tries fail λ is only doubled for the next step. Where the fall that is foretold is lost in the rounding of
    the loss, or the step in that of the parameters, the step ends and λ stays. `reason` says so in all three cases.
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
        start = damping = memory.setdefault("damping", float(self.damping))
        growth, g, lr = 2.0, point.gradient, float(memory.get("lr", 1.0))
        G, eps = problem.gauss_newton(problem.batch), torch.finfo(problem.dtype).eps
        for _ in range(self.tries):
            d = solve(G, -g, shift=damping, method="cg", tol=self.tol, most=self.most).value
            after = torch.add(point.x, d, alpha=lr)
            if torch.equal(after, point.x):
                return Moved(point, "the step is lost in the rounding of the parameters; the damping stays")
            foreseen = _foreseen(g, d, damping, lr)
            value = problem.value(after) if foreseen > 0 else math.inf
            fall, rounding = point.value - value, 4 * eps * abs(point.value)
            if max(abs(fall), foreseen) <= rounding:
                told = f"the foretold fall of {foreseen:.2g} is within the rounding of the loss {point.value:.4g}"
                return Moved(point, f"{told}; the damping stays")
            if foreseen > 0 and fall > 0:
                memory["damping"] = damping * max(1 / 3, 1 - (2 * fall / foreseen - 1) ** 3)
                return Moved(Point(after, math.nan, g))
            damping, growth = damping * growth, 2 * growth
        memory["damping"] = 2 * start
        return Moved(point, f"the loss did not fall in {self.tries} tries; the damping is doubled to {2 * start:.3g}")


def _foreseen(g: Tensor, d: Tensor, damping: float, lr: float) -> float:
    """By how much the model falls along lr d: -(lr gᵀd + ½ lr² dᵀG d).

    What conjugate gradients find from 0 has dᵀ(G + λ I) d = -gᵀd, however early they end: no product is needed.
    """
    slope = float(g @ d)
    return -lr * slope + lr * lr / 2 * (slope + damping * float(d @ d))
