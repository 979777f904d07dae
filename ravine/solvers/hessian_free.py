"""Hessian-free optimization."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.core.space import Dimension
from ravine.curvature.counted import Counted
from ravine.curvature.ekfac import squares
from ravine.curvature.krylov import System, cg
from ravine.solvers.base import Memory, Moved, Point, Problem
from ravine.solvers.outputs import OutputDirection, OutputsProblem, at, seen

_APART = 1.3  # iterates of CG are kept at the powers of it
_TRIES, _SHRINK, _FALL = 60, 0.8, 1e-2  # of the search along the step


@dataclass(frozen=True)
class HessianFree(OutputDirection):
    """d is where CG on (G + λ I) d = -g has come, G the Gauss-Newton matrix of the batch, when it gains little more.

    Martens 2010, "Deep learning via Hessian-free optimization", algorithm 2. CG begins at `decay` times the last d
    (section 4.5; .95 in the author's program), preconditioned by (mean of the squares of the examples' gradients
    + λ)^.75 (section 4.7), and ends at iterate i when the model φ has fallen by less than k `gain` of itself over the
    last k = max(10, i / 10) (section 4.4), or after `most` products. Of the iterates at powers of 1.3 the last is
    taken that has a lower loss than the one before it (section 4.6). λ, from `damping` on, is multiplied by 2/3 where
    the model without λ foretold the loss well (ρ > 3/4) and by 3/2 where not (ρ < 1/4; section 4.1). Then the step
    shrinks by .8 until the loss falls by 1 % of what its slope says.

    Where that does not happen in 60 trials, or rounding hides what is foretold, nothing moves, λ stays and `reason`
    says why.

    share: the part of the batch on which G is multiplied. structural: λ times it weighs changes of the hidden states,
    given by hidden= (Martens & Sutskever 2011, section 3.2, with squared error). Half of lr is half of the step.
    """

    damping: float = 45.0
    decay: float = 0.95
    gain: float = 5e-4
    most: int = 250
    share: float = 1.0
    structural: float = 0.0

    ranges: ClassVar = {
        "damping": "(0, inf)", "decay": "[0, 1]", "gain": "(0, 1)", "most": "[1, inf)", "share": "(0, 1]",
        "structural": "[0, inf)",
    }  # fmt: skip
    space: ClassVar = {"damping": Dimension(1e-2, 1e3)}

    def check_problem(self, problem: Problem) -> None:
        super().check_problem(problem)
        if self.structural and seen(problem, self.name).hidden is None:
            raise RavineError("structural damping looks at hidden states: give hidden=, a function of model and batch")

    def step(self, problem: Problem, point: Point, memory: Memory) -> Moved:
        """One step: CG, the best of its iterates, damping, and a search along it."""
        problem, point = seen(problem, self.name), at(problem, point)
        part, damping, g = problem.share(self.share), memory.setdefault("damping", float(self.damping)), point.gradient
        G = problem.gauss_newton(part, damping * self.structural)
        weights = (_mean_of_squares(problem, part) + damping) ** 0.75
        iterates = self._solved(G.shifted(damping), g, weights, self.decay * memory.get("last", torch.zeros_like(g)))
        memory["last"] = iterates[-1]
        value, d = _best(problem, point, iterates)
        foreseen = float(g @ d) + 0.5 * float(d @ (G @ d))
        if max(abs(value - point.value), abs(foreseen)) <= 4 * torch.finfo(problem.dtype).eps * abs(point.value):
            told = f"the foretold fall of {abs(foreseen):.2g} is within the rounding of the loss {point.value:.4g}"
            return Moved(point, f"{told}; the damping stays")
        rho = (value - point.value) / foreseen if foreseen < 0 else -math.inf
        memory["damping"] = damping * (2 / 3 if rho > 0.75 else 1.5 if not rho >= 0.25 else 1.0)
        moved = self._along(problem, point, d, value, float(memory.get("lr", 1.0)))
        if not moved.reason:
            return moved
        if math.isfinite(value):  # not one of 60 lengths helps: it is not the damping, but rounding that hides the fall
            memory["damping"] = damping
        return Moved(point, f"{moved.reason}; the damping is now {memory['damping']:.3g}")

    def _solved(self, B: Operator, g: Tensor, weights: Tensor, start: Tensor) -> list[Tensor]:
        """Iterates of CG on B d = -g, the last among them."""
        b = -g - B @ start if bool(start.any()) else -g
        system = System(Counted(B, 0), 0.0, lambda r: r / weights)
        # φ = ½ dᵀ B d + gᵀ d; what CG adds to the start is B-orthogonal to what is left, so that φ falls by ½ bᵀ y.
        before = -0.5 * float(start @ (b - g))
        kept, falls, due = [start], [before], 1
        x = torch.zeros_like(g)
        if not bool(b.any()):
            return [start]
        for i, (x, left) in enumerate(cg(system, b), 1):
            falls.append(before - 0.5 * float(b @ x))
            if i >= due:
                kept.append(start + x)
                due = math.ceil(max(i + 1, due * _APART))
            k = max(10, i // 10)
            settled = i > k and falls[i] < 0 and falls[i - k] - falls[i] < -k * self.gain * falls[i]
            if settled or not left or i >= self.most:
                break
        last = start + x
        return kept[1:] if len(kept) > 1 and torch.equal(kept[-1], last) else [*kept[1:], last]

    def _along(self, problem: OutputsProblem, point: Point, d: Tensor, value: float, lr: float) -> Moved:
        slope, alpha = float(point.gradient @ d), lr
        if not slope < 0:
            return Moved(point, "the step of conjugate gradients does not point downhill")
        for _ in range(_TRIES):
            x = torch.add(point.x, d, alpha=alpha)
            if (value if alpha == 1 else problem.value(x)) <= point.value + _FALL * alpha * slope:
                return Moved(Point(x, math.nan, point.gradient))
            alpha *= _SHRINK
        return Moved(point, f"no step down to a length of {alpha:.2g} lowered the loss enough")


def _best(problem: OutputsProblem, point: Point, iterates: list[Tensor]) -> tuple[float, Tensor]:
    """From the last iterate back, as long as the loss gets lower."""
    value, d = problem.value(point.x + iterates[-1]), iterates[-1]
    for earlier in reversed(iterates[:-1]):
        found = problem.value(point.x + earlier)
        if not found < value:
            break
        value, d = found, earlier
    return value, d


def _mean_of_squares(problem: OutputsProblem, part: Any) -> Tensor:
    """The mean of the squares of the examples' gradients; of parameters in no layer an unbiased estimate of it."""
    one, passes = problem.passed(part, empirical=True), problem.passes(part)
    found = torch.zeros(problem.size, dtype=problem.dtype, device=problem.device)
    with torch.no_grad():
        for parts in list(one.gradients):
            for name, layer in passes.layers.items():
                a, g = torch.cat(one.inputs[name], 1), torch.cat(parts[name], 1)
                found[layer.place] = squares(g, a)
    if passes.left_out:
        other, start = problem.diagonal(one), 0
        for name in passes.left_out:
            where = passes.problem.slices[name]
            found[where] = other[start : start + where.stop - where.start]
            start += where.stop - where.start
    return found
