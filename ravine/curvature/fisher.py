"""The Fisher information of a model's predictions, and its empirical namesake."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ravine.core.errors import RavineError, unknown
from ravine.core.operator import Operator
from ravine.curvature.batches import Data, Size, examples
from ravine.curvature.batches import data as batches
from ravine.curvature.chance import check_count
from ravine.curvature.gauss_newton import through_outputs
from ravine.curvature.linear import Product
from ravine.curvature.mapped import check_loss, mapped
from ravine.curvature.outputs import Criterion, Rows, Sample, of_draws, of_targets, refuse_mixing, seed_from
from ravine.curvature.problem import Params, Problem
from ravine.curvature.twice import checked

Forward = Callable[[nn.Module, Any], Any]
Curve = Callable[[Any], Any]
CurveAt = Callable[[Any, int, Any], Curve]
"""From outputs, the number of their batch and the batch to the curvature in them, a linear map."""
KINDS = ("true", "empirical")


def fisher(
    model: nn.Module,
    forward: Forward,
    criterion: Criterion,
    data: Any,
    params: Params = None,
    *,
    kind: str = "true",
    distribution: str | None = None,
    sample: Sample | None = None,
    generator: torch.Generator | None = None,
    draws: int = 1,
    size: Size = None,
    keep: bool = False,
) -> Operator:
    """F = E[∇log p ∇log pᵀ], the mean over the data (Amari 1998; the kinds are told apart by Kunstner et al. 2019,
    arXiv 1905.12558).

    kind="true": the expectation over targets of the model's own. It is taken exactly for distribution="categorical"
    (logits, classes in dimension 1), "bernoulli" (logits) or "gaussian" (of variance 1/2, which squared error means),
    a mean over all targets as torch's criteria have it; there it is the Gauss-Newton matrix. Else it is the mean of
    `draws` draws of targets by sample(outputs, batch), as `Task.sample` has it: the matrix is a random one, but the
    same at every product. Batches then have to come in the same order each time.

    kind="empirical": the mean of outer products of the examples' gradients at the targets of the data. The leading
    dimension of outputs is that of the examples, and an example's gradient is its part in the criterion's mean.

    The other arguments and errors are those of `ravine.curvature.hessian` and `gauss_newton`.
    """
    _check(kind, distribution, sample)
    check_count("draws", draws, 1)
    problem, source = Problem(model, params), _numbered(batches(data, size))
    if distribution is not None:
        curve_at = _closed(distribution)
    elif sample is not None:
        curve_at = _drawn(criterion, sample, seed_from(generator), draws)
    else:
        refuse_mixing(problem.model, "call eval() on it, or take kind='true'")
        curve_at = _of_targets(criterion, size)

    def make(numbered: Any) -> Product:
        return checked(lambda: through_outputs(problem, forward, lambda z: curve_at(z, *numbered), numbered[1]))

    def read(model: nn.Module, numbered: Any) -> Tensor:
        """The loss and the size of the curvature: both are to be the same at every pass through the data."""
        z = forward(model, numbered[1])
        curved = curve_at(z, *numbered)(tree_map(_same_in_rows, z))
        sizes = [part.abs().sum() for part in tree_leaves(curved)]
        return criterion(z, numbered[1]) + torch.stack(sizes).sum()

    check_loss(problem, source, read)
    return mapped(problem, source, make, keep)


def _same_in_rows(z: Tensor) -> Tensor:
    """Numbers of the form of z that are the same for each example, whose order is then no matter."""
    row = torch.linspace(-1, 2, z[0].numel(), dtype=z.dtype, device=z.device)
    return row.view_as(z[0]).expand_as(z)


def _closed(distribution: str) -> CurveAt:
    def curve_at(z: Any, number: int, batch: Any) -> Curve:
        if not isinstance(z, Tensor):
            raise RavineError(f"distribution='{distribution}' is that of one tensor of outputs, got {type(z).__name__}")
        return DISTRIBUTIONS[distribution](z)

    return curve_at


def _drawn(criterion: Criterion, sample: Sample, seed: int, draws: int) -> CurveAt:
    def curve_at(z: Any, number: int, batch: Any) -> Curve:
        rows = Rows(z)
        return _from_factors(rows, of_draws(criterion, sample, rows, rows.join(z), batch, seed + number, draws))

    return curve_at


def _of_targets(criterion: Criterion, size: Size) -> CurveAt:
    def curve_at(z: Any, number: int, batch: Any) -> Curve:
        rows = Rows(z)
        if rows.count != (expected := examples(batch, size)):
            raise RavineError(
                f"the outputs have a leading dimension of {rows.count}, but the batch has {expected} examples: let "
                "forward return a row for each example, and give size= if the number of examples is wrong"
            )
        return _from_factors(rows, of_targets(criterion, rows, rows.join(z), batch))

    return curve_at


def _check(kind: str, distribution: str | None, sample: Sample | None) -> None:
    if kind not in KINDS:
        raise unknown("kind of Fisher information", kind, KINDS)
    if distribution is not None and distribution not in DISTRIBUTIONS:
        raise unknown("distribution", distribution, DISTRIBUTIONS, "For any other give sample=.")
    if kind == "empirical" and (distribution is not None or sample is not None):
        raise RavineError(
            "the empirical Fisher takes the targets of the data: distribution= and sample= are for 'true'"
        )
    if kind == "true" and (distribution is None) == (sample is None):
        given = "neither" if sample is None else "both"
        raise RavineError(
            f"the true Fisher needs to know what the model predicts: give distribution= ({', '.join(DISTRIBUTIONS)}) "
            f"or sample=, got {given}"
        )


@dataclass(frozen=True)
class _Numbered:
    """Batches with their numbers, each of which draws from a seed of its own."""

    source: Iterable[Any]

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return enumerate(self.source)


def _numbered(data: Data) -> Data:
    return Data(_Numbered(data.source), lambda numbered: examples(numbered[1], data.size), data.single, data.hint)


def _from_factors(rows: Rows, factors: Tensor) -> Curve:
    def curve(u: Any) -> Any:
        along = (factors * rows.join(u)).sum(-1, keepdim=True)
        return rows.split((factors * along).sum(0))

    return curve


def _categorical(z: Tensor) -> Curve:
    """diag p - p pᵀ, p the softmax."""
    dim = 1 if z.ndim > 1 else 0
    p, count = z.softmax(dim), z.numel() / z.shape[dim]
    return lambda u: (p * u - p * (p * u).sum(dim, keepdim=True)) / count


def _bernoulli(z: Tensor) -> Curve:
    """p (1 - p), p the sigmoid."""
    p = z.sigmoid()
    return lambda u: p * (1 - p) * u / z.numel()


def _gaussian(z: Tensor) -> Curve:
    """1 / variance = 2."""
    return lambda u: 2 * u / z.numel()


DISTRIBUTIONS: dict[str, Callable[[Tensor], Curve]] = {
    "categorical": _categorical,
    "bernoulli": _bernoulli,
    "gaussian": _gaussian,
}
