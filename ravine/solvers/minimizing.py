"""The minimum of a plain function, by any solver."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.solvers.base import ENDLESS, Direction, Exhausted, Memory, Point
from ravine.solvers.determinism import check_same
from ravine.solvers.function import Function, FunctionProblem, ResidualProblem
from ravine.solvers.making import make_direction
from ravine.solvers.minimum import Verdict, leave, second_order_test

_ESCAPES = 100
_ENDLESS = 3  # steps in a row that met no end of the fall


@dataclass(frozen=True)
class Result:
    """Where a minimization ended.

    x: of x0's shape. value: f(x), or |r|^2 / 2 of residuals. gradient_norm: its 2-norm.
    evaluations: of the function with its gradient, without one more at x0 that tells whether f is the same at every
    call. products: with the Hessian (columns or rows of J for gauss_newton).
    test_products: those of the second-order test.
    converged: whether gradient_norm <= tol. reason: why it ended.
    is_minimum: whether the Hessian at x is positive definite; False at a saddle; None where that was not reached, or
    cannot be told. It is of the point x: a saddle of third order, as of x^3, shows none.
    """

    x: Tensor
    value: float
    gradient_norm: float
    evaluations: int
    products: int
    test_products: int
    converged: bool
    reason: str
    is_minimum: bool | None


def minimize(
    f: Function,
    x0: Tensor,
    solver: str | Direction = "lbfgs",
    *,
    tol: float = 1e-6,
    max_evaluations: int = 10_000,
    escape: bool = False,
    generator: torch.Generator | None = None,
    observe: Callable[[Point], None] | None = None,
) -> Result:
    """Minimize f(x) from x0 until the gradient's 2-norm is at most `tol`.

    f: from a tensor of x0's shape to a scalar tensor; for gauss_newton, to residuals r, and |r|^2 / 2 is minimized.
    solver: a spec such as "cg(beta='dai_yuan')" or "newton_cg(search='trust_region')", or a Direction.
    escape: at a saddle, go on along negative curvature. generator: for Lanczos's start vectors in the test of more
    than 500 numbers. observe: is called with every point that the solver moves to.

    Raises `RavineError` for a function that is not one: no scalar, not finite at x0, not the same from call to call,
    or not differentiable as often as the solver needs; for a Newton step that does not exist.

    >>> import torch, ravine
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> found = ravine.minimize(rosenbrock, torch.tensor([-1.2, 1.0], dtype=torch.float64), "newton_cg")
    >>> found.x.round(decimals=6).tolist(), found.is_minimum
    ([1.0, 1.0], True)
    """
    method = make_direction(solver, {})
    _check(f, x0, tol, max_evaluations, escape, generator)
    kind = ResidualProblem if "residuals" in method.needs else FunctionProblem
    generator = generator or torch.Generator(x0.device).manual_seed(0)
    problem = kind(f, x0, "product" in method.needs, generator)
    method.check_problem(problem)
    run = _Run(method, problem, tol, observe)
    run.begin(x0.detach().reshape(-1).clone())
    problem.limit = max_evaluations
    return run.until_done(escape)


class _Run:
    """One minimization."""

    def __init__(
        self, method: Direction, problem: FunctionProblem, tol: float, observe: Callable[[Point], None] | None
    ) -> None:
        self.method, self.problem, self.tol, self.observe = method, problem, tol, observe
        self.memory: Memory = {}
        self.test_products = 0

    def begin(self, x: Tensor) -> None:
        """The first evaluation; raises where the function is no good."""
        problem = self.problem
        once = problem.evaluate(x)
        if not once.finite:
            raise RavineError("f(x0) or its gradient is not finite: begin elsewhere")
        self.point = self.first = problem.evaluate(x)  # the later one, since a kept graph is of the last
        problem.evaluations -= 1
        check_same(once.value, self.point.value, lambda: problem.f(x.reshape(problem.shape)), problem.dtype)
        problem.watched = True

    def until_done(self, escape: bool) -> Result:
        reason, verdict, stopped = "", Verdict(None, ""), False
        for _ in range(_ESCAPES):
            reason = self.descend()
            if not self.converged:
                break
            verdict = self.tested()
            reason = f"the gradient's norm is at most {self.tol:g}: {verdict.told}"
            if verdict.direction is None or not escape:
                break
            try:
                lower = leave(self.problem, self.point, verdict)
            except Exhausted:
                lower, stopped = None, True
            if lower is None:
                more = "no evaluations are left" if stopped else "no step along negative curvature lowers it"
                reason = f"{reason}; {more}"
                break
            self.memory.clear()
            self.moved(lower)
        p, point = self.problem, self.point
        norm = float(point.gradient.norm())
        x = point.x.reshape(p.shape)
        return Result(
            x, point.value, norm, p.evaluations, p.products, self.test_products, self.converged, reason,
            verdict.is_minimum if self.converged else None,
        )  # fmt: skip

    @property
    def converged(self) -> bool:
        return float(self.point.gradient.norm()) <= self.tol

    def moved(self, point: Point) -> None:
        self.point, self.problem.lowest = point, None
        if self.observe is not None:
            self.observe(point)

    def descend(self) -> str:
        """Steps until the gradient is small, or why it did not become so."""
        problem, falling = self.problem, 0
        try:
            while not self.converged:
                moved = self.method.step(problem, self.point, self.memory)
                if moved.reason:
                    return self.stuck(moved.reason)
                self.moved(moved.point)
                falling = falling + 1 if moved.falling else 0
                if bottomless(self.first, self.point, falling >= _ENDLESS):
                    there = f"it is {self.point.value:.3g} where |x| is {float(self.point.x.double().norm()):.3g}"
                    return f"f is unbounded below, as it seems: {there}, and still falls"
        except Exhausted:
            if problem.lowest is not None and problem.lowest.value < self.point.value:
                self.moved(problem.lowest)
            norm = float(self.point.gradient.norm())
            return f"max_evaluations={problem.limit} are spent, the gradient's norm is {norm:.3g}, not {self.tol:g}"
        return ""

    def stuck(self, reason: str) -> str:
        """Why no step was found, with what the dtype has to do with it."""
        norm, eps = float(self.point.gradient.norm()), torch.finfo(self.problem.dtype).eps
        told = f"{reason}; the gradient's norm is {norm:.3g}, not {self.tol:g}"
        scale = max(abs(self.point.value), float(self.point.x.norm()) * norm)
        if norm * norm <= 1e4 * eps * max(scale, 1.0):
            wider = "use float64, or " if self.problem.dtype == torch.float32 else ""
            told += f". In {self.problem.dtype} values differ by rounding only here: {wider}ask for a larger tol"
        return told

    def tested(self) -> Verdict:
        """The second-order test at the point; its products are counted apart."""
        problem = self.problem
        spent = problem.products
        try:
            H = problem.counted(problem.apart(self.point))
            verdict = second_order_test(H, self.point, problem.generator)
        except RavineError as error:
            verdict = Verdict(None, f"the second-order test failed: {error}")
        self.test_products += problem.products - spent
        problem.products = spent
        return verdict


def bottomless(first: Point, point: Point, endless: bool) -> bool:
    """Whether f seems to have no lower bound: a point is as steep as the first, far below it and far from it.

    Far is a fourth root of the dtype's largest number, times what there was at first; or far below alone, where
    numbers are about to end. A bounded function of a large scale gets as far below, but is less steep there.
    endless: searches in a row have met no end of the fall. Then it is enough to be 1e8 times as far as at first: where
    the first trial was very short, a search may fall all the way to an end that is near.
    """
    largest = torch.finfo(point.x.dtype).max
    far = largest**0.25
    fell = first.value - point.value > far * max(1.0, abs(first.value))
    if not (fell or endless):
        return False
    away, begun = (float(v.double().norm()) for v in (point.x.double() - first.x.double(), first.x))
    if endless and away > ENDLESS * max(1.0, begun):
        return True
    steep = float(point.gradient.double().norm()) >= float(first.gradient.double().norm())
    return fell and steep and (away > far * max(1.0, begun) or point.value < -(largest**0.75))


def _check(f: object, x0: object, tol: object, most: object, escape: object, generator: object) -> None:
    if not callable(f):
        raise RavineError(f"f must be a function of a tensor, got {f!r:.80}")
    if not isinstance(x0, Tensor) or x0.dtype not in (torch.float32, torch.float64):
        kind = x0.dtype if isinstance(x0, Tensor) else type(x0).__name__
        raise RavineError(f"x0 must be a tensor of float32 or float64, got {kind}: x0 = torch.tensor(..., dtype=...)")
    if not x0.numel():
        raise RavineError(f"x0 has no numbers, its shape is {tuple(x0.shape)}")
    if isinstance(tol, bool) or not isinstance(tol, int | float) or not 0 < tol < math.inf:
        raise RavineError(f"tol must be in (0, inf), got {tol!r}")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise RavineError(f"max_evaluations must be a whole number from 1, got {most!r}")
    if not isinstance(escape, bool):
        raise RavineError(f"escape must be True or False, got {escape!r}")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise RavineError(f"generator must be torch.Generator().manual_seed(3), say, got {generator!r}")
