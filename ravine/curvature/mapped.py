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
from ravine.curvature.symmetric import check_symmetric
from ravine.curvature.twice import checked, refuse_cut, refuse_once

Make = Callable[[Any], Product]
"""From a batch to the product at the parameters' present values."""


def mapped(problem: Problem, data: Data, make: Make, keep: bool) -> Operator:
    """The operator whose product is the mean over examples of the products on each batch.

    What a product needs is kept for a single batch, and for several with `keep`; it is made anew when a parameter, a
    buffer or a mode of the model has changed since. Before the first product of all, the first batch's is seen to be
    symmetric, for two products.
    """
    kept: dict[int, Product] = {}
    used: set[int] = set()
    seen: list[Any] = [None]
    sure: list[bool] = []

    def product_on(number: int, batch: Any) -> Product:
        if number not in kept:
            made = make(batch)
            if not (keep or data.single):
                return made
            kept[number] = made
        return kept[number]

    def image(product: Product, v: Tensor) -> Tensor:
        return problem.join(checked(partial(product, problem.split(v))))

    def on_batch(number: int, batch: Any, block: Tensor) -> Tensor:
        product = product_on(number, batch)
        if not sure:
            check_symmetric(lambda v: image(product, v), problem.size, problem.dtype, problem.device)
            sure.append(True)
        images = [image(product, column.contiguous()) for column in block.T]
        used.add(number)
        return images[0].unsqueeze(1) if len(images) == 1 else torch.stack(images, 1)

    def over_all(block: Tensor) -> Tensor:
        if data.single:
            return next(on_batch(0, batch, block) for batch, _ in data)
        total, count = torch.zeros_like(block), 0
        for number, (batch, size) in enumerate(data):
            total += size * on_batch(number, batch, block)
            count += size
        return total / count

    def now() -> tuple[Any, ...]:
        return problem.version(), problem.sums() if keep or data.single else ()

    def apply(block: Tensor) -> Tensor:
        if seen[0] != (version := now()):
            kept.clear()
            used.clear()
            seen[0] = version
        if data.single and used:  # what is kept does not evaluate the model again
            return over_all(block)
        with at_rest(problem.model):
            found = over_all(block)
        seen[0] = now()
        return found

    return Operator(problem.size, apply, dtype=problem.dtype, device=problem.device, slices=problem.slices)


def check_loss(problem: Problem, data: Data, loss: Callable[[nn.Module, Any], Tensor], twice: bool = False) -> float:
    """The mean loss, read twice: raises unless it is a finite scalar of the parameters that comes out the same.

    It draws no random numbers either: what it draws may not matter at these parameters, and yet to their curvature.
    twice: raise where a function in it is known to be differentiable once only.
    """
    if not callable(loss):
        raise RavineError(f"the loss must be a function loss(model, batch), got {loss!r:.80}")
    with torch.random.fork_rng([problem.device] if problem.device.type == "cuda" else []):
        drawn: list[bool] = []
        first = _read(problem, data, partial(_first, problem, loss, twice, []), drawn)
        drawn.clear()
        second = _read(problem, data, loss, drawn)
    close = 1e-9 if problem.dtype == torch.float64 else 1e-4
    if any(drawn) or abs(first - second) > close * max(1e-8, abs(first)):
        raise RavineError(_unsteady(problem.model, data, first, second, any(drawn)))
    return first


def _first(
    problem: Problem, loss: Callable[..., Any], twice: bool, seen: list[bool], model: nn.Module, batch: Any
) -> Any:
    """The loss on the first batch with its graph, which is looked at; on others without."""
    if seen:
        return loss(model, batch)
    seen.append(True)
    values = tuple(value.requires_grad_() for value in problem.values())
    with torch.enable_grad():
        value = problem.call(loss, values, batch)
    if isinstance(value, Tensor) and value.numel() == 1 and torch.isfinite(value):
        refuse_cut(value, values)
        if twice:
            refuse_once(value)
    return value


def _read(problem: Problem, data: Data, loss: Callable[[nn.Module, Any], Any], drawn: list[bool]) -> float:
    total, count = 0.0, 0
    with at_rest(problem.model), torch.no_grad():
        for batch, size in data:
            before = random_state(problem.device)
            try:
                value = loss(problem.model, batch)
            except Exception as error:
                if data.hint and not isinstance(error, RavineError):
                    raise RavineError(f"the loss fails on the batch ({error}): {data.hint}") from error
                raise
            drawn.append(not torch.equal(before, random_state(problem.device)))
            if not isinstance(value, Tensor) or value.numel() != 1:
                found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise RavineError(f"the loss must be a scalar tensor, the mean over the batch; got {found}")
            if not torch.isfinite(value):
                raise RavineError(f"the loss is {value.item()}: curvature has no meaning there")
            total += size * value.item()
            count += size
    if not count:
        raise RavineError("the batches hold no examples")
    return total / count


def random_state(device: torch.device) -> Tensor:
    """Where torch's global generators stand, the device's own among them."""
    state = torch.get_rng_state()
    return torch.cat([state, torch.cuda.get_rng_state(device)]) if device.type == "cuda" else state


def _unsteady(model: nn.Module, data: Data, first: float, second: float, drawn: bool) -> str:
    noisy = [
        f"{name or 'the model'} ({type(module).__name__})" for name, module in model.named_modules() if draws(module)
    ]
    said = f"the loss is not the same when it is read twice: {first:.6g}, then {second:.6g}. "
    if drawn and first == second:
        said = "the loss draws random numbers, even if they do not show in its value here. "
    if noisy:
        return f"{said}Drawing at random: {', '.join(noisy[:5])}; call model.eval(), or set its probability to 0"
    if not data.single and not drawn:
        return f"{said}The data differ from pass to pass: give batches that hold the same examples each time"
    return f"{said}Something in the model or the loss draws at random or keeps a state"


def draws(module: nn.Module) -> bool:
    """Whether a module drops at random as it stands."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.training and module.p > 0
    share = getattr(module, "dropout", 0.0)
    return module.training and ("Drop" in type(module).__name__ or (isinstance(share, float) and share > 0))
