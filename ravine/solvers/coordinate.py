"""Block coordinate descent."""

import re
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ravine.core.errors import RavineError, unknown
from ravine.core.operator import Operator
from ravine.curvature.counted import Counted
from ravine.curvature.krylov import System, cg
from ravine.solvers.base import Direction, Line, Memory, Moved, Point, Problem, refuse_dense


@dataclass(frozen=True)
class Coordinate(Direction):
    """One block of numbers after the other moves while the rest is held: a step is one sweep over all blocks.

    Within a block, H d = -g is solved by conjugate gradients on its part of the Hessian, so that where the loss is
    quadratic in the block the search accepts d at once and the block is at its minimum (Nocedal & Wright 2006, sec.
    9.3; the chapter's slide 54). It gets to a minimum where the loss is smooth; at a ridge such as |x - y| it may stop
    elsewhere, whatever the book says (Powell 1973).

    blocks: "number", each by itself; "tensor", a parameter tensor each; "layer", all tensors of a module each; or the
    blocks themselves, separated by ";", each of names of tensors or modules and of slices, separated by ",":
    "0; 2.weight, 2.bias", "0:10; 10:20". They must cover all parameters once. Names need model.named_parameters().
    """

    blocks: str = "number"
    needs: ClassVar = frozenset({"product"})
    instead: ClassVar[str] = "coordinate(blocks='tensor')"

    def check_size(self, n: int) -> None:
        if self.blocks == "number":
            refuse_dense(f"{self.name}(blocks='number')", n, self.instead)

    def check_problem(self, problem: Problem) -> None:
        super().check_problem(problem)
        self.places(problem)

    def places(self, problem: Problem) -> list[Tensor]:
        """The indices of each block."""
        if self.blocks == "number":
            return list(torch.arange(problem.size, device=problem.device).unsqueeze(1))
        whole = torch.arange(problem.size, device=problem.device)
        if self.blocks == "tensor":
            return [whole[part] for _, part in problem.parts if part.stop > part.start]
        if self.blocks == "layer":
            return _layers(whole, problem)
        found = [_block(text, whole, dict(problem.parts)) for text in self.blocks.split(";")]
        times = torch.bincount(torch.cat(found), minlength=problem.size)
        for wrong, told in ((times == 0, "in no block"), (times > 1, "in more than one block")):
            if wrong.any():
                raise RavineError(
                    f"coordinate: {int(wrong.sum())} of {problem.size} parameters are {told}, number "
                    f"{int(wrong.nonzero()[0])} among them: blocks must cover all of them once, got {self.blocks!r}"
                )
        return found

    def step(self, problem: Problem, point: Point, memory: Memory) -> Moved:
        moved, reason, falling = False, "", False
        for place in self.places(problem):
            if not bool(point.gradient[place].any()):
                continue
            found = self.searcher.along(Line(problem, point, self._toward(problem, point, place)), 1.0, memory)
            moved, reason = moved or bool(found.alpha), found.reason or reason
            falling = falling or found.falling
            point = found.point
        told = "" if moved else f"no block lowers the loss: {reason or 'the gradient is zero'}"
        return Moved(point, told, falling)

    def _toward(self, problem: Problem, point: Point, place: Tensor) -> Tensor:
        """The Newton step of a block, zero elsewhere; -g of it where the curvature is not positive."""
        g = point.gradient[place]
        H = problem.hessian(point)

        def within(v: Tensor) -> Tensor:
            whole = v.new_zeros(problem.size, v.shape[1])
            whole[place] = v
            return (H @ whole)[place]

        part = Operator(len(place), within, dtype=H.dtype, device=H.device)
        system = System(Counted(part, 0), 0.0, lambda r: r)
        best, tol = -g, 1e-12 * float(g.norm())
        for spent, (x, left) in enumerate(cg(system, -g), 1):
            best = x
            if left <= tol or spent >= min(len(place), 100):
                break
        d = torch.zeros_like(point.x)
        d[place] = best
        return d


def _layers(whole: Tensor, problem: Problem) -> list[Tensor]:
    layers: dict[str, list[Tensor]] = {}
    for name, part in problem.parts:
        layers.setdefault(name.rpartition(".")[0], []).append(whole[part])
    if all(name.isdecimal() or name == "x" for name, _ in problem.parts):
        raise RavineError(
            "coordinate(blocks='layer') tells layers by the names of their parameters, and there are none: give "
            "model.named_parameters()"
        )
    return [torch.cat(one) for one in layers.values()]


def _block(text: str, whole: Tensor, parts: dict[str, slice]) -> Tensor:
    pieces = []
    for word in (one.strip() for one in text.split(",")):
        if numbers := re.fullmatch(r"(\d*):(\d*)", word):
            start, stop = (int(end) if end else None for end in numbers.groups())
            pieces.append(whole[slice(start, stop)])
        elif word in parts:
            pieces.append(whole[parts[word]])
        elif inside := [part for name, part in parts.items() if name.startswith(f"{word}.")]:
            pieces += [whole[part] for part in inside]
        else:
            raise unknown("parameter", word, parts, "A block may also be a slice such as 0:10.")
    return torch.cat(pieces)
