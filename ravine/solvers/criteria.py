"""The halves of a loss as a solver of outputs needs them: a mean over examples, with a way to draw targets."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ravine.core.errors import RavineError
from ravine.core.sampling import draw_for
from ravine.core.trees import tensors

Forward = Callable[[nn.Module, Any], Any]
Criterion = Callable[[Any, Any], Tensor]
Sample = Callable[[Any, Any], tuple[Any, int]]

_MEANS = ("mean", "batchmean")
_INSTEAD = (
    "a share of a batch would weigh less than the whole. For a loss that is summed within an example divide by their "
    "number, as in lambda outputs, batch: mse_loss(outputs, batch[1], reduction='sum') / len(outputs)"
)


def parts(criterion: Any, forward: Forward | None, sample: Sample | None) -> tuple[Forward, Criterion, Sample | None]:
    """forward, criterion(outputs, batch) and sample, where they are not given or one of torch's criteria is."""
    forward = forward or (lambda model, batch: model(batch[0]))
    if not isinstance(criterion, nn.Module):
        return forward, criterion, sample
    if (reduction := getattr(criterion, "reduction", "mean")) not in _MEANS:
        raise RavineError(
            f"criterion= must be a mean over the batch's examples, and {type(criterion).__name__} has "
            f"reduction={reduction!r}: use reduction='mean', since {_INSTEAD}"
        )
    draw = draw_for(criterion)

    def drawn(outputs: Any, batch: Any) -> tuple[Any, int]:
        assert draw is not None
        targets, count = draw(outputs, batch[1])
        return (batch[0], targets), count

    return forward, lambda outputs, batch: criterion(outputs, batch[1]), sample or (drawn if draw else None)


def size(batch: Any) -> int | None:
    """The leading dimension on which all tensors of a batch agree; None where they do not."""
    found = {leaf.shape[0] if leaf.ndim else None for leaf in tensors(batch)}
    return found.pop() if len(found) == 1 else None


def cut(batch: Any, start: int, stop: int) -> Any:
    """The examples from `start` to `stop` of a batch whose tensors agree on their number."""
    return tree_map(lambda leaf: leaf[start:stop] if isinstance(leaf, Tensor) else leaf, batch)


def check_filled(batch: Any, owner: str) -> None:
    """Raise where a batch has no examples."""
    if size(batch) == 0:
        raise RavineError(f"{owner}: the batch has 0 examples, and one at least is needed: leave it out")


def check_mean(loss: Callable[[Any], Tensor], batch: Any, owner: str) -> None:
    """Raise where the loss of a batch is the sum of its halves' instead of their mean: three losses without gradients.

    What is neither, since a decay is added or the halves are weighted, is let through.
    """
    half = (size(batch) or 0) // 2
    if not half:
        return
    with torch.no_grad():
        whole, first, second = (float(loss(cut(batch, *ends))) for ends in ((0, 2 * half), (0, half), (half, 2 * half)))
    if whole and abs(whole - (first + second)) <= 1e-5 * max(abs(first), abs(second)):
        raise RavineError(
            f"{owner}: criterion= must be a mean over the batch's examples, and here it is a sum: {whole:.6g} for a "
            f"batch whose halves have {first:.6g} and {second:.6g}. With share= below 1 {_INSTEAD}"
        )
