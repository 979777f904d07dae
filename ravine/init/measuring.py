"""What one batch shows of every layer: the signal that goes forward, and the gradient that comes back."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.errors import RavineError
from ravine.init.observed import RECURRENT, Part, Rows

_ROWS, _EXAMPLES = 1024, 256  # so many at most for ranks, and for likenesses


@dataclass
class Heard:
    """What came out of a part: numbers of each call, and the outputs in the graph where these are the part's own."""

    part: Part
    values: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)


@dataclass
class Listening:
    """What was heard so far, in the order of execution; `last` is the part that spoke last.

    closed: nothing more is kept, as while activation checkpointing runs parts of the model anew for its gradients.
    """

    heard: dict[str, Heard] = field(default_factory=dict)
    inputs: dict[int, list[tuple[Any, Any]]] = field(default_factory=dict)
    last: Part | None = None
    closed: bool = False


@dataclass(frozen=True)
class Signal:
    """One layer on one batch.

    std: of its outputs. across: their standard deviation across examples, the root of the mean variance over outputs.
    likeness: the mean cosine between the outputs of two examples. rank: the participation ratio of the outputs'
    covariance, of `most` that there could be. gradient: standard deviation of the loss gradient in the outputs,
    arriving: its norm. slope: of its weights' gradient the norm, per_weight its root mean square.
    """

    name: str
    kind: str
    units: int
    std: float
    across: float
    likeness: float
    rank: float
    most: int
    gradient: float | None
    arriving: float | None
    slope: float | None
    per_weight: float | None


@contextmanager
def listening(parts: Mapping[str, Part]) -> Iterator[Listening]:
    """Inside, what goes through the parts is kept. The model goes on with copies, so that nothing overwrites it.

    Gradients are to be taken inside too: activation checkpointing compares what is run anew with what ran before.
    """
    found = Listening()
    groups: dict[int, list[Part]] = {}
    for part in parts.values():
        groups.setdefault(id(part.module), []).append(part)

    def hook(module: nn.Module, arguments: Any, keywords: Any, output: Any) -> Any:
        several = isinstance(output, tuple)
        outputs, output = _kept(output)
        if found.closed:
            return output
        for part in groups[id(module)]:
            heard = found.heard.setdefault(part.name, Heard(part))
            with torch.no_grad():
                heard.values.append(part.see(arguments, keywords, outputs if several else outputs[0]).detach())
            found.last = part
        heard.outputs.append(outputs[0])
        if isinstance(module, RECURRENT):
            heard.states.extend(outputs[1:])
        found.inputs.setdefault(id(module), []).append((arguments, keywords))
        return output

    handles = []
    try:
        for module in {id(part.module): part.module for part in parts.values()}.values():
            handles.append(module.register_forward_hook(hook, with_kwargs=True))
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _kept(output: Any) -> tuple[list[Tensor], Any]:
    """The tensors of an output as they are, and the same output made of copies."""
    if isinstance(output, Tensor):
        return [output], output.clone()
    if isinstance(output, nn.utils.rnn.PackedSequence):
        return [output.data], output._replace(data=output.data.clone())
    if isinstance(output, tuple):
        found, copies = [], []
        for item in output:
            kept, copy = _kept(item) if item is not None else ([], None)
            found += kept
            copies.append(copy)
        return found, tuple(copies)
    raise RavineError(f"a layer gave a {type(output).__name__}, where a tensor was expected")


# ---------------------------------------------------------------- forwards and backwards


@dataclass(frozen=True)
class Gradients:
    """The gradient of the loss in each part's outputs and weights, None where none arrives."""

    outputs: dict[str, Tensor | None]
    weights: dict[str, Tensor | None]
    biases: dict[str, Tensor | None]


def gradients(loss: Tensor, heard: Mapping[str, Heard]) -> Gradients:
    """The gradients in all that was heard; `.grad` is left alone."""
    wanted: list[Tensor] = []
    for one in heard.values():
        wanted += [t for t in (*one.outputs, *one.states) if t.requires_grad]
        wanted += [p for p in _parameters(one.part) if p is not None and p.requires_grad]
    found: dict[int, Tensor | None] = {}
    if wanted and loss.requires_grad:
        unique = list({id(t): t for t in wanted}.values())
        try:
            grads = torch.autograd.grad(loss, unique, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            if "use_reentrant" in str(error):
                raise RavineError(
                    "the model's activation checkpointing gives no gradients but those of .backward(): take "
                    "use_reentrant=False, which torch advises"
                ) from error
            raise
        found = {id(t): g for t, g in zip(unique, grads, strict=True)}
    outputs, weights, biases = {}, {}, {}
    for name, one in heard.items():
        arrived = [g for t in (one.outputs, one.states) for g in _found(t, found)]
        outputs[name] = torch.cat([g.reshape(-1) for g in arrived]) if arrived else None
        weight, bias = _parameters(one.part)
        weights[name] = _rows(found.get(id(weight)), one.part.rows)
        biases[name] = _rows(found.get(id(bias)), one.part.bias_rows) if bias is not None else None
    return Gradients(outputs, weights, biases)


def _found(tensors: list[Tensor], found: Mapping[int, Tensor | None]) -> list[Tensor]:
    return [g for t in tensors if (g := found.get(id(t))) is not None]


def _parameters(part: Part) -> tuple[Any, Any]:
    return getattr(part.owner, part.weight), getattr(part.owner, part.bias) if part.bias is not None else None


def _rows(grad: Tensor | None, rows: Rows) -> Tensor | None:
    return None if grad is None else grad[slice(*rows)]


def signal(heard: Heard, found: Gradients | None, rank: bool = True) -> Signal:
    """One part's signal, forwards and backwards."""
    part, last = heard.part, heard.values[-1]
    units = last.shape[part.unit_dim]
    flat = torch.cat([value.reshape(-1) for value in heard.values]).double()
    ratio, most = participation(_examples_by_units(last, part.unit_dim)) if rank else (math.nan, 0)
    across, likeness = between(last)
    gradient = arriving = slope = per_weight = None
    if found is not None:
        arrived, weights = found.outputs[part.name], found.weights[part.name]
        if arrived is not None:
            gradient, arriving = _rms(arrived), float(arrived.double().norm())
        if weights is not None:
            slope, per_weight = float(weights.double().norm()), _rms(weights)
    return Signal(part.name, type(part.module).__name__, units, float(flat.std(correction=0)), across, likeness, ratio,
                  most, gradient, arriving, slope, per_weight)  # fmt: skip


def _rms(values: Tensor) -> float:
    """The root mean square, which is the standard deviation of a gradient around 0, where it would not move."""
    return float(values.double().square().mean().sqrt())


def _examples_by_units(values: Tensor, unit_dim: int) -> Tensor:
    return values.movedim(unit_dim, -1).reshape(-1, values.shape[unit_dim])[:_ROWS].double()


def between(values: Tensor) -> tuple[float, float]:
    """The standard deviation across examples, and the mean cosine between two of them; dimension 0 counts examples."""
    rows = values.reshape(len(values), -1)[:_EXAMPLES].double() if values.ndim else values.reshape(1, 1).double()
    across = float(rows.var(0, correction=0).mean().sqrt())
    n, length = len(rows), rows.norm(dim=1, keepdim=True)
    if n < 2 or not bool((length > 0).all()):
        return across, math.nan
    together = float((rows / length).sum(0).square().sum())
    return across, (together - n) / (n * (n - 1))


def participation(rows: Tensor) -> tuple[float, int]:
    """The participation ratio (sum of lambda)^2 / sum of lambda^2 of the covariance of rows, and the most it could be.

    It is the number of directions in which the rows vary, weighed by how much (Gao et al. 2017, bioRxiv 214262, eq. 5).
    Traces give it without eigenvalues: tr(C)^2 / tr(C^2).
    """
    centred = rows - rows.mean(0)
    most = min(len(rows) - 1, rows.shape[1])
    gram = centred @ centred.T if len(rows) < rows.shape[1] else centred.T @ centred
    squares = float(gram.square().sum())
    return (float(gram.trace()) ** 2 / squares if squares > 0 else 0.0), most
