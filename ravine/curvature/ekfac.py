"""E-KFAC: the eigenbasis of K-FAC with the values that fit it best."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ravine.curvature.batches import Size
from ravine.curvature.kfac import factors
from ravine.curvature.kronecker import Eigenbasis, Factors, Kronecker
from ravine.curvature.outputs import Criterion, Sample, refuse_mixing
from ravine.curvature.passes import Pass, Passes
from ravine.curvature.problem import Params

_AT_ONCE = 2**24  # numbers of examples' gradients that are held together


def ekfac(
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
    """For each layer Q diag S Qᵀ, with Q = Q_A ⊗ Q_G the eigenvectors of K-FAC's factors, and S the second moments of
    the examples' gradients in that basis: of all diagonals the one nearest to the curvature's block, so that it is at
    least as near as K-FAC (George et al. 2018, arXiv 1806.03884).

    It goes through the data twice. Positions at which an example shares weights count together in S. The arguments and
    the result are those of `ravine.curvature.kfac`, with `.layers["name"].QA`, `.QG` and `.S`.
    """
    passes = Passes(model, forward, criterion, data, params, size, sample, generator, draws)
    refuse_mixing(passes.problem.model, "call eval() on it, or take kfac with sample=")
    bases = {name: _basis(found) for name, found in factors(passes).items()}

    def see(one: Pass) -> None:
        _leave_out(passes, one)
        called = [name for name in passes.layers if one.inputs[name]]
        inputs = {name: torch.cat([a @ bases[name].QA for a in one.inputs[name]], 1) for name in called}
        for gradients in one.gradients:
            for name, a in inputs.items():
                g = torch.cat([g @ bases[name].QG for g in gradients[name]], 1)
                bases[name].S.add_(squares(g, a), alpha=one.size / passes.total)

    passes.each(see)
    return Kronecker(passes.problem, {name: bases[name] for name in passes.layers}, passes.left_out)


def _basis(found: Factors) -> Eigenbasis:
    QA, QG = torch.linalg.eigh(found.A)[1], torch.linalg.eigh(found.G)[1]
    return Eigenbasis(found.place, QA, QG, found.A.new_zeros(found.place.shape))


def squares(g: Tensor, a: Tensor) -> Tensor:
    """Σ_n (Σ_t g_nt a_ntᵀ)², number by number, of g (examples, positions, outputs) and a (examples, positions, inputs).

    That is, the sum of the squares of the examples' gradients in a layer's weights.
    """
    if g.shape[1] == 1:
        return g[:, 0].square().T @ a[:, 0].square()
    step = max(1, _AT_ONCE // (g.shape[2] * a.shape[2]))
    found = g.new_zeros(g.shape[2], a.shape[2])
    for start in range(0, len(g), step):
        rows = slice(start, start + step)
        found += (g[rows].mT @ a[rows]).square().sum(0)
    return found


def _leave_out(passes: Passes, one: Pass) -> None:
    """Leave out layers that see something other than one row for each example, whose gradients are not known apart."""
    for name, layer in list(passes.layers.items()):
        if any(len(a) != one.rows for a in one.inputs[name]):
            del passes.layers[name]
            reason = "its inputs have a leading dimension other than that of the examples"
            passes.left_out |= dict.fromkeys(layer.parameters, reason)
