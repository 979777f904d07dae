"""The Hessian of a plain function at a point."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.linear import hessian_product
from ravine.curvature.twice import checked


def of_function(f: Callable[[Tensor], Tensor], x: Tensor) -> Operator:
    """The Hessian of the scalar function f at x, as a map on vectors of x's numbers in their order.

    >>> import torch
    >>> of_function(lambda x: (x**4).sum(), torch.tensor([1.0, 2.0])).dense()
    tensor([[12.,  0.],
            [ 0., 48.]])
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise RavineError(f"x must be a tensor of floating-point numbers, got {getattr(x, 'dtype', type(x).__name__)}")
    at = x.detach().clone()
    with torch.no_grad():
        value = f(at)
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise RavineError(f"f must return a scalar tensor, got {found}")
    if not torch.isfinite(value):
        raise RavineError(f"f(x) is {value.item()}: curvature has no meaning there")
    product = checked(lambda: hessian_product(lambda values: f(values[0]).reshape(()), (at,)))

    def apply(block: Tensor) -> Tensor:
        columns = [(column.reshape(at.shape).contiguous(),) for column in block.T]
        return torch.stack([checked(partial(product, column))[0].reshape(-1) for column in columns], 1)

    return Operator(at.numel(), apply, dtype=at.dtype, device=at.device)
