"""The derivative of a function as a linear map, kept between products for as long as the parameters stay."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._pytree import tree_leaves, tree_map

from ravine.curvature.twice import refuse_once

Values = tuple[Tensor, ...]
Product = Callable[[Values], Values]
Scalar = Callable[[Values], Tensor]

_aten = torch.ops.aten
# Of these torch 2.13 has no derivative forwards, but of what they are made of.
_MADE = (_aten.silu_backward, _aten.mish_backward, _aten.native_group_norm_backward)


def linearize(function: Callable[..., Any], *at: Any) -> tuple[Any, Callable[..., Any]]:
    """torch.func.linearize, for a map that may be called more than once; NotImplementedError where there is none.

    Recurrent kernels write in place. torch 2.13 folds what they write to into the map's constants, so that from the
    second call on the map gives other numbers. `functionalize` prevents that in gradients; where it does not, the map
    is refused. Its warnings of its own bookkeeping are left out. What has no forward derivative says so untraced:
    while traced, an error of a kernel's ends the process (`mse_loss`, see `_forward`).
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Attempted to insert a get_attr Node")
        warnings.filterwarnings("ignore", ".*torch.jit.script")
        _differentiated(function, *at)
        found: tuple[Any, Callable[..., Any]] = torch.func.linearize(torch.func.functionalize(function), *at)
    probe = tree_map(lambda x: torch.linspace(-1, 1, x.numel(), dtype=x.dtype, device=x.device).view_as(x), at)
    first, second = (tree_leaves(found[1](*probe)) for _ in range(2))
    if not all(torch.equal(a, b) or not torch.isfinite(a).all() for a, b in zip(first, second, strict=True)):
        raise NotImplementedError("the linearized map writes to its own constants")
    return found


def _differentiated(function: Callable[..., Any], *at: Any) -> None:
    """The derivative forwards along `at`, once; it raises what linearizing would die of."""
    with forward_ad.dual_level():
        function(*tree_map(lambda x: forward_ad.make_dual(x, torch.ones_like(x)), at))  # type: ignore[no-untyped-call]


def hessian_product(loss: Scalar, at: Values) -> Product:
    """The map v -> H v of a scalar function at fixed values, for about two gradients a product.

    The graph of the gradient is kept and differentiated again. Linearizing forward over reverse costs as much a product
    (1.1 to 2.9 gradients beside 1.1 to 3.6), but torch.func.linearize traces for seconds where the graph is there
    after one gradient; so it serves where an operation has no second derivative in reverse. Neither is vmapped over a
    block of vectors: on torch 2.13 that fails for convolutions and embeddings, and it saves nothing.
    """
    return first_that_works(  # type: ignore[no-any-return]
        lambda: _reverse(loss, at), lambda: _forward(loss, at)
    )


def first_that_works(make: Callable[[], Callable[..., Any]], other: Callable[[], Callable[..., Any]]) -> Any:
    """The map that `make` makes; where that fails, or its first call, the one that `other` makes.

    Where both fail, what the first has to say is raised.
    """
    try:
        made: Callable[..., Any] | None = make()
    except (NotImplementedError, RuntimeError) as error:
        return _instead(other, error)
    sure = False

    def product(*v: Any) -> Any:
        nonlocal made, sure
        if sure:
            return made(*v)  # type: ignore[misc]
        try:
            result = made(*v)  # type: ignore[misc]
        except (NotImplementedError, RuntimeError) as error:
            made = None  # what it holds is not needed any more
            made = _instead(other, error)
            result = made(*v)
        sure = True
        return result

    return product


def _instead(other: Callable[[], Callable[..., Any]], error: Exception) -> Callable[..., Any]:
    try:
        return other()
    except (NotImplementedError, RuntimeError):
        raise error from None


def _forward(loss: Scalar, at: Values) -> Product:
    """The seed of the backward pass is a variable too: `mse_loss` has no second derivative along a constant seed."""

    def gradient(seed: Tensor, *values: Tensor) -> Any:
        pulling: tuple[Any, ...] = torch.func.vjp(lambda *values: loss(values), *values)
        return pulling[1](seed)

    seed = torch.ones((), dtype=at[0].dtype, device=at[0].device)
    _, product = linearize(taken_apart(gradient, seed, *at), seed, *at)
    return lambda v: tuple(product(torch.zeros_like(seed), *v))


def taken_apart(function: Callable[..., Any], *at: Any) -> Callable[..., Any]:
    """The function as a graph without in-place writes, of operations that can be differentiated forwards."""
    from torch._decomp import get_decompositions  # with sympy behind it, which takes long to import
    from torch.fx.experimental.proxy_tensor import make_fx

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Attempted to insert a get_attr Node")
        plain: Any = get_decompositions(_MADE)
        made: Callable[..., Any] = make_fx(torch.func.functionalize(function), plain)(*at)
    return made


def _reverse(loss: Scalar, at: Values) -> Product:
    values = tuple(value.detach().requires_grad_() for value in at)
    with torch.enable_grad():
        value = loss(values)
        refuse_once(value)
        gradient = torch.autograd.grad(value, values, create_graph=True, materialize_grads=True)
    curved = [(g, i) for i, g in enumerate(gradient) if g.requires_grad]

    def product(v: Values) -> Values:
        if not curved:
            return tuple(torch.zeros_like(value) for value in at)
        return torch.autograd.grad(
            [g for g, _ in curved], values, [v[i] for _, i in curved], retain_graph=True, materialize_grads=True
        )

    refuse_ends([g for g, _ in curved])
    return product


def refuse_ends(gradients: list[Tensor]) -> None:
    """Raise where the graph of the gradients ends at a function that can be differentiated once only.

    torch would say so where nothing else led to the parameters, and leave its part out in silence where something does.
    """
    waiting: list[Any] = [g.grad_fn for g in gradients]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "Error":
            raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")
        waiting += [following for following, _ in node.next_functions]
