"""Solvers one step at a time, on functions of a vector, and quadratics and regressions to try them on."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ravine.solvers.base import Memory, Point
from ravine.solvers.function import FunctionProblem
from ravine.solvers.solver import make_direction

Function = Callable[[Tensor], Tensor]


class Walk:
    """The points that a solver, given as a spec, comes to from x0; it ends where no step is found.

    memory: what the solver remembers. evaluations: of the function with its gradient, so far.
    """

    def __init__(self, f: Function, x0: Tensor, spec: str) -> None:
        self.method = make_direction(spec, {})
        self.problem = FunctionProblem(f, x0, "product" in self.method.needs)
        self.memory: Memory = {}
        self.point: Point = self.problem.evaluate(x0.clone())

    def __iter__(self) -> Iterator[Point]:
        yield self.point
        while True:
            moved = self.method.step(self.problem, self.point, self.memory)
            if moved.reason:
                return
            self.point = moved.point
            yield self.point

    @property
    def evaluations(self) -> int:
        return self.problem.evaluations

    def until(self, done: Callable[[Point], bool], most: int) -> int | None:
        """Steps until a point is `done`; None where that takes more than `most`, or no step is found."""
        for k, point in zip(range(most + 1), self, strict=False):
            if done(point):
                return k
        return None


def flat(tol: float) -> Callable[[Point], bool]:
    """Whether the gradient's 2-norm is at most `tol`."""
    return lambda point: float(point.gradient.norm()) <= tol


def matrix(values: Sequence[float] | Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The symmetric matrix of these eigenvalues in a random basis, and the basis as columns; float64."""
    values = torch.as_tensor(values, dtype=torch.float64)
    n = len(values)
    q = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    h = q @ torch.diag(values) @ q.T
    return (h + h.T) / 2, q


def bowl(h: Tensor, minimum: Tensor | None = None) -> Function:
    """(x - minimum)'H(x - minimum) / 2; the minimum is 0 unless given."""
    return lambda x: (r := x if minimum is None else x - minimum) @ (h @ r) / 2


def normal(n: int, generator: torch.Generator) -> Tensor:
    """A normal vector of n numbers in float64."""
    return torch.randn(n, generator=generator, dtype=torch.float64)


def logistic(generator: torch.Generator, n: int = 50, rows: int = 300, kappa: float = 1e3) -> Function:
    """The loss of a logistic regression on normal features whose variances spread evenly, in the logarithm, over
    a factor kappa, with labels of a noisy linear teacher and an L2 penalty of 1e-4.
    """
    scale = torch.logspace(0, -torch.tensor(kappa).log10().item() / 2, n, dtype=torch.float64)
    q = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    x = torch.randn(rows, n, generator=generator, dtype=torch.float64) * scale
    y = (x @ (normal(n, generator) / scale) / n**0.5 + normal(rows, generator) > 0).double()
    x = x @ q.T
    return lambda w: F.binary_cross_entropy_with_logits(x @ w, y) + 0.5e-4 * w @ w
