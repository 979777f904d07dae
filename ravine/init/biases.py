"""Biases that are not zero: the output's from the data, ReLU's, gates'."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.errors import RavineError, unknown
from ravine.init.chain import MATRICES, chain
from ravine.init.parts import gate
from ravine.init.trace import trace

KINDS = ("softmax", "sigmoid", "mean", "precision", "log_variance")
RARE = 0.5  # examples that a class without any is counted as


@torch.no_grad()
def output_bias(layer: nn.Module, targets: Tensor, kind: str | None = None) -> Tensor:
    """Set the bias of an output layer so that, before it sees inputs, it predicts the marginals of `targets`.

        softmax: b_k = ln c_k, so that softmax(b) = c     sigmoid: b = ln(p / (1 - p))     mean: b = mean of y
        precision: outputs are (mean, beta) of N(y; mean, 1 / beta), b = (mean of y, 1 / var y)
        log_variance: outputs are (mean, ln variance), b = (mean of y, ln var y)

    targets: softmax: class numbers of any shape, or probabilities (n, classes). Others: (n,) or (n, outputs).
    kind: unless given, softmax for integers, sigmoid for truth values or where a layer has one output, mean for floats.

    A class without an example counts as half an example, as do 0 of n and n of n for sigmoid. Returns the bias. Raises
    `RavineError`, with nothing changed, for a layer without a bias or a frozen one, labels outside the classes, targets
    that do not fit or are not finite, and a variance of zero.

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
    value = _softmax(targets, len(bias)) if kind == "softmax" else _columns(targets, len(bias), kind)
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
        if targets.ndim != 2 or targets.shape[1] != classes or targets.min() < 0:
            raise RavineError(
                f"output_bias: softmax takes class numbers, or probabilities of shape (n, {classes}), got floats "
                f"{tuple(targets.shape)} from {targets.min().item():g}"
            )
        counts = targets.double().sum(0)
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


def _columns(targets: Tensor, outputs: int, kind: str) -> Tensor:
    """The bias of each output from its column of targets."""
    columns = targets.double().reshape(len(targets), -1) if targets.ndim else targets.double().reshape(1, 1)
    wanted = outputs if kind in ("sigmoid", "mean") else outputs / 2
    if columns.shape[1] != wanted:
        raise RavineError(
            f"output_bias: kind '{kind}' of a layer with {outputs} outputs needs {wanted:g} targets for each "
            f"example, got {columns.shape[1]} (shape {tuple(targets.shape)})"
        )
    mean, n = columns.mean(0), len(columns)
    if kind == "mean":
        return mean
    if kind == "sigmoid":
        if columns.min() < 0 or columns.max() > 1:
            raise RavineError("output_bias: sigmoid needs targets in [0, 1]")
        return mean.clamp(RARE / n, 1 - RARE / n).logit() if n > 1 else mean.clamp(0.25, 0.75).logit()
    variance = columns.var(0, correction=0)
    if not (variance > 0).all():
        raise RavineError(
            "output_bias: the variance of a target is zero, so its precision is infinite; take kind='mean'"
        )
    return torch.cat([mean, 1 / variance if kind == "precision" else variance.log()])


@torch.no_grad()
def relu_bias(model: nn.Module, value: float = 0.1, example: Any = None) -> list[str]:
    """Set the biases of all layers before a ReLU, so that most units begin active; returns the layers' names.

    A unit with pre-activations of deviation s is then active with probability Phi(value / s) instead of 1/2. Not
    together with random-walk or edge-of-chaos weights, which count on zero biases. `example` as in `apply`, where the
    modules do not stand in a row. Goodfellow et al. (2016), section 8.4.
    """
    flow = trace(model, example) if example is not None else chain(model)
    if flow is None:
        raise RavineError(
            "relu_bias: which layers stand before a ReLU is not clear from the modules; pass example=inputs"
        )
    found = []
    for name, module in model.named_modules():
        place = flow.places.get(id(getattr(module, "weight", None)))
        bias = getattr(module, "bias", None)
        before_relu = place is not None and {str(f) for f in place.after} == {"relu"}
        if before_relu and isinstance(module, MATRICES) and bias is not None and bias.requires_grad:
            bias.fill_(value)
            found.append(name)
    return found


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
