"""What solvers are made of: a problem, a direction, and a search along it. Everything here is of one flat vector.

A solver is a direction times a search. The same two drive `ravine.minimize` on a plain function and `Solver` on a
network: they know a `Problem` only. What they remember from step to step is in one dict, `memory`, of tensors and
numbers, which is what a checkpoint keeps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from ravine.core.declared import Declared
from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.core.space import Dimension
from ravine.core.spec import parse_links

Memory = dict[str, Any]
Part = tuple[str, slice]

DENSE_MOST = 5000
ENDLESS = 1e8  # from so many times its first trial on, a search that still fell has met no end of the fall


class Exhausted(Exception):
    """The evaluations that were allowed are spent."""


@dataclass(frozen=True)
class Point:
    """Where a function was evaluated: x (n,), its value, +inf where it is not finite, and its gradient (n,)."""

    x: Tensor
    value: float
    gradient: Tensor

    @property
    def finite(self) -> bool:
        """Whether the value and every number of the gradient are finite."""
        return math.isfinite(self.value)


class Problem:
    """A function of a flat vector (size,), and how often its gradient and products of its Hessian were asked for.

    parts: the name and place of each tensor that the vector is made of.
    limit: evaluations at most; `Exhausted` is raised in the place of one more.
    watched: whether the lowest finite point is kept as `lowest`, until that is set to None.
    generator: where a solver draws from; nothing else does.
    """

    def __init__(
        self, parts: Sequence[Part], dtype: torch.dtype, device: torch.device, generator: torch.Generator | None = None
    ) -> None:
        self.parts, self.size = list(parts), parts[-1][1].stop
        self.dtype, self.device, self.generator = dtype, device, generator
        self.evaluations = self.products = 0
        self.limit: float = math.inf
        self.watched = False
        self.lowest: Point | None = None

    def evaluate(self, x: Tensor) -> Point:
        """The value and gradient at x: one evaluation."""
        if self.evaluations >= self.limit:
            raise Exhausted
        self.evaluations += 1
        value, gradient = self._value_and_gradient(x)
        finite = math.isfinite(value) and bool(torch.isfinite(gradient.sum()) or torch.isfinite(gradient).all())
        point = Point(x, value if finite else math.inf, gradient)
        if self.watched and finite and (self.lowest is None or value < self.lowest.value):
            self.lowest = point
        return point

    def hessian(self, point: Point) -> Operator:
        """The Hessian at a point; its products are counted."""
        return self.counted(self._hessian(point))

    def counted(self, A: Operator) -> Operator:
        """The same operator with its products counted as this problem's."""

        def apply(block: Tensor) -> Tensor:
            self.products += block.shape[1]
            return A @ block

        return Operator(A.size, apply, dtype=A.dtype, device=A.device)

    def jacobian(self, point: Point) -> tuple[Tensor, Tensor]:
        """The residuals r (m,) at a point and their Jacobian (m, n), of a problem that has some: value = |r|^2 / 2."""
        raise RavineError(
            "gauss_newton needs a function that returns residuals, a vector r whose |r|^2 / 2 is minimized; this one "
            "returns a scalar: use newton_cg or lbfgs"
        )

    def _value_and_gradient(self, x: Tensor) -> tuple[float, Tensor]:
        raise NotImplementedError

    def _hessian(self, point: Point) -> Operator:
        raise NotImplementedError


@dataclass(frozen=True)
class Trial:
    """What was found at one step length: the value and slope of phi(alpha) = f(x + alpha d)."""

    alpha: float
    value: float
    slope: float
    point: Point


@dataclass(frozen=True)
class Found:
    """Where a search ended. reason: why its conditions do not hold there. falling: it met no end of the fall."""

    alpha: float
    point: Point
    reason: str = ""
    falling: bool = False

    @property
    def value(self) -> float:
        return self.point.value

    @property
    def gradient(self) -> Tensor:
        return self.point.gradient


class Line:
    """phi(alpha) = f(x + alpha d) and its slope, for a search. `best` is the lowest trial so far."""

    def __init__(self, problem: Problem, start: Point, d: Tensor) -> None:
        self.problem, self.origin, self.d = problem, start, d
        self.start = Trial(0.0, start.value, float(start.gradient @ d), start)
        self.best = self.start

    def at(self, alpha: float) -> Trial:
        """The trial at a step length. A point that is not finite has the value +inf and no slope."""
        point = self.problem.evaluate(torch.add(self.origin.x, self.d, alpha=alpha))
        slope = float(point.gradient @ self.d) if point.finite else math.nan
        trial = Trial(alpha, point.value, slope, point)
        if trial.value < self.best.value or (trial.value == self.best.value and abs(slope) < abs(self.best.slope)):
            self.best = trial
        return trial

    def rounding(self) -> float:
        """How far two values of phi may differ by rounding alone."""
        return 4 * torch.finfo(self.problem.dtype).eps * max(abs(self.start.value), abs(self.best.value))

    def ended(self, reason: str) -> Found:
        """The best trial, and why the search got no further."""
        return Found(self.best.alpha, self.best.point, reason)

    def endless(self, first: float, trials: int) -> Found:
        """The best trial, where the loss fell from trial to trial and there are no more."""
        alpha = self.best.alpha
        far = f"the loss still falls at a step of {alpha:.3g} along the direction after {trials} trials"
        return Found(alpha, self.best.point, f"{far}: it may be unbounded below", alpha >= ENDLESS * first)


@dataclass(frozen=True)
class Search(Declared):
    """How far to go along a direction. `region`: a trust region, which asks the direction for its step itself.

    scaled: whether `lr` means something to it, the length of the longest step.
    """

    kind: ClassVar[str] = "search"
    entry_group: ClassVar[str] = "ravine.searches"
    region: ClassVar[bool] = False
    scaled: ClassVar[bool] = False

    def along(self, line: Line, first: float, memory: Memory) -> Found:
        """A step length, tried from `first` on."""
        raise NotImplementedError

    def inside(self, model: "Model", problem: Problem, point: Point, memory: Memory) -> Found:
        """A step inside a region, of those whose `region` is true."""
        raise NotImplementedError


class Model:
    """A quadratic model m(p) = g'p + p'Bp / 2 around a point."""

    def within(self, radius: float) -> tuple[Tensor, float]:
        """The p of length `radius` at most at which the model is lowest, or nearly, and by how much it falls."""
        raise NotImplementedError


@dataclass(frozen=True)
class Moved:
    """Where a step of a solver led. reason: why it could not move; empty where it did. falling: see `Found`."""

    point: Point
    reason: str = ""
    falling: bool = False


def refuse_dense(name: str, n: int, instead: str) -> None:
    """Raise where n parameters are too many for a matrix of them."""
    if n > DENSE_MOST:
        raise RavineError(
            f"{name} is for at most {DENSE_MOST:,} parameters, got {n:,}: what it does takes a matrix or a loop over "
            f"all of them (8 n^2 bytes are {8e-9 * n * n:.3g} GB). Use {instead}"
        )


@dataclass(frozen=True)
class Direction(Declared):
    """A solver: which way to go, and by which search how far. A subclass is a frozen dataclass; `name` is its spec.

    needs: "product" (of the Hessian), "residuals", "outputs".
    dense: it keeps an n x n matrix, and is refused above 5,000 parameters with `instead` named.
    regions: it can take its step inside a trust region, see `model`.
    space: what a race tunes.
    """

    search: str = "strong_wolfe"

    kind: ClassVar[str] = "solver"
    entry_group: ClassVar[str] = "ravine.solvers"
    needs: ClassVar[frozenset[str]] = frozenset()
    dense: ClassVar[bool] = False
    instead: ClassVar[str] = "lbfgs"
    regions: ClassVar[bool] = False
    space: ClassVar[Mapping[str, Dimension]] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.searcher.region and not self.regions:
            others = ", ".join(sorted(name for name, one in Search.registry.items() if not one.region))
            raise RavineError(f"{self.name} has no trust-region form: search= may be {others}")

    @cached_property
    def searcher(self) -> Search:
        """The search that the text names."""
        calls = parse_links(self.search)
        if len(calls) != 1:
            raise RavineError(f"{self.name}: search= names one search, got {self.search!r}")
        return Search.make(calls[0])

    def check_size(self, n: int) -> None:
        """Raise where n parameters are too many for a matrix."""
        if self.dense:
            refuse_dense(self.name, n, self.instead)

    def check_problem(self, problem: Problem) -> None:
        """Raise where the problem, such as its blocks, does not suit."""
        self.check_size(problem.size)

    def direction(self, point: Point, memory: Memory, problem: Problem) -> Tensor:
        """d (n,), along which f is to fall: -M g for some M (the chapter's slide 47 has M g without the sign)."""
        raise NotImplementedError

    def model(self, point: Point, memory: Memory, problem: Problem) -> "Model":
        """The quadratic model at a point, for a trust region."""
        raise NotImplementedError

    def first(self, point: Point, d: Tensor, memory: Memory) -> float:
        """The step length to try first."""
        return 1.0

    def learn(self, memory: Memory, before: Point, after: Point, d: Tensor, alpha: float) -> None:
        """Keep what the step from `before` to `after` = before + alpha d tells. Both are of the same batch."""

    def forget(self, memory: Memory) -> bool:
        """Begin anew, along -g; whether there was anything to forget."""
        return False

    def step(self, problem: Problem, point: Point, memory: Memory) -> Moved:
        """One step: a direction, a search along it, what is learnt from it; where that fails, once more from -g."""
        if self.searcher.region:
            found = self.searcher.inside(self.model(point, memory, problem), problem, point, memory)
            return Moved(found.point, found.reason, found.falling)
        d = self.direction(point, memory, problem)
        line = Line(problem, point, d)
        if not line.start.slope < 0 and not self.searcher.scaled and self.forget(memory):
            d = self.direction(point, memory, problem)
            line = Line(problem, point, d)
        found = self._search(line, memory)
        if not found.alpha and self.forget(memory):
            d = self.direction(point, memory, problem)
            found = self._search(Line(problem, point, d), memory)
        if not found.alpha:
            return Moved(point, found.reason)
        self.learn(memory, point, found.point, d, found.alpha)
        return Moved(found.point, falling=found.falling)

    def _search(self, line: Line, memory: Memory) -> Found:
        if line.start.slope == 0:
            return Found(0.0, line.origin, "the gradient is zero along the direction")
        if not math.isfinite(line.start.slope):
            return Found(0.0, line.origin, "the direction is not finite")
        return self.searcher.along(line, self.first(line.origin, line.d, memory), memory)
