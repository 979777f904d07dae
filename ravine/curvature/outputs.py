"""A model's outputs as a matrix, a row for each example, and the factors of the curvature that they are judged with.

Factors are a tensor (c, n, d): the curvature of the mean loss in the outputs z_n (d,) of example n is Σ_c l_cn l_cnᵀ.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ravine.core.errors import RavineError
from ravine.curvature.twice import checked

Judge = Callable[[Tensor], Tensor]
"""From the matrix of outputs to the mean loss."""
Sample = Callable[[Any, Any], tuple[Any, int]]
_WIDEST, _MOST = 2048, 2**30  # numbers of an example's outputs, each a backward pass; second derivatives in a batch
Criterion = Callable[[Any, Any], Tensor]


class Rows:
    """How outputs, a tensor or tuples and dicts of them, are written as one matrix (examples, numbers) and back."""

    def __init__(self, z: Any) -> None:
        leaves, self._spec = tree_flatten(z)
        leading = sorted({leaf.shape[0] if leaf.ndim else 0 for leaf in leaves})
        if len(leading) != 1 or not leading[0]:
            raise RavineError(
                "the outputs of each example must be known apart: the leading dimension of every tensor that forward "
                f"returns is that of the examples; here they are {leading or 'none'}"
            )
        self.count = leading[0]
        self._shapes = [leaf.shape for leaf in leaves]

    def join(self, z: Any) -> Tensor:
        """Outputs, or something of their form, as a matrix."""
        return torch.cat([leaf.reshape(self.count, -1) for leaf in tree_flatten(z)[0]], 1)

    def split(self, matrix: Tensor) -> Any:
        """The matrix in the form of the outputs."""
        parts = torch.split(matrix, [shape[1:].numel() for shape in self._shapes], 1)
        leaves = [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)]
        return tree_unflatten(leaves, self._spec)


def of_criterion(judge: Judge, matrix: Tensor) -> Tensor:
    """Factors of the criterion's own second derivative in each example's outputs, exactly.

    Raises `RavineError` where the criterion couples examples or is not convex in their outputs.
    """
    count, numbers = matrix.shape
    if numbers > _WIDEST or count * numbers**2 > _MOST:
        raise RavineError(
            f"{count} examples have outputs of {numbers} numbers each: that is too many for their exact second "
            f"derivatives (up to {_WIDEST} numbers, and {_MOST:.1g} second derivatives in a batch): give sample="
        )
    refuse_coupled(judge, matrix)
    values, vectors = torch.linalg.eigh(checked(lambda: _second(judge, matrix)))
    scale = float(values.abs().max())
    eps = torch.finfo(values.dtype).eps
    if float(values.min()) < -1e3 * eps * scale:
        raise RavineError(
            f"the criterion is not convex in the outputs (its least second derivative is {float(values.min()):.3g}): "
            "there are no Kronecker factors; gauss_newton and hessian take it as it is"
        )
    values = values.clamp(min=0.0)
    factors: Tensor = (vectors * values.sqrt().unsqueeze(-2)).permute(2, 0, 1)
    return factors[(values > 10 * eps * scale).any(0)]


def _second(judge: Judge, matrix: Tensor) -> Tensor:
    """The second derivative in each example's outputs (examples, numbers, numbers), a row of all examples at a time.

    By a graph of the gradient: to linearize it would take longer than all rows together.
    """
    at = matrix.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(judge(at), at, create_graph=True, materialize_grads=True)
        if not gradient.requires_grad:
            return matrix.new_zeros(*matrix.shape, matrix.shape[1])
        sums = gradient.sum(0)
    rows = [torch.autograd.grad(one, at, retain_graph=True, materialize_grads=True)[0] for one in sums]
    return torch.stack(rows, 1)


def of_draws(
    criterion: Criterion, sample: Sample, rows: Rows, matrix: Tensor, batch: Any, seed: int, draws: int
) -> Tensor:
    """Factors of the outputs' Fisher information from targets drawn from the model's own predictions.

    A target drawn has a gradient of mean 0 and is independent of others, so that `count` times the square of the mean's
    gradient has the expectation of one target's (the argument of Liu et al. 2023, arXiv 2305.14342, for Sophia-G).
    """
    found = []
    with _seeded(seed, matrix.device):
        for _ in range(draws):
            drawn, count = sample(rows.split(matrix), batch)
            found.append(math.sqrt(count / draws) * _gradient(criterion, rows, matrix, drawn))
    return torch.stack(found)


def of_targets(criterion: Criterion, rows: Rows, matrix: Tensor, batch: Any) -> Tensor:
    """Factors of the mean of outer products of examples' gradients, at the targets of the data."""
    refuse_coupled(lambda m: criterion(rows.split(m), batch).reshape(()), matrix)
    return math.sqrt(rows.count) * _gradient(criterion, rows, matrix, batch).unsqueeze(0)


def _gradient(criterion: Criterion, rows: Rows, matrix: Tensor, batch: Any) -> Tensor:
    found: Tensor = torch.func.grad(lambda m: criterion(rows.split(m), batch).reshape(()))(matrix)
    return found


def seed_from(generator: torch.Generator | None) -> int:
    """A seed drawn from the caller's generator, or torch's own."""
    device = generator.device if generator is not None else "cpu"
    return int(torch.randint(2**62, (), generator=generator, device=device))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, torch's global generators are at `seed`; afterwards they go on as if nothing had been drawn."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def refuse_coupled(judge: Judge, matrix: Tensor) -> None:
    """Raise where the gradient in an example's outputs depends on other examples' outputs: no mean over examples."""
    if len(matrix) < 2:
        return
    matrix = matrix.detach()
    moved, pairs = matrix.clone(), len(matrix) // 2
    moved[1 : 2 * pairs : 2] = (matrix[1 : 2 * pairs : 2] + matrix[0 : 2 * pairs : 2]) / 2
    gradient = torch.func.grad(judge)
    before, after = gradient(matrix)[::2], gradient(moved)[::2]
    if float((before - after).abs().max()) > torch.finfo(matrix.dtype).eps ** 0.75 * float(before.abs().max()):
        raise RavineError(
            "the criterion is not a mean over examples: the gradient in one example's outputs depends on the outputs "
            "of others; gauss_newton and hessian take it as it is"
        )


def refuse_mixing(model: nn.Module, instead: str) -> None:
    """Raise where batch norm makes each example's outputs depend on the whole batch."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            raise RavineError(
                f"batch norm in train mode ({name or 'the model'}) makes each example's outputs depend on the whole "
                f"batch, so examples have no gradients of their own: {instead}"
            )
