"""What K-FAC and E-KFAC share: statistics of layers on the way, a step fitted to the exact curvature, and damping."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ravine.core.space import Dimension
from ravine.curvature.kfac import moments
from ravine.curvature.passes import Pass, Passes
from ravine.solvers.base import Memory, Moved, Point, Problem
from ravine.solvers.outputs import OutputDirection, OutputsProblem, at, seen

State = dict[str, Any]


@dataclass(frozen=True)
class Layerwise(OutputDirection, register=False):
    """A solver whose curvature is a block for each layer. What is said of the parts stands at `KFAC`."""

    damping: float = 1.0
    least: float = 0.03
    momentum: bool = True
    share: float = 0.25
    every: int = 1
    refresh: int = 20
    adapt: int = 5
    decay: float = 0.95

    instead: ClassVar[str] = "lbfgs"
    ranges: ClassVar = {
        "damping": "(0, inf)", "least": "(0, inf)", "share": "(0, 1]", "every": "[1, inf)", "refresh": "[1, inf)",
        "adapt": "[0, inf)", "decay": "[0, 1)",
    }  # fmt: skip
    space: ClassVar = {"lr": Dimension(0.03, 1.0), "damping": Dimension(0.1, 1e3)}

    def step(self, problem: Problem, point: Point, memory: Memory) -> Moved:
        """One step: statistics, inverses where they are due, the step that fits best, damping where it is due."""
        problem, point = seen(problem, self.name), at(problem, point)
        if (earlier := self.back(problem, point.x, point.value, memory)) is not None:
            return Moved(*earlier)
        memory["value"] = point.value
        part = problem.share(self.share)
        memory["steps"] = steps = memory.get("steps", 0) + 1
        memory.setdefault("damping", float(self.damping))
        damping = memory["damping"]
        if (steps - 1) % self.every == 0:
            self._observe(problem, part, memory)
        if steps <= 3 or steps % self.refresh == 0 or memory.pop("stale", False):
            for name, state in memory["layers"].items():
                self.renew(state, damping, problem.passes(part).layers[name].place)
        d, g = -self._natural(point.gradient, memory, problem.passes(part)), point.gradient
        candidates = [d, memory["last"]] if self.momentum and "last" in memory else [d]
        delta, along = _fitted(candidates, g, problem.inner_products(candidates, part), damping)
        lr = float(memory.get("lr", 1.0))
        after = torch.add(point.x, delta, alpha=lr)
        if not bool(torch.isfinite(after).all()):
            return Moved(point, "the step is not finite: the damping is too small for the statistics' rounding")
        if self.adapt and steps % self.adapt == 0:
            value, foreseen = problem.value(after), (lr - lr * lr / 2) * along
            if _far_off(value, point.value):
                return Moved(Point(point.x, math.nan, g), self._told(point.value, value, memory))
            fell = 1.0 if value <= point.value else -math.inf  # with lr = 2 and more the model foretells no fall
            memory["damping"] = self._adapted(damping, (value - point.value) / foreseen if foreseen < 0 else fell)
        memory["last"], memory["reach"] = delta, lr
        return Moved(Point(after, math.nan, g))

    def back(self, problem: OutputsProblem, x: Tensor, value: float, memory: Memory) -> tuple[Point, str] | None:
        """The place before the last step, where the loss of this batch rose far by it.

        It is looked for where the loss is above twice the one before, which was another batch's perhaps.
        """
        before = memory.get("value")
        if before is None or "last" not in memory or not _far_off(value, before):
            return None
        earlier = torch.sub(x, memory["last"], alpha=memory["reach"])
        found = problem.value(earlier)
        problem.write(x)
        if not (math.isfinite(found) and _far_off(value, found)):
            return None
        memory["value"] = found
        return Point(earlier, found, torch.empty(0)), self._told(found, value, memory)

    def _told(self, before: float, value: float, memory: Memory) -> str:
        """The reason for taking a step back, which is forgotten; the damping is doubled."""
        memory.pop("last", None)
        memory["damping"], memory["stale"] = 2 * memory["damping"], True
        return (
            f"a step raised the loss of the batch from {before:.4g} to {value:.4g} and was taken back; the damping is "
            f"doubled to {memory['damping']:.3g}"
        )

    def _adapted(self, damping: float, rho: float) -> float:
        """Levenberg and Marquardt's rule: less damping where the model foretold the loss well, else more."""
        factor = (19 / 20) ** self.adapt
        changed = damping * factor if rho > 0.75 else damping / factor if not rho >= 0.25 else damping
        return max(changed, min(damping, self.least))

    def _observe(self, problem: OutputsProblem, part: Any, memory: Memory) -> None:
        """Bring the decaying averages up to date with a pass through a part of the batch."""
        one = problem.passed(part)
        passes = problem.passes(part)
        memory["seen"] = count = memory.get("seen", 0) + 1
        weight = 1 - min(1 - 1 / count, self.decay)
        layers: dict[str, State] = memory.setdefault("layers", {name: {} for name in passes.layers})
        with torch.no_grad():
            gradients = list(one.gradients)
            again = Pass(one.size, one.rows, one.inputs, iter(gradients), one.matrix, one.factors, one.values)
            for name, (A, rows, G) in moments(again).items():
                side = len(passes.layers[name].place)
                _average(layers[name], "A", A / rows, weight)
                _average(layers[name], "G", G if isinstance(G, Tensor) else A.new_zeros(side, side), weight)
                self.observe(layers[name], one.inputs[name], [parts[name] for parts in gradients], weight)
        if passes.left_out:
            _average(memory, "small_diagonal", problem.diagonal(one), weight)

    def observe(self, state: State, inputs: list[Tensor], gradients: list[list[Tensor]], weight: float) -> None:
        """Further statistics of a layer: inputs by call, and gradients by factor and call."""

    def renew(self, state: State, damping: float, place: Tensor) -> None:
        """Make of a layer's averages what its steps are made with."""
        raise NotImplementedError

    def through(self, state: State, v: Tensor, damping: float) -> Tensor:
        """A matrix of a layer's weights, through the inverse of its block."""
        raise NotImplementedError

    def _natural(self, g: Tensor, memory: Memory, passes: Passes) -> Tensor:
        """The gradient through the inverse of the blocks, and of a diagonal for parameters in no layer."""
        found, slices, damping = torch.empty_like(g), passes.problem.slices, memory["damping"]
        for name, state in memory["layers"].items():
            layer = passes.layers[name]
            parts = [g[slices[p]].view(len(layer.place), -1) for p in layer.parameters]
            made = self.through(state, parts[0] if len(parts) == 1 else torch.cat(parts, 1), damping)
            columns = [part.shape[1] for part in parts]
            for p, piece in zip(layer.parameters, torch.split(made, columns, 1), strict=True):
                found[slices[p]] = piece.reshape(-1)
        start = 0
        for p in passes.left_out:
            count = slices[p].stop - slices[p].start
            diagonal = memory["small_diagonal"][start : start + count]
            found[slices[p]] = g[slices[p]] / (diagonal + damping)
            start += count
        return found


def _far_off(value: float, before: float) -> bool:
    """Whether a loss is above twice the one before a step, or not finite."""
    return not value <= before + abs(before)


def _average(state: State, key: str, found: Tensor, weight: float) -> None:
    state[key] = found.clone() if key not in state else state[key].lerp_(found, weight)


def _fitted(candidates: list[Tensor], g: Tensor, curved: Tensor, damping: float) -> tuple[Tensor, float]:
    """The combination that the quadratic model likes best, and its slope gᵀδ: the model foretells half of it.

    The model is gᵀδ + ½ δᵀ (F + λ I) δ (Martens & Grosse 2015, section 7).
    """
    rows = torch.stack(candidates)
    matrix = curved.cpu() + damping * (rows @ rows.T).double().cpu()
    slopes = (rows @ g).double().cpu()
    scale = matrix.diagonal().clamp(min=1e-300).rsqrt()  # the last step may be far shorter than the new one
    scaled = scale[:, None] * matrix * scale
    weights = -scale * torch.linalg.lstsq(scaled, (scale * slopes).unsqueeze(1), driver="gelsd").solution[:, 0]
    return weights.to(rows) @ rows, float(weights @ slopes)


