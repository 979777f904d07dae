"""K-FAC: for each layer the Kronecker product of two small matrices."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ravine.curvature.batches import Size
from ravine.curvature.kronecker import Factors, Kronecker
from ravine.curvature.outputs import Criterion, Sample
from ravine.curvature.passes import Pass, Passes
from ravine.curvature.problem import Params


def kfac(
    model: nn.Module,
    forward: Callable[[nn.Module, Any], Any],
    criterion: Criterion,
    data: Any,
    params: Params = None,
    *,
    sample: Sample | None = None,
    generator: torch.Generator | None = None,
    draws: int = 1,
    size: Size = None,
) -> Kronecker:
    """For each layer A ⊗ G, with A = E[ā āᵀ] of its inputs ā (a last 1 for the bias) and G the Gauss-Newton matrix in
    its outputs (Martens & Grosse 2015, arXiv 1503.05671; convolutions: Grosse & Martens 2016, arXiv 1602.01407).

    The curvature in the outputs is the criterion's own, exactly, which takes a backward pass for each number of an
    example's outputs: for cross-entropy and squared error this is the true Fisher. With sample(outputs, batch), as
    `Task.sample` has it, it is that of `draws` draws of targets, a backward pass each, as in the paper.

    Layers are Linear, Conv1d and Conv2d; `left_out` says why other parameters are not in it. Where weights are shared
    over positions or several calls, each is taken as independent of the others ("expand", Eschenhagen et al. 2023,
    arXiv 2311.00636).
    The result has the factors (`.layers["name"].A`, `.G`) and `.inverse(damping)`; it is that of the parameters as they
    are now. The other arguments and errors are those of `ravine.curvature.gauss_newton`.

    >>> import torch, ravine
    >>> model, batch = torch.nn.Linear(3, 2).double(), (torch.randn(1, 3).double(), torch.tensor([1]))
    >>> given = (model, lambda model, batch: model(batch[0]), lambda z, b: torch.nn.functional.cross_entropy(z, b[1]))
    >>> bool(torch.allclose(kfac(*given, batch).dense(), ravine.curvature.gauss_newton(*given, batch).dense()))
    True
    """
    passes = Passes(model, forward, criterion, data, params, size, sample, generator, draws)
    layers = factors(passes)
    return Kronecker(passes.problem, layers, passes.left_out)


def factors(passes: Passes) -> dict[str, Factors]:
    """The factors of each layer, the mean over all examples."""
    A: dict[str, Tensor] = {}
    G: dict[str, Tensor | float] = {}
    positions: dict[str, int] = {}

    def see(one: Pass) -> None:
        for name, (a, count, g) in moments(one).items():
            A[name] = A.get(name, 0) + a
            positions[name] = positions.get(name, 0) + count
            G[name] = G.get(name, 0) + one.size / passes.total * g

    passes.each(see)
    found = {}
    for name, layer in passes.layers.items():
        side = layer.place.shape[0]
        zero = A[name].new_zeros(side, side)  # of a criterion without curvature
        found[name] = Factors(layer.place, A[name] / positions[name], G[name] + zero)
    return found


def moments(one: Pass) -> dict[str, tuple[Tensor, int, Tensor | float]]:
    """Of each layer Σ ā āᵀ over examples and positions, their number, and G, in one batch."""
    found: dict[str, tuple[Tensor, int, Tensor | float]] = {}
    gradients = list(one.gradients)
    for name, inputs in one.inputs.items():
        rows = [a.flatten(0, 1) for a in inputs]
        back = [g.flatten(0, 1) for parts in gradients for g in parts[name]]
        A = sum((a.T @ a for a in rows[1:]), start=rows[0].T @ rows[0])
        found[name] = A, sum(map(len, rows)), sum(g.T @ g for g in back)
    return found
