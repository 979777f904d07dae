"""Targets drawn from a model's own predictions, for curvature that knows no labels."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Draw = Callable[[Any, Any], tuple[Any, int]]


def draw_for(criterion: Callable[[Any, Any], Tensor]) -> Draw | None:
    """From outputs and targets to targets drawn from the distribution that the criterion means, and their number.

    The number is that of the draws over which the criterion takes its mean. None for a criterion whose distribution is
    not known, or one that takes no mean.

    Cross-entropy means classes by the softmax of the outputs; binary cross-entropy with logits, coins; squared error, a
    normal distribution around the outputs with variance 1/2.
    """
    if getattr(criterion, "reduction", "mean") != "mean":
        return None
    if isinstance(criterion, nn.CrossEntropyLoss):
        plain = criterion.weight is None and not criterion.label_smoothing
        return _classes if plain else None
    if isinstance(criterion, nn.BCEWithLogitsLoss):
        return _coins if criterion.weight is None and criterion.pos_weight is None else None
    return _normal if isinstance(criterion, nn.MSELoss) else None


def classes(logits: Tensor) -> Tensor:
    """A class for each row of logits (..., classes)."""
    flat = logits.detach().flatten(0, -2).softmax(-1)
    return torch.multinomial(flat, 1).view(logits.shape[:-1])


def _classes(outputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    drawn = classes(outputs.movedim(1, -1) if outputs.ndim > 1 else outputs[None])
    return drawn.view(targets.shape), drawn.numel()


def _coins(outputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    return torch.bernoulli(outputs.detach().sigmoid()), outputs.numel()


def _normal(outputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    return outputs.detach() + math.sqrt(0.5) * torch.randn_like(outputs), outputs.numel()
