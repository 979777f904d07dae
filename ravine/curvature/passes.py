"""Passes through data that see, at each layer, the inputs and the gradients of which Kronecker factors are made."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.errors import RavineError
from ravine.curvature.batches import Size
from ravine.curvature.batches import data as batches
from ravine.curvature.chance import check_count
from ravine.curvature.layers import Layer, layers, seen
from ravine.curvature.mapped import check_loss
from ravine.curvature.outputs import (
    Criterion,
    Rows,
    Sample,
    of_criterion,
    of_draws,
    of_targets,
    refuse_mixing,
    seed_from,
)
from ravine.curvature.problem import Params, Problem, at_rest

Parts = dict[str, list[Tensor]]
"""By layer, for each of its uses, a tensor (examples, positions, numbers)."""


@dataclass(frozen=True)
class Pass:
    """One batch: its number of examples, and of rows of outputs; inputs, and gradients for each factor in turn.

    matrix and factors: the outputs, in the graph of `values`, and the factors of the curvature in them.
    """

    size: int
    rows: int
    inputs: Parts
    gradients: Iterator[Parts]
    matrix: Tensor
    factors: Tensor
    values: tuple[Tensor, ...]


class Passes:
    """A model with its data, and its layers with Kronecker factors.

    The curvature in the outputs is the criterion's own, or what `draws` draws by `sample` say.
    """

    def __init__(
        self,
        model: nn.Module,
        forward: Callable[[nn.Module, Any], Any],
        criterion: Criterion,
        data: Any,
        params: Params,
        size: Size,
        sample: Sample | None,
        generator: torch.Generator | None,
        draws: int,
    ) -> None:
        check_count("draws", draws, 1)
        self.problem, self.data = Problem(model, params), batches(data, size)
        if sample is None and draws != 1:
            raise RavineError(f"draws={draws} says how often to draw by sample=, which is not given")
        if sample is None:
            refuse_mixing(self.problem.model, "call eval() on it, or give sample=")
        self._forward, self._criterion, self._sample, self._draws = forward, criterion, sample, draws
        self._seed = seed_from(generator) if sample else 0
        check_loss(self.problem, self.data, lambda model, batch: criterion(forward(model, batch), batch))
        self.layers, self.left_out = layers(self.problem)
        self.total = sum(size for _, size in self.data)

    def each(self, see: Callable[[Pass], None]) -> None:
        """Go through the data, showing every batch to `see`."""
        with at_rest(self.problem.model):
            for number, (batch, size) in enumerate(self.data):
                one = self.on(batch, size, self._seed + number, leave_out=not number)
                with torch.no_grad():
                    see(one)

    @torch.enable_grad()
    def on(self, batch: Any, size: int, seed: int, leave_out: bool = False, empirical: bool = False) -> Pass:
        """The pass through one batch, with draws from `seed`; inside `at_rest`. The first has to `leave_out` layers.

        empirical: the factors are those of the mean of outer products of examples' gradients at the batch's targets.
        """
        values = tuple(value.requires_grad_() for value in self.problem.values())
        with seen(self.layers) as uses:
            z = self.problem.call(self._forward, values, batch)
        rows = Rows(z)
        matrix = rows.join(z)
        if leave_out:
            self._leave_out(uses, matrix, values)
        if empirical:
            factors = of_targets(self._criterion, rows, matrix.detach(), batch)
        else:
            factors = self._factors(rows, matrix.detach(), batch, seed)
        inputs = {name: [layer.inputs(a) for a in uses[name].inputs] for name, layer in self.layers.items()}
        outputs = {name: uses[name].outputs for name in self.layers}
        gradients = self._gradients(matrix, outputs, factors)
        return Pass(size, rows.count, inputs, gradients, matrix, factors, values)

    def _factors(self, rows: Rows, matrix: Tensor, batch: Any, seed: int) -> Tensor:
        if self._sample is None:
            return of_criterion(lambda m: self._criterion(rows.split(m), batch).reshape(()), matrix)
        return of_draws(self._criterion, self._sample, rows, matrix, batch, seed, self._draws)

    def _gradients(self, matrix: Tensor, outputs: Mapping[str, list[Tensor]], factors: Tensor) -> Iterator[Parts]:
        known = dict(self.layers)  # as they are now: ekfac leaves out some before it looks at these

        def pulled(factor: Tensor) -> Parts:
            found = _pulled(matrix, outputs, factor)
            return {name: [known[name].outputs(g) for g in parts] for name, parts in found.items()}

        return map(pulled, factors)

    def _leave_out(self, uses: Mapping[str, Any], matrix: Tensor, values: tuple[Tensor, ...]) -> None:
        """Leave out layers whose use does not account for the whole gradient of their parameters."""
        probe = torch.linspace(-1, 1, matrix.numel(), dtype=matrix.dtype, device=matrix.device).view_as(matrix)
        whole = self.problem.join(torch.autograd.grad(matrix, values, probe, retain_graph=True, materialize_grads=True))
        called = {name: uses[name].outputs for name in self.layers if uses[name].outputs}
        used = {name: outputs for name, outputs in called.items() if all(s.requires_grad for s in outputs)}
        pulled = _pulled(matrix, used, probe)
        for name, layer in list(self.layers.items()):
            reason = "" if name in called else "its layer is never called"
            if not reason and name not in used:
                reason = "its layer is called where gradients are switched off"
            if not reason and not _accounts(layer, uses[name].inputs, pulled[name], whole[layer.place]):
                reason = "it is used outside of its layer too"
            if reason:
                del self.layers[name]
                self.left_out |= dict.fromkeys(layer.parameters, reason)


def _pulled(matrix: Tensor, outputs: Mapping[str, list[Tensor]], factor: Tensor) -> dict[str, list[Tensor]]:
    """The gradients of `factor`ed outputs in what comes out of each layer."""
    flat = [s for parts in outputs.values() for s in parts]
    if not flat:
        return {}
    found = iter(torch.autograd.grad(matrix, flat, factor, retain_graph=True, materialize_grads=True))
    return {name: [next(found) for _ in parts] for name, parts in outputs.items()}


def _accounts(layer: Layer, inputs: list[Tensor], gradients: list[Tensor], whole: Tensor) -> bool:
    found = torch.zeros_like(whole)
    for a, g in zip(inputs, gradients, strict=True):
        found += layer.outputs(g).flatten(0, 1).T @ layer.inputs(a).flatten(0, 1)
    close = float(torch.finfo(whole.dtype).eps) ** 0.4  # products may run in TF32
    return bool((found - whole).norm() <= close * whole.norm())
