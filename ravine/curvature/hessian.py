"""The Hessian of a loss in a model's parameters."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ravine.core.operator import Operator
from ravine.curvature.batches import Size
from ravine.curvature.batches import data as batches
from ravine.curvature.linear import Product, hessian_product
from ravine.curvature.mapped import check_loss, mapped
from ravine.curvature.problem import Params, Problem
from ravine.curvature.twice import checked


def hessian(
    model: nn.Module,
    loss: Callable[[nn.Module, Any], Tensor],
    data: Any,
    params: Params = None,
    *,
    size: Size = None,
    keep: bool = False,
) -> Operator:
    """H = ∂²L/∂θ², L the mean loss over `data`, as a map on flat vectors of the parameters in the model's order.

    loss(model, batch) is the mean over the batch. data: one batch, or an iterable of batches that can be read again;
    batches are weighted by their size. params: names of parameters or modules, or parameters; all trainable ones
    unless given. size(batch): the number of examples, where tensors' leading dimensions do not tell. keep: keep what
    products need for several batches too, which takes memory for all of them.

    The model is left as it is; train mode is respected. Raises `RavineError` for a loss that is no finite scalar, that
    changes from one reading to the next, or that cannot be differentiated twice.

    >>> import torch, ravine
    >>> model = torch.nn.Linear(3, 1).double()
    >>> x, y = torch.randn(8, 3).double(), torch.randn(8, 1).double()
    >>> H = hessian(model, lambda model, batch: ((model(batch[0]) - batch[1]) ** 2).mean(), (x, y))
    >>> bool(torch.allclose(H.dense()[:3, :3], 2 * x.T @ x / 8))
    True
    """
    problem, source = Problem(model, params), batches(data, size)
    check_loss(problem, source, loss, twice=True)

    def make(batch: Any) -> Product:
        def scalar(values: tuple[Tensor, ...]) -> Tensor:
            value: Tensor = problem.call(loss, values, batch)
            return value.reshape(())

        return checked(lambda: hessian_product(scalar, problem.values()))

    return mapped(problem, source, make, keep)
