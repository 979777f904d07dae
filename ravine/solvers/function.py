"""A plain function of a tensor of any shape as a problem of one flat vector."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.function import of_function
from ravine.engine.twice import twice_differentiable
from ravine.solvers.base import Point, Problem
from ravine.solvers.graph import check_loss, products

Function = Callable[[Tensor], Tensor]


class FunctionProblem(Problem):
    """f at tensors of x0's shape. curved: whether products will be asked for, so that graphs are kept."""

    def __init__(self, f: Function, x0: Tensor, curved: bool, generator: torch.Generator | None = None) -> None:
        super().__init__([("x", slice(0, x0.numel()))], x0.dtype, x0.device, generator)
        self.f, self.shape, self.curved = f, x0.shape, curved
        self._graph: tuple[Tensor, Tensor, Tensor, Tensor] | None = None  # x, the leaf, the outputs, the gradient

    def _value_and_gradient(self, x: Tensor) -> tuple[float, Tensor]:
        leaf = x.detach().reshape(self.shape).clone().requires_grad_()
        with torch.enable_grad(), twice_differentiable():
            made = self.f(leaf)
            value = self._scalar(made)
            if not made.requires_grad:
                raise RavineError("f(x) does not depend on x through operations that torch can differentiate")
            (gradient,) = torch.autograd.grad(value, leaf, create_graph=self.curved, materialize_grads=True)
        if self.curved:
            self._graph = (x, leaf, made, gradient)
        return float(value.detach()), gradient.detach().reshape(-1)

    def _scalar(self, made: Any) -> Tensor:
        check_loss(made, "f must return a scalar (for residuals, a vector r, there is solver='gauss_newton')")
        return made.reshape(())  # type: ignore[no-any-return]

    def _hessian(self, point: Point) -> Operator:
        if self._graph is None or self._graph[0] is not point.x:  # it was evaluated before others
            self.evaluate(point.x)
        assert self._graph is not None
        _, leaf, _, gradient = self._graph
        try:
            apply = products([gradient], [leaf])
        except RavineError:
            return self.apart(point)  # which tries forward derivatives too, and names the operation if there are none
        return Operator(self.size, apply, dtype=self.dtype, device=self.device)

    def apart(self, point: Point) -> Operator:
        """The Hessian from an evaluation of its own, which is not counted."""
        with torch.enable_grad(), twice_differentiable():
            x = point.x.reshape(self.shape)
            return of_function(lambda x: self._scalar(self.f(x)), x)


class ResidualProblem(FunctionProblem):
    """f returns residuals r, of any shape, and |r|^2 / 2 is minimized."""

    def _scalar(self, made: Any) -> Tensor:
        if not isinstance(made, Tensor) or not made.ndim:
            kind = "a scalar" if isinstance(made, Tensor) else type(made).__name__
            raise RavineError(
                f"gauss_newton minimizes |r|^2 / 2 and needs the residuals r as a vector, got {kind}: return them "
                "unsquared, or use newton_cg or lbfgs"
            )
        return 0.5 * (made * made).sum()

    def jacobian(self, point: Point) -> tuple[Tensor, Tensor]:
        x = point.x.reshape(self.shape)
        r = self.f(x).detach().reshape(-1)

        def flat(v: Tensor) -> Tensor:
            return self.f(v.reshape(self.shape)).reshape(-1)

        wide = self.size <= len(r)
        self.products += min(self.size, len(r))
        try:
            J = (torch.func.jacfwd if wide else torch.func.jacrev)(flat)(point.x)
        except (RuntimeError, NotImplementedError):
            J = torch.autograd.functional.jacobian(flat, point.x)  # type: ignore[no-untyped-call]
        return r, J.detach()
