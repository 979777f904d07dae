"""The Hessian of a plain function at a point."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.linear import hessian_product
from ravine.curvature.mapped import random_state
from ravine.curvature.symmetric import check_symmetric
from ravine.curvature.twice import checked, refuse_cut
from ravine.engine.twice import twice_differentiable


def of_function(f: Callable[[Tensor], Tensor], x: Tensor) -> Operator:
    """The Hessian of the scalar function f at x, as a map on vectors of x's numbers in their order.

    >>> import torch
    >>> of_function(lambda x: (x**4).sum(), torch.tensor([1.0, 2.0])).dense()
    tensor([[12.,  0.],
            [ 0., 48.]])
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise RavineError(f"x must be a tensor of floating-point numbers, got {getattr(x, 'dtype', type(x).__name__)}")
    if not callable(f):
        raise RavineError(f"f must be a function of a tensor, got {f!r:.80}")
    at = x.detach().clone()
    value = _read(f, at)
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise RavineError(f"f must return a scalar tensor, got {found}")
    if not torch.isfinite(value):
        raise RavineError(f"f(x) is {value.item()}: curvature has no meaning there")
    with twice_differentiable():
        product = checked(lambda: hessian_product(lambda values: f(values[0]).reshape(()), (at,)))
    sure: list[bool] = []

    def image(v: Tensor) -> Tensor:
        return checked(partial(product, (v.reshape(at.shape).contiguous(),)))[0].reshape(-1)

    def apply(block: Tensor) -> Tensor:
        with twice_differentiable():  # where reverse fails at the first product, f is evaluated once more
            if not sure:
                check_symmetric(image, at.numel(), at.dtype, at.device)
                sure.append(True)
            return torch.stack([image(column) for column in block.T], 1)

    return Operator(at.numel(), apply, dtype=at.dtype, device=at.device)


def _read(f: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """f(x), with a look at its graph; raises where f draws random numbers, which each product would draw anew."""
    leaf = at.clone().requires_grad_()
    with torch.random.fork_rng([at.device] if at.device.type == "cuda" else []):
        before = random_state(at.device)
        with torch.enable_grad(), twice_differentiable():
            value = f(leaf)
        drawn = not torch.equal(before, random_state(at.device))
    if drawn:
        raise RavineError("f draws random numbers, so that it is another function each time: draw them before, once")
    if isinstance(value, Tensor) and value.numel() == 1 and torch.isfinite(value):
        refuse_cut(value, [leaf])
    return value
