"""Biases that are not zero: the output's from the data, ReLU's, gates'."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.errors import RavineError, unknown
from ravine.init.chain import MATRICES, chain
from ravine.init.flow import Place
from ravine.init.parts import CONVOLUTIONS, TRANSPOSED, gate
from ravine.init.trace import trace

KINDS = ("softmax", "sigmoid", "mean", "precision", "log_variance")
RARE = 0.5  # examples that a class without any is counted as


@torch.no_grad()
def output_bias(layer: nn.Module, targets: Tensor, kind: str | None = None) -> Tensor:
    """Set the bias of an output layer so that, before it sees inputs, it predicts the marginals of `targets`.

        softmax: b_k = ln c_k, so that softmax(b) = c     sigmoid: b = ln(p / (1 - p))     mean: b = mean of y
        precision: outputs are (mean, beta) of N(y; mean, 1 / beta), b = (mean of y, 1 / var y)
        log_variance: outputs are (mean, ln variance), b = (mean of y, ln var y)

    targets: softmax: class numbers of any shape; or probabilities or one-hot rows, (n, classes) or (n, classes, h, w).
        Others: (n,) or (n, outputs); outputs come last, or in dimension 1 for a convolution, as the layer gives them.
    kind: unless given, softmax for integers, sigmoid for truth values or where a layer has one output, mean for floats.

    A class without an example counts as half an example, as do 0 of n and n of n for sigmoid. Returns the bias. Raises
    `RavineError`, with nothing changed, for a layer without a bias or a frozen one, labels outside the classes, targets
    that do not fit or are not finite, whole numbers that may be labels of several kinds at once, a variance of zero,
    and a bias that the layer's type cannot hold.

    Goodfellow et al. (2016), section 8.4, and eq. 8.24 for precision.

    >>> layer = torch.nn.Linear(4, 3)
    >>> output_bias(layer, torch.tensor([0, 0, 0, 1, 1, 2, 0, 0])).softmax(0)
    tensor([0.6250, 0.2500, 0.1250])
    """
    bias = _bias_of(layer)
    if not isinstance(targets, Tensor) or targets.numel() == 0:
        raise RavineError(f"output_bias needs a tensor of targets with at least one, got {_described(targets)}")
    if targets.is_complex() or not targets.double().isfinite().all():
        raise RavineError("output_bias: targets must be real and finite (no NaN)")
    if kind is None:
        whole = not targets.is_floating_point()
        kind = "mean" if not whole else "sigmoid" if targets.dtype == torch.bool or len(bias) == 1 else "softmax"
    if kind not in KINDS:
        raise unknown("kind of output", str(kind), KINDS)
    value = _softmax(targets, len(bias)) if kind == "softmax" else _marginals(_columns(layer, targets, kind), kind)
    if not value.to(bias.dtype).isfinite().all():
        raise RavineError(
            f"output_bias: the bias would be {float(value.abs().max()):g}, and {bias.dtype} ends at "
            f"{torch.finfo(bias.dtype).max:g}: scale the targets, or keep the layer in a wider type"
        )
    bias.copy_(value)
    return bias.detach().clone()


def _described(given: object) -> str:
    return f"an empty one of shape {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__


def _bias_of(layer: nn.Module) -> Tensor:
    bias = getattr(layer, "bias", None)
    if not isinstance(bias, Tensor) or bias.ndim != 1:
        raise RavineError(
            f"output_bias needs a layer with a bias, got {type(layer).__name__} without one: give the last layer, "
            "made with bias=True"
        )
    if isinstance(bias, nn.parameter.UninitializedParameter) or bias.is_meta:
        raise RavineError("output_bias: the layer has no values yet (lazy or on the meta device)")
    if not bias.requires_grad:
        raise RavineError("output_bias: the bias is frozen (requires_grad=False)")
    return bias


def _softmax(targets: Tensor, classes: int) -> Tensor:
    """ln of the share of every class."""
    if classes == 1:
        raise RavineError("output_bias: softmax over one output is constant; take kind='sigmoid'")
    if targets.is_floating_point():
        if targets.ndim < 2 or targets.shape[1] != classes or targets.min() < 0:
            raise RavineError(
                f"output_bias: softmax takes class numbers, or probabilities of shape (n, {classes}), got floats "
                f"{tuple(targets.shape)} from {targets.min().item():g}"
            )
        counts = targets.double().transpose(0, 1).flatten(1).sum(1)
    elif _one_hot(targets, classes):
        counts = targets.transpose(0, 1).flatten(1).sum(1).double()
    else:
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= classes:
            raise RavineError(
                f"output_bias: labels must be in 0..{classes - 1} for {classes} outputs, got labels from {low} to "
                f"{high}; drop those that the loss ignores"
            )
        counts = targets.flatten().long().bincount(minlength=classes).double()
    counts = torch.where(counts == 0, RARE, counts)
    return (counts / counts.sum()).log()


def _one_hot(targets: Tensor, classes: int) -> bool:
    """Whether whole numbers mark each example's class by a 1; raises where they may as well say yes to several."""
    if targets.ndim < 2 or targets.shape[1] != classes or not bool(((targets == 0) | (targets == 1)).all()):
        return False
    if bool((targets.sum(1) == 1).all()):
        return True
    raise RavineError(
        f"output_bias: whole numbers of shape {tuple(targets.shape)}, all 0 or 1, are no one-hot rows (one 1 in each): "
        f"for {classes} labels that are true or not take kind='sigmoid', for class numbers give targets.flatten()"
    )


def _columns(layer: nn.Module, targets: Tensor, kind: str) -> Tensor:
    """Targets as (n, outputs), with as many outputs as the kind of prediction has for this layer."""
    outputs = len(_bias_of(layer))
    wanted = outputs if kind in ("sigmoid", "mean") else outputs / 2
    places = len(layer.kernel_size) if isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED)) else 0
    columns = targets.double()
    if places and columns.ndim == 2 + places:
        columns = columns.movedim(1, -1).flatten(0, -2)
    elif places and columns.ndim == 1 + places and wanted == 1:
        columns = columns.reshape(-1, 1)
    elif columns.ndim > 2 and columns.shape[-1] == wanted:
        columns = columns.flatten(0, -2)
    else:
        columns = columns.reshape(len(columns), -1) if columns.ndim else columns.reshape(1, 1)
    if columns.shape[1] != wanted:
        raise RavineError(
            f"output_bias: kind '{kind}' of a layer with {outputs} outputs needs {wanted:g} targets for each "
            f"example, got {columns.shape[1]} (shape {tuple(targets.shape)})"
        )
    if kind == "sigmoid" and (columns.min() < 0 or columns.max() > 1):
        raise RavineError(
            f"output_bias: sigmoid needs targets in [0, 1], got {columns.min().item():g} to {columns.max().item():g}; "
            "for numbers that are to be predicted as such take kind='mean'"
        )
    return columns


def _marginals(columns: Tensor, kind: str) -> Tensor:
    """The bias of each output from its column of targets."""
    mean, n = columns.mean(0), len(columns)
    if kind == "mean":
        return mean
    if kind == "sigmoid":
        return mean.clamp(RARE / n, 1 - RARE / n).logit() if n > 1 else mean.clamp(0.25, 0.75).logit()
    variance = columns.var(0, correction=0)
    if not (variance > 0).all():
        raise RavineError(
            "output_bias: the variance of a target is zero, so its precision is infinite; take kind='mean'"
        )
    return torch.cat([mean, 1 / variance if kind == "precision" else variance.log()])


@torch.no_grad()
def relu_bias(model: nn.Module, value: float = 0.1, example: Any = None) -> list[str]:
    """Set the biases of all layers before a ReLU, so that most units begin active; returns the names of what was set.

    A unit with pre-activations of deviation s is then active with probability Phi(value / s) instead of 1/2. A
    normalization between the two takes the layer's bias away again, so its own is set instead, if it has one. Not
    together with random-walk or edge-of-chaos weights, which count on zero biases. `example` as in `apply`, where the
    modules do not stand in a row. Goodfellow et al. (2016), section 8.4.
    """
    flow = trace(model, example) if example is not None else chain(model)
    if flow is None:
        raise RavineError(
            "relu_bias: which layers stand before a ReLU is not clear from the modules; pass example=inputs"
        )
    owners = {id(module.weight): (name, module) for name, module in model.named_modules() if hasattr(module, "weight")}
    found: dict[str, None] = {}
    for name, module in model.named_modules():
        place = flow.places.get(id(getattr(module, "weight", None)))
        if isinstance(module, MATRICES) and place is not None and {str(f) for f in place.after} == {"relu"}:
            for own, last in _last_biased(name, module, place, owners):
                if (bias := getattr(last, "bias", None)) is not None and bias.requires_grad:
                    bias.fill_(value)
                    found[own] = None
    return list(found)


def _last_biased(
    name: str, layer: nn.Module, place: Place, owners: dict[int, tuple[str, nn.Module]]
) -> list[tuple[str, nn.Module]]:
    """The modules whose biases reach the activation behind a layer: its own, or those of the normalizations between."""
    if not place.norms:
        return [(name, layer)]
    norms = [owners[key] for key in place.norms if key is not None and key in owners]
    return [(name, layer) if isinstance(norm, nn.RMSNorm) else (own, norm) for own, norm in norms]  # it keeps the mean


@torch.no_grad()
def forget_bias(model: nn.Module, value: float = 1.0) -> list[str]:
    """Set the bias of forget gates (LSTM) and update gates (GRU), so that memory lasts; returns the parameters' names.

    torch adds two biases to a gate, so bias_ih gets the value and bias_hh zero. The gradient through T steps shrinks by
    sigmoid(value)^T: 0.73^T for 1 and 0.5^T for 0. Jozefowicz et al., ICML 2015.
    """
    found = []
    for name, module in _recurrent(model):
        for own, p in module.named_parameters(recurse=False):
            if own.startswith("bias_") and p.requires_grad:
                gate(p, module, 1).fill_(value if own.startswith("bias_ih") else 0.0)
                found.append(f"{name}.{own}" if name else own)
    if not found:
        raise RavineError("forget_bias: the model has no LSTM or GRU with trainable biases")
    return found


def _recurrent(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.LSTM | nn.GRU | nn.LSTMCell | nn.GRUCell):
            yield name, module


@torch.no_grad()
def open_gates(layer: nn.Module, openness: float = 0.9) -> Tensor:
    """Set the bias of a layer of sigmoid gates so that they begin open, sigmoid(b) = openness; returns the bias.

    A unit multiplied by a gate that is shut gets no gradient. Goodfellow et al. (2016), section 8.4.
    """
    if isinstance(openness, bool) or not 0 < openness < 1:
        raise RavineError(f"open_gates: openness must be in (0, 1), got {openness!r}")
    bias = _bias_of(layer)
    return bias.fill_(math.log(openness / (1 - openness))).detach().clone()
