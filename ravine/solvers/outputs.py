"""Solvers that look at a network's outputs: the problem they see, and the optimizer that is stepped with a batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.batches import examples
from ravine.curvature.gauss_newton import inner_products, product_of
from ravine.curvature.linear import Product
from ravine.curvature.outputs import seed_from
from ravine.curvature.passes import Pass, Passes
from ravine.curvature.problem import Problem as Within
from ravine.curvature.problem import at_rest
from ravine.curvature.twice import checked
from ravine.engine.finite import NonFinite
from ravine.solvers.base import Direction, Memory, Point, Problem
from ravine.solvers.closure import ClosureProblem
from ravine.solvers.criteria import Criterion, Forward, Sample, check_filled, check_mean, cut, parts, size
from ravine.solvers.solver import Solver

_FEWEST = 32  # examples in a share of a batch


class OutputsProblem(ClosureProblem):
    """The loss criterion(forward(model, batch), batch) of one batch, with the curvature that its outputs tell."""

    def __init__(
        self,
        within: Within,
        forward: Forward,
        criterion: Criterion,
        sample: Sample | None,
        hidden: Forward | None,
        owner: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__(list(within.named.items()), False, owner, generator)
        self.within, self.forward, self.criterion, self.sample = within, forward, criterion, sample
        self.hidden = hidden
        self.batch: Any = None
        self._passes: Passes | None = None

    def loss(self) -> Tensor:
        """The loss of the batch at the parameters as they are."""
        return self.criterion(self.forward(self.within.model, self.batch), self.batch)

    def value(self, x: Tensor) -> float:
        """The loss at x without its gradient, +inf where it is not finite: counted as an evaluation all the same."""
        self.evaluations += 1
        self.write(x)
        with torch.no_grad():
            found = float(self.loss())
        return found if math.isfinite(found) else math.inf

    def share(self, part: float) -> Any:
        """The first `part` of the batch's examples; the whole, where they are few or cannot be told apart."""
        whole = size(self.batch)
        if part >= 1 or whole is None:
            return self.batch
        return cut(self.batch, 0, max(_FEWEST, math.ceil(part * whole)))

    def check(self, part: float) -> None:
        """Raise where the criterion is no mean over examples and `part` of a batch is to stand for it."""
        if part < 1:
            self.evaluations += 1
            with at_rest(self.within.model):
                check_mean(lambda some: self.criterion(self.forward(self.within.model, some), some), self.batch,
                           self.owner)  # fmt: skip

    def passed(self, batch: Any, empirical: bool = False) -> Pass:
        """A pass through `batch` with targets drawn anew, or with the criterion's own curvature: one evaluation.

        empirical: at the batch's targets.
        """
        self.evaluations += 1
        size = examples(batch, None)
        with at_rest(self.within.model):
            return self.passes(batch).on(batch, size, seed_from(self.generator), empirical=empirical)

    def passes(self, batch: Any) -> Passes:
        """The layers that have Kronecker factors, found once; `left_out` says why other parameters are in none."""
        if self._passes is None:
            self._passes = Passes(
                self.within.model, self.forward, self.criterion, [batch], list(self.within.named.values()), None,
                self.sample, None, 1,
            )  # fmt: skip
            with at_rest(self.within.model):
                self._passes.on(batch, examples(batch, None), 0, leave_out=True)
        return self._passes

    def diagonal(self, one: Pass) -> Tensor:
        """An unbiased estimate of the curvature's diagonal for parameters in no layer, in the order of `left_out`.

        Factors of random signs have sums whose squares are right on average.
        """
        left_out, order = self.passes(self.batch).left_out, list(self.within.slices)
        wanted = [one.values[order.index(name)] for name in left_out]
        signs = torch.randint(2, one.factors.shape[:2], generator=self.generator).to(one.factors) * 2 - 1
        mixed = (signs.unsqueeze(-1) * one.factors).sum(0)
        found = torch.autograd.grad(one.matrix, wanted, mixed, materialize_grads=True)
        return torch.cat([g.reshape(-1) for g in found]).square()

    def gauss_newton(self, batch: Any, structural: float = 0.0) -> Operator:
        """The Gauss-Newton matrix on `batch`, and `structural` times that of the square of the hidden states."""
        here = tuple(value.clone() for value in self.within.values())  # the parameters move while it is used
        with at_rest(self.within.model):
            parts = [(1.0, self._curved(self.forward, self.criterion, batch, here))]
            if structural:
                assert self.hidden is not None
                parts.append((structural, self._curved(self.hidden, _mean_square, batch, here)))

        def apply(block: Tensor) -> Tensor:
            self.products += block.shape[1]
            with at_rest(self.within.model):
                return torch.stack([self._times(parts, v) for v in block.T], 1)

        return Operator(self.size, apply, dtype=self.dtype, device=self.device)

    def _curved(self, forward: Forward, criterion: Criterion, batch: Any, here: tuple[Tensor, ...]) -> Product:
        return checked(lambda: product_of(self.within, forward, criterion, batch, here))

    def _times(self, parts: Sequence[tuple[float, Product]], v: Tensor) -> Tensor:
        made = [factor * self.within.join(product(self.within.split(v))) for factor, product in parts]
        return made[0] if len(made) == 1 else torch.stack(made).sum(0)

    def inner_products(self, vectors: Sequence[Tensor], batch: Any) -> Tensor:
        """vᵢᵀ G vⱼ (k, k) in float64, G the Gauss-Newton matrix on `batch`: k products."""
        self.products += len(vectors)
        with at_rest(self.within.model):
            return inner_products(self.within, self.forward, self.criterion, batch, vectors)


def seen(problem: Problem, owner: str) -> OutputsProblem:
    """The problem, of a solver that must see outputs."""
    if not isinstance(problem, OutputsProblem):
        raise RavineError(
            f"{owner} looks at the outputs of a network, and a plain function has none: use lbfgs or newton_cg, or "
            "gauss_newton for a function that returns residuals"
        )
    return problem


@dataclass(frozen=True)
class OutputDirection(Direction, register=False):
    """A solver that must see outputs. It finds the length of its step itself, and lr scales it."""

    search: str = "fixed"
    needs: ClassVar[frozenset[str]] = frozenset({"outputs"})

    def back(self, problem: "OutputsProblem", x: Tensor, value: float, memory: Memory) -> tuple[Point, str] | None:
        """Where x was before the last step, when that made `value`, the loss of the batch at hand, far higher or inf.

        With the reason; None where it did not, or this solver looks ahead itself.
        """
        return None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.search != "fixed":
            raise RavineError(
                f"{self.name} finds the length of its step itself, and lr= scales it; it has no search='{self.search}'"
            )


class OutputSolver(Solver):
    """A solver that looks at the model's outputs: `OutputSolver(model, "kfac", criterion=nn.CrossEntropyLoss())`.

    It is given the model instead of parameters, and `step(batch)` instead of a closure; the loss is
    criterion(forward(model, batch), batch), a mean over the batch's examples: one of torch's criteria with another
    reduction is refused, and a function that sums is where the solver has a share= below 1.
    forward(model, batch): the outputs; model(batch[0]) unless given.
    criterion(outputs, batch): or one of torch's criteria, which is given outputs and batch[1].
    sample(outputs, batch): the batch with targets drawn from the model's own predictions and the number of draws over
        which the criterion takes its mean, see `ravine.Task`. Known for torch's cross-entropies and squared error.
    hidden(model, batch): the hidden states, for `hessian_free` with structural damping.
    params: which parameters are moved, by names or themselves; all trainable ones unless given.
    The other arguments and attributes are those of `ravine.solvers.Solver`. `reason` says why the last step did not
    move, or that it was taken back; it is empty where it moved.
    """

    needs_outputs: ClassVar[bool] = True
    problem: OutputsProblem

    def __init__(
        self,
        model: nn.Module,
        solver: str | Direction | None = None,
        *,
        criterion: Criterion,
        forward: Forward | None = None,
        sample: Sample | None = None,
        hidden: Forward | None = None,
        params: Any = None,
        lr: float = 1.0,
        iterations: int = 1,
        generator: torch.Generator | None = None,
        **hyperparameters: Any,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise RavineError(
                f"{self.kind or 'a solver of outputs'} needs the model itself, an nn.Module, since it looks at layers "
                f"and outputs; got {type(model).__name__}"
            )
        for name, value in (("criterion", criterion), ("forward", forward), ("sample", sample), ("hidden", hidden)):
            if not callable(value) and (value is not None or name == "criterion"):
                raise RavineError(f"{name}= must be a function, got {value!r}")
        self._within = Within(model, params)
        self._parts = (*parts(criterion, forward, sample), hidden)
        super().__init__(
            list(self._within.named.items()), solver, lr=lr, iterations=iterations, generator=generator,
            **hyperparameters,
        )  # fmt: skip

    def _problem(self) -> OutputsProblem:
        super()._problem()  # which checks the parameters
        return OutputsProblem(self._within, *self._parts, self.method.name, self.generator)

    def step(self, batch: Any) -> Tensor:  # type: ignore[override]
        """Move the parameters by `iterations` steps on one batch; the loss is the one before them.

        A step that is taken back is told in `reason`: where the loss was not finite there, the one that is returned is
        that of the place gone back to.
        """
        if callable(batch):
            raise RavineError(f"{self.method.name} is stepped with a batch, not a closure: step((inputs, targets))")
        check_filled(batch, self.method.name)
        self.problem.batch = batch
        try:
            if not self.memory.get("checked"):
                self.problem.check(getattr(self.method, "share", 1.0))
            return super().step(self.problem.loss)
        except NonFinite:
            found = self._taken_back()
            if found is None:
                raise
            return found
        finally:
            self.problem.batch = None

    def _taken_back(self) -> Tensor | None:
        """The loss where the parameters were before the last step, when it is finite there and not here."""
        problem, method, here = self.problem, self.method, self.problem.read()
        back = None
        try:
            if isinstance(method, OutputDirection):
                back = method.back(problem, here, math.inf, self.memory)
        finally:
            problem.write(here if back is None else back[0].x)
        if back is None:
            return None
        self.reason = back[1]
        return torch.tensor(back[0].value, dtype=problem.dtype, device=problem.device)


def _mean_square(hidden: Any, batch: Any) -> Tensor:
    """Half the square of hidden states, summed over all but the examples."""
    leaves = tree_leaves(hidden)
    return torch.stack([leaf.square().sum() / 2 for leaf in leaves]).sum() / len(leaves[0])


def at(problem: Problem, point: Point) -> Point:
    """The point with its gradient, where a step has left it out."""
    return problem.evaluate(point.x) if math.isnan(point.value) else point
