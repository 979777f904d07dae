"""A network's loss, as a closure gives it, as a function of its parameters in one flat vector."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.twice import refuse_once
from ravine.engine.twice import twice_differentiable
from ravine.solvers.base import Part, Point, Problem
from ravine.solvers.graph import check_loss, products

Closure = Callable[[], Tensor]


class ClosureProblem(Problem):
    """The loss that a closure returns, at any values of the parameters that it reads.

    The gradient is taken by `torch.autograd.grad`, and `p.grad` stays as it is. Where the closure has called
    `backward()` itself, the gradient is what that has put into `p.grad`, as torch's optimizers understand it.
    curved: whether products of the Hessian will be asked for; each evaluation then keeps its graph until the next.
    """

    def __init__(
        self, named: Sequence[tuple[str, Tensor]], curved: bool, owner: str, generator: torch.Generator | None = None
    ) -> None:
        self.parameters = [p for _, p in named]
        parts: list[Part] = []
        at = 0
        for name, p in named:
            parts.append((name, slice(at, at + p.numel())))
            at += p.numel()
        super().__init__(parts, named[0][1].dtype, named[0][1].device, generator)
        self.curved, self.owner = curved, owner
        self.closure: Closure | None = None
        self.called_backward = False
        self._graph: tuple[Tensor, list[Tensor]] | None = None

    def read(self) -> Tensor:
        """The parameters as they are now, as one vector."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters])

    @torch.no_grad()
    def write(self, x: Tensor) -> None:
        """Set the parameters to a vector."""
        torch._foreach_copy_(self.parameters, self._pieces(x))

    def _pieces(self, v: Tensor) -> list[Tensor]:
        """A vector as tensors of the parameters' shapes."""
        return [v[part].view_as(p) for (_, part), p in zip(self.parts, self.parameters, strict=True)]

    def check_trained(self) -> None:
        """Raise where a parameter was frozen since."""
        for (name, _), p in zip(self.parts, self.parameters, strict=True):
            if not p.requires_grad:
                raise RavineError(
                    f"parameter '{name}' was frozen after {self.owner} was made, and it would move it: make the solver "
                    "anew on what is to be trained, or set requires_grad back"
                )

    def release(self) -> None:
        """Let the last graph go."""
        self._graph = None

    def _value_and_gradient(self, x: Tensor) -> tuple[float, Tensor]:
        self._graph = None
        self.write(x)
        loss, gradients = self._differentiated()
        if self.curved:
            self._graph = (x, gradients)
        return float(loss.detach()), self._flat(gradients)

    def _differentiated(self) -> tuple[Tensor, list[Tensor]]:
        """The loss and its gradients at the parameters as they are."""
        closure = self.closure
        assert closure is not None
        with ExitStack() as stack:
            filled: list[int] = []
            for i, p in enumerate(self.parameters):
                handle = p.register_post_accumulate_grad_hook(partial(_note, filled, i))  # type: ignore[no-untyped-call]
                stack.callback(handle.remove)
            stack.enter_context(torch.enable_grad())
            stack.enter_context(twice_differentiable() if self.curved else nullcontext())
            loss = closure()
            check_loss(loss)
            self.called_backward = bool(filled)
            if filled:
                return loss, self._accumulated()
            if not loss.requires_grad:
                raise RavineError(
                    "the loss does not depend on the parameters through operations that torch can differentiate: the "
                    "closure must compute it inside, without no_grad or detach"
                )
            if self.curved:
                refuse_once(loss)
            gradients = torch.autograd.grad(loss, self.parameters, create_graph=self.curved, materialize_grads=True)
            return loss, list(gradients)

    def _accumulated(self) -> list[Tensor]:
        if self.curved:
            raise RavineError(
                f"the closure has called backward(), after which {self.owner} cannot multiply by the Hessian: let the "
                "closure return the loss alone, as in lambda: criterion(model(x), y)"
            )
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]

    def _flat(self, gradients: Sequence[Tensor]) -> Tensor:
        dense = (g.to_dense() if g.layout != torch.strided else g for g in gradients)
        return torch.cat([g.detach().reshape(-1) for g in dense])

    def _hessian(self, point: Point) -> Operator:
        made: list[tuple[Any, Callable[[Tensor], Tensor]]] = []

        def apply(block: Tensor) -> Tensor:
            if self._graph is None or self._graph[0] is not point.x:  # the parameters have been elsewhere meanwhile
                self.evaluate(point.x)
                made.clear()
            assert self._graph is not None
            if not made:
                made.append((self._graph[0], products(self._graph[1], self.parameters)))
            return made[0][1](block)

        return Operator(self.size, apply, dtype=self.dtype, device=self.device)


def _note(filled: list[int], i: int, _: Tensor) -> None:
    filled.append(i)
