"""The loss of predicting the targets' marginals, where a batch and its loss tell which criterion it is."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ravine.core.trees import tensors

_CLOSE = 1e-3


def chance(loss: float, outputs: Any, batch: Any) -> tuple[str, float] | None:
    """The chance level in words and as a number, or None.

    A criterion is known by its value: the mean cross-entropy, binary cross-entropy or squared error between the model's
    outputs and a tensor of the batch that comes out as `loss`. Cross-entropy's level is the entropy of the labels'
    frequencies H(c), which is ln K where all K classes are as frequent; squared error's is the targets' variance.
    """
    found = [t for t in tensors(outputs) if t.is_floating_point() and t.ndim]
    for z in found[:1]:
        for y in reversed(list(tensors(batch))):
            for level in (_classes, _coins, _squares):
                if (known := level(loss, z.detach(), y)) is not None:
                    return known
    return None


def _same(a: float, b: float) -> bool:
    return math.isfinite(a) and abs(a - b) <= _CLOSE * max(abs(a), abs(b), 1e-6)


def _classes(loss: float, z: Tensor, y: Tensor) -> tuple[str, float] | None:
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool or z.ndim < 2 or not y.numel():
        return None
    y = y.long()
    for dim in (1, -1):
        rows = z.movedim(dim, -1)
        k = rows.shape[-1]
        if rows.shape[:-1].numel() != y.numel() or int(y.max()) >= k or int(y.min()) < 0:
            continue
        if _same(float(F.cross_entropy(rows.reshape(-1, k).double(), y.reshape(-1))), loss):
            share = torch.bincount(y.reshape(-1), minlength=k).double() / y.numel()
            entropy = float(torch.special.entr(share).sum())
            return f"entropy of the batch's {k} classes; ln {k} = {math.log(k):.4g}", entropy
    return None


def _coins(loss: float, z: Tensor, y: Tensor) -> tuple[str, float] | None:
    if z.numel() != y.numel() or not bool(((y == 0) | (y == 1)).all()):
        return None
    z, y = z.reshape(-1).double(), y.reshape(-1).double()
    if not _same(float(F.binary_cross_entropy_with_logits(z, y)), loss):
        return None
    share = torch.stack([y.mean(), 1 - y.mean()])
    return "entropy of the batch's labels", float(torch.special.entr(share).sum())


def _squares(loss: float, z: Tensor, y: Tensor) -> tuple[str, float] | None:
    if z.shape != y.shape or not y.is_floating_point():
        return None
    error = (z.double() - y.double()).square().mean()
    for factor in (1.0, 0.5):
        if _same(factor * float(error), loss):
            spread = factor * float((y.double() - y.double().mean(0)).square().mean())
            return "variance of the batch's targets" + (", halved" if factor < 1 else ""), spread
    return None
