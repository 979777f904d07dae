"""The loss of predicting the targets' marginals, where a batch and its loss tell which criterion it is."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravine.core.trees import tensors

_CLOSE = 1e-3


@dataclass(frozen=True)
class Level:
    """What a loss is compared with.

    kind: in words. marginals: the loss of predicting the targets' frequencies, None where the criterion is not known.
    uniform: that of predicting all classes alike, None where there are none.
    """

    kind: str
    marginals: float | None
    uniform: float | None = None


def chance(loss: float, outputs: Any, batch: Any, criterion: Any = None) -> Level | None:
    """The chance level of a loss, or None.

    A criterion is known by its value: the mean cross-entropy, binary cross-entropy or squared error between the model's
    outputs and a tensor of the batch that comes out as `loss`. Cross-entropy's level is the entropy of the labels'
    frequencies H(c), which is ln K where all K classes are as frequent; squared error's is the targets' variance.
    `criterion`, where it is an `nn.CrossEntropyLoss`, says which labels are ignored, how classes are weighed and how
    labels are smoothed. Where there are class numbers and another loss, only ln K is known.
    """
    found = [t for t in tensors(outputs) if t.is_floating_point() and t.ndim]
    for z in found[:1]:
        targets = list(reversed(list(tensors(batch))))
        for y in targets:
            settings = _settings(criterion, y)
            for known in (_classes(loss, z.detach(), y, settings), _coins(loss, z.detach(), y),
                          _squares(loss, z.detach(), y)):  # fmt: skip
                if known is not None:
                    return known
        for y in targets:
            for rows, _ in _labelled(z.detach(), y, settings):
                return Level(f"ln {rows.shape[1]}", None, math.log(rows.shape[1]))
    return None


def _same(a: float, b: float) -> bool:
    return math.isfinite(a) and abs(a - b) <= _CLOSE * max(abs(a), abs(b), 1e-6)


# ---------------------------------------------------------------- classes


def _settings(criterion: Any, y: Tensor) -> list[nn.CrossEntropyLoss]:
    """The criterion, or those that a plain function may stand for: with labels that are ignored, or without."""
    if isinstance(criterion, nn.CrossEntropyLoss):
        return [criterion]
    lowest = [int(y.min())] if _whole(y) else []  # -100 is torch's own; -1 and 0 are what paddings have
    return [nn.CrossEntropyLoss(ignore_index=label) for label in dict.fromkeys([-100, *lowest, 0])]


def _whole(y: Tensor) -> bool:
    return not (y.is_floating_point() or y.is_complex() or y.dtype == torch.bool) and y.numel() > 0


def _labelled(
    z: Tensor, y: Tensor, settings: list[nn.CrossEntropyLoss]
) -> Iterator[tuple[Tensor, nn.CrossEntropyLoss]]:
    """Logits as (n, classes), classes in dimension 1 or the last, with settings under which y can be their labels."""
    if not _whole(y) or z.ndim < 2:
        return
    for dim in (1, -1):
        rows = z.movedim(dim, -1)
        k = rows.shape[-1]
        if rows.shape[:-1].numel() != y.numel() or k < 2:
            continue
        for how in settings:
            counted = y[y != how.ignore_index]
            if counted.numel() and int(counted.min()) >= 0 and int(counted.max()) < k:
                yield rows.reshape(-1, k), how


def _classes(loss: float, z: Tensor, y: Tensor, settings: list[nn.CrossEntropyLoss]) -> Level | None:
    for rows, how in _labelled(z, y, settings):
        weight = torch.ones(rows.shape[1]) if how.weight is None else how.weight
        weight = weight.double().to(rows.device)
        smooth, mean = how.label_smoothing, how.reduction == "mean"
        labels = y.reshape(-1).long()
        value = F.cross_entropy(
            rows.double(), labels, weight, ignore_index=how.ignore_index, reduction="mean" if mean else "sum",
            label_smoothing=smooth,
        )  # fmt: skip
        if _same(float(value), loss):
            counts = labels[labels != how.ignore_index].bincount(minlength=len(weight)).double()
            return _least(counts, weight, smooth, mean)
    return None


def _least(counts: Tensor, weight: Tensor, smooth: float, mean: bool) -> Level | None:
    """The least loss of one prediction for all examples: with a_k for -ln p_k in the loss, p = a / sum a."""
    k = len(counts)
    a = (1 - smooth) * weight * counts + smooth / k * counts.sum() * weight
    a = a / (weight * counts).sum() if mean else a
    total = float(a.sum())
    if not 0 < total < math.inf:
        return None
    plain = smooth == 0 and bool((weight == 1).all())
    kind = f"entropy of the batch's {k} classes{'' if plain else ', weighed and smoothed'}; ln {k} = {math.log(k):.4g}"
    return Level(kind, total * float(torch.special.entr(a / total).sum()), total * math.log(k))


# ---------------------------------------------------------------- others


def _coins(loss: float, z: Tensor, y: Tensor) -> Level | None:
    if z.numel() != y.numel() or not bool(((y == 0) | (y == 1)).all()):
        return None
    z, y = z.reshape(-1).double(), y.reshape(-1).double()
    if not _same(float(F.binary_cross_entropy_with_logits(z, y)), loss):
        return None
    share = torch.stack([y.mean(), 1 - y.mean()])
    return Level("entropy of the batch's labels; ln 2 = 0.6931", float(torch.special.entr(share).sum()), math.log(2))


def _squares(loss: float, z: Tensor, y: Tensor) -> Level | None:
    if z.shape != y.shape or not y.is_floating_point():
        return None
    error = (z.double() - y.double()).square().mean()
    for factor in (1.0, 0.5):
        if _same(factor * float(error), loss):
            spread = factor * float((y.double() - y.double().mean(0)).square().mean())
            return Level("variance of the batch's targets" + (", halved" if factor < 1 else ""), spread)
    return None
