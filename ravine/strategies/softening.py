"""Softened answers: where the classes stand in a model's outputs, and the distance between two softened answers."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from ravine.core.errors import RavineError


def soft_targets(ours: Tensor, theirs: Tensor, tau: float, axis: int) -> Tensor:
    """tau² KL(P_T^tau, P_S^tau), the mean over all predictions; the classes stand on the dimension `axis`."""
    p, q = ((a / tau).movedim(axis, -1).flatten(0, -2).log_softmax(-1) for a in (theirs, ours))
    return tau**2 * F.kl_div(q, p, reduction="batchmean", log_target=True)


def class_axis(task: str, outputs: tuple[int, ...], labels: tuple[int, ...] | None, given: int | None) -> int:
    """The dimension of the outputs that holds the classes: as given, or as the shape of the labels tells.

    Labels tell where they have the outputs' shape without the last dimension, or without the second, and not both.
    Raises `RavineError` where they do not.
    """
    if given is not None:
        if isinstance(given, bool) or given not in (1, -1):
            raise RavineError(f"classes must be -1, the last dimension of the outputs, or 1, the second; got {given!r}")
        return given if len(outputs) > 2 else 1  # of (n, C) both are one
    last, second = labels == outputs[:-1], labels == (*outputs[:1], *outputs[2:])
    if len(outputs) > 2 and last == second:
        found = "there are no labels beside the inputs" if labels is None else f"labels of shape {labels} fit both"
        if labels is not None and not last:
            found = f"labels of shape {labels} fit neither"
        raise RavineError(
            f"which dimension of the outputs {outputs} of task '{task}' holds the classes? {found}: give classes=-1 "
            "where it is the last, as in language models, or classes=1 where it is the second, as torch's "
            "CrossEntropyLoss has it"
        )
    return -1 if last else 1


def label_shape(batch: Any) -> tuple[int, ...] | None:
    """The shape of the labels, where a batch has them as the second of its parts."""
    second = batch[1] if isinstance(batch, tuple | list) and len(batch) > 1 else None
    return tuple(second.shape) if isinstance(second, Tensor) else None
