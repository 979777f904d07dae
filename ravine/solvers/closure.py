"""A network's loss, as a closure gives it, as a function of its parameters in one flat vector."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.linear import refuse_ends
from ravine.curvature.twice import checked
from ravine.engine.twice import twice_differentiable
from ravine.solvers.base import Part, Point, Problem

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
            if filled:
                return loss, self._accumulated()
            if not loss.requires_grad:
                raise RavineError(
                    "the loss does not depend on the parameters through operations that torch can differentiate: the "
                    "closure must compute it inside, without no_grad or detach"
                )
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
        if self._graph is None or self._graph[0] is not point.x:  # it was evaluated before others
            self.evaluate(point.x)
        assert self._graph is not None
        gradients = self._graph[1]
        curved = [i for i, g in enumerate(gradients) if g.requires_grad]
        checked(lambda: refuse_ends([gradients[i] for i in curved]))

        def apply(block: Tensor) -> Tensor:
            return torch.stack([checked(partial(self._product, gradients, curved, v)) for v in block.T], 1)

        return Operator(self.size, apply, dtype=self.dtype, device=self.device)

    def _product(self, gradients: list[Tensor], curved: list[int], v: Tensor) -> Tensor:
        if not curved:
            return torch.zeros_like(v)
        pieces = self._pieces(v)
        made = torch.autograd.grad(
            [gradients[i] for i in curved], self.parameters, [pieces[i] for i in curved],
            retain_graph=True, materialize_grads=True,
        )  # fmt: skip
        return self._flat(made)


def _note(filled: list[int], i: int, _: Tensor) -> None:
    filled.append(i)


def check_loss(loss: Any) -> None:
    """Raise unless a loss is one number of a tensor."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise RavineError(f"the closure must return the loss, a tensor of one number, got {found}: take its mean")


class _Random(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operations that draw random numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.names.append(str(func).split(".")[1])
        return func(*args, **(kwargs or {}))


def check_same(first: float, second: float, again: Callable[[], Any], dtype: torch.dtype) -> None:
    """Raise where a loss was evaluated twice at the same parameters and came out different.

    again: evaluates it once more, so that operations that draw can be named.
    """
    if abs(first - second) <= 1000 * torch.finfo(dtype).eps * max(abs(first), abs(second)):
        return
    with _Random() as seen:
        again()
    if seen.names:
        why = f"{', '.join(dict.fromkeys(seen.names))} draws random numbers (dropout in train mode, perhaps)"
    else:
        why = "each call sees other data (a new batch at every call, perhaps)"
    raise RavineError(
        f"the loss is {first:.9g} and then {second:.9g} at the same parameters: {why}, and no search can "
        "compare such values. Use model.eval(), or the same batch and seed at every call of one step"
    )
