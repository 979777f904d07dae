"""A region in which the quadratic model is trusted."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ravine.solvers.base import Found, Memory, Model, Point, Problem, Search


@dataclass(frozen=True)
class TrustRegion(Search):
    """p minimizes the model inside |p| <= radius; the radius follows how well the model foretold the fall.

    Nocedal & Wright 2006, algorithm 4.1: rho = fall / foretold; below 1/4 the radius shrinks to |p| / 4, above 3/4 at
    the edge it doubles, and a step is taken where rho > eta. radius: the first, and `widest` the largest. Where no step
    is found, the next search begins at the radius of the last one that was.
    """

    radius: float = 1.0
    widest: float = 1e20
    eta: float = 0.1
    most: int = 60
    ranges: ClassVar = {"radius": "(0, inf)", "widest": "(0, inf)", "eta": "[0, 0.25)", "most": "[1, inf)"}
    region: ClassVar[bool] = True

    def inside(self, model: Model, problem: Problem, point: Point, memory: Memory) -> Found:
        radius = min(float(memory.get("radius", self.radius)), self.widest)
        eps = torch.finfo(point.x.dtype).eps
        rounding, shortest = 4 * eps * abs(point.value), eps * float(point.x.norm())
        for _ in range(self.most):
            p, foretold = model.within(radius)
            length = float(p.norm())
            if not foretold > 0 or not length:
                return Found(0.0, point, "the model falls nowhere from here")
            trial = problem.evaluate(point.x + p)
            fall = point.value - trial.value
            doubtful = foretold <= rounding and abs(fall) <= rounding
            if doubtful:  # believe the gradient
                rho = 1.0 if float(trial.gradient.norm()) < float(point.gradient.norm()) else 0.0
            else:
                rho = fall / foretold
            out = rho > 0.75 and length > 0.99 * radius
            if rho < 0.25:
                radius = 0.25 * length
            elif out:
                radius = min(2 * radius, self.widest)
            if rho > self.eta:
                memory["radius"] = radius
                return Found(1.0, trial, falling=out and radius >= self.widest)
            if doubtful:
                return Found(0.0, point, "the fall that the model foretells is less than the rounding of values")
            if radius <= shortest:
                break
        return Found(0.0, point, f"no step lowers the loss as the model foretells, down to a length of {radius:.2g}")
