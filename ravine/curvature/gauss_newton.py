"""The generalized Gauss-Newton matrix of a loss that is a criterion of the model's outputs."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp, vjp
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from ravine.core.operator import Operator
from ravine.curvature.batches import Size
from ravine.curvature.batches import data as batches
from ravine.curvature.linear import Product, first_that_works, hessian_product, linearize, refuse_ends, taken_apart
from ravine.curvature.mapped import check_loss, mapped
from ravine.curvature.problem import Params, Problem
from ravine.curvature.twice import checked

Values = tuple[Tensor, ...]


def gauss_newton(
    model: nn.Module,
    forward: Callable[[nn.Module, Any], Any],
    criterion: Callable[[Any, Any], Tensor],
    data: Any,
    params: Params = None,
    *,
    size: Size = None,
    keep: bool = False,
) -> Operator:
    """G = Jᵀ (∂²ℓ/∂z²) J, with J the Jacobian of the outputs z = forward(model, batch) in the parameters, and
    ℓ = criterion(z, batch), the mean over the batch (Schraudolph 2002).

    It is the Hessian without the term in the outputs' own curvature, and positive semi-definite where the criterion is
    convex in the outputs. Outputs may be a tensor, or tuples and dicts of tensors. The other arguments and errors are
    those of `ravine.curvature.hessian`.
    """
    problem, source = Problem(model, params), batches(data, size)
    check_loss(problem, source, lambda model, batch: criterion(forward(model, batch), batch))

    def make(batch: Any) -> Product:
        return checked(lambda: product_of(problem, forward, criterion, batch))

    return mapped(problem, source, make, keep)


def product_of(
    problem: Problem,
    forward: Callable[[nn.Module, Any], Any],
    criterion: Callable[[Any, Any], Tensor],
    batch: Any,
    at: Values | None = None,
) -> Product:
    """v -> G v on one batch, at the values `at`, or at the parameters for as long as they are not written to."""

    def curved(z: Any) -> Callable[[Any], Any]:
        leaves, shape = tree_flatten(z)
        product = hessian_product(
            lambda values: criterion(tree_unflatten(list(values), shape), batch).reshape(()), tuple(leaves)
        )
        return lambda u: tree_unflatten(list(product(tuple(tree_leaves(u)))), shape)

    return through_outputs(problem, forward, curved, batch, at)


def through_outputs(
    problem: Problem,
    forward: Callable[[nn.Module, Any], Any],
    curved: Callable[[Any], Callable[[Any], Any]],
    batch: Any,
    at: Values | None = None,
) -> Product:
    """v -> Jᵀ C J v, where curved(z) is the map u -> C u on things of the form of the outputs z."""
    at = problem.values() if at is None else at

    def outputs(*values: Tensor) -> Any:
        return problem.call(forward, values, batch)

    pulling: tuple[Any, Callable[..., Any]] = vjp(outputs, *at)  # type: ignore[assignment]  # without aux it is a pair
    z, pull = tree_map(lambda one: one.detach(), pulling[0]), pulling[1]
    push, curve = _pushed(outputs, at), curved(z)

    def product(v: Values) -> Values:
        return tuple(pull(curve(push(v)), retain_graph=True))

    return product


def inner_products(
    problem: Problem,
    forward: Callable[[nn.Module, Any], Any],
    criterion: Callable[[Any, Any], Tensor],
    batch: Any,
    vectors: Sequence[Tensor],
) -> Tensor:
    """vᵢᵀ G vⱼ (k, k) in float64, of few vectors (n,): J v is taken forwards, for about a gradient each."""
    at = problem.values()

    def outputs(*values: Tensor) -> Any:
        return problem.call(forward, values, batch)

    try:
        found = [jvp(outputs, at, problem.split(v)) for v in vectors]
        z, along = found[0][0], [one[1] for one in found]
    except (NotImplementedError, RuntimeError):  # some operation has no forward derivative
        push = _pushed_in_reverse(outputs, at)
        z, along = outputs(*at), [push(problem.split(v)) for v in vectors]
    leaves, shape = tree_flatten(z)
    curve = hessian_product(
        lambda values: criterion(tree_unflatten(list(values), shape), batch).reshape(()),
        tuple(leaf.detach() for leaf in leaves),
    )
    flat = [torch.cat([leaf.reshape(-1) for leaf in tree_leaves(u)]) for u in along]
    curved = [torch.cat([leaf.reshape(-1) for leaf in curve(tuple(tree_leaves(u)))]) for u in along]
    return (torch.stack(flat) @ torch.stack(curved).T).double()


def _pushed(outputs: Callable[..., Any], at: Values) -> Callable[[Values], Any]:
    """v -> J v, by differentiating u -> Jᵀ u, which is linear; where an operation does not allow it, forwards."""

    def forwards() -> Callable[[Values], Any]:
        _, push = linearize(taken_apart(outputs, *at), *at)
        return lambda v: push(*v)

    return first_that_works(lambda: _pushed_in_reverse(outputs, at), forwards)  # type: ignore[no-any-return]


def _pushed_in_reverse(outputs: Callable[..., Any], at: Values) -> Callable[[Values], Any]:
    """J v by differentiating u -> Jᵀ u, which is linear in u."""
    values = tuple(value.detach().requires_grad_() for value in at)
    with torch.enable_grad():
        z, shape = tree_flatten(outputs(*values))
        weights = [torch.zeros_like(one, requires_grad=True) for one in z]
        pulled = torch.autograd.grad(z, values, weights, create_graph=True, materialize_grads=True)
    used = [(g, i) for i, g in enumerate(pulled) if g.requires_grad]
    refuse_ends([g for g, _ in used])

    def push(v: Values) -> Any:
        found = torch.autograd.grad(
            [g for g, _ in used], weights, [v[i] for _, i in used], retain_graph=True, materialize_grads=True
        )
        return tree_unflatten(list(found), shape)

    return push
