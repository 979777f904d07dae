"""From a product on one batch to an operator over all of them: weights, what is kept between products, checks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.batches import Data
from ravine.curvature.linear import Product
from ravine.curvature.problem import Problem, at_rest
from ravine.curvature.twice import checked

Make = Callable[[Any], Product]
"""From a batch to the product at the parameters' present values."""


def mapped(problem: Problem, data: Data, make: Make, keep: bool) -> Operator:
    """The operator whose product is the mean over examples of the products on each batch.

    What a product needs is kept for a single batch, and for several with `keep`; it is made anew when a parameter, a
    buffer or a mode of the model has changed since.
    """
    kept: dict[int, Product] = {}
    used: set[int] = set()
    seen: list[Any] = [None]

    def product_on(number: int, batch: Any) -> Product:
        if number not in kept:
            made = make(batch)
            if not (keep or data.single):
                return made
            kept[number] = made
        return kept[number]

    def on_batch(number: int, batch: Any, block: Tensor) -> Tensor:
        product = product_on(number, batch)
        columns = [problem.split(column.contiguous()) for column in block.T]
        images = [problem.join(checked(partial(product, column))) for column in columns]
        used.add(number)
        return images[0].unsqueeze(1) if len(images) == 1 else torch.stack(images, 1)

    def over_all(block: Tensor) -> Tensor:
        if not block.shape[1]:
            return torch.zeros_like(block)
        if data.single:
            return next(on_batch(0, batch, block) for batch, _ in data)
        total, count = torch.zeros_like(block), 0
        for number, (batch, size) in enumerate(data):
            total += size * on_batch(number, batch, block)
            count += size
        return total / count

    def apply(block: Tensor) -> Tensor:
        if seen[0] != (version := problem.version()):
            kept.clear()
            used.clear()
            seen[0] = version
        if data.single and used:  # what is kept does not evaluate the model again
            return over_all(block)
        with at_rest(problem.model):
            found = over_all(block)
        seen[0] = problem.version()
        return found

    return Operator(problem.size, apply, dtype=problem.dtype, device=problem.device, slices=problem.slices)


def check_loss(problem: Problem, data: Data, loss: Callable[[nn.Module, Any], Tensor]) -> float:
    """The mean loss, read twice: raises unless it is a finite scalar that comes out the same."""
    first, second = _read(problem, data, loss), _read(problem, data, loss)
    close = 1e-9 if problem.dtype == torch.float64 else 1e-4
    if abs(first - second) > close * max(1e-8, abs(first)):
        raise RavineError(_unsteady(problem.model, data, first, second))
    return first


def _read(problem: Problem, data: Data, loss: Callable[[nn.Module, Any], Tensor]) -> float:
    total, count = 0.0, 0
    with at_rest(problem.model), torch.no_grad():
        for batch, size in data:
            value = loss(problem.model, batch)
            if not isinstance(value, Tensor) or value.numel() != 1:
                found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise RavineError(f"the loss must be a scalar tensor, the mean over the batch; got {found}")
            if not torch.isfinite(value):
                raise RavineError(f"the loss is {value.item()}: curvature has no meaning there")
            total += size * value.item()
            count += size
    return total / count


def _unsteady(model: nn.Module, data: Data, first: float, second: float) -> str:
    noisy = [
        f"{name or 'the model'} ({type(module).__name__})" for name, module in model.named_modules() if draws(module)
    ]
    said = f"the loss is not the same when it is read twice: {first:.6g}, then {second:.6g}. "
    if noisy:
        return f"{said}Drawing at random: {', '.join(noisy[:5])}; call model.eval(), or set its probability to 0"
    if not data.single:
        return f"{said}The data differ from pass to pass: give batches that hold the same examples each time"
    return f"{said}Something in the model or the loss draws at random or keeps a state"


def draws(module: nn.Module) -> bool:
    """Whether a module drops at random as it stands."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.training and module.p > 0
    share = getattr(module, "dropout", 0.0)
    return module.training and ("Drop" in type(module).__name__ or (isinstance(share, float) and share > 0))
