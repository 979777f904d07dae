"""Modes of a model: evaluation mode for a while, or held; its buffers kept; and a batch of one in training mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

BATCH_OF_ONE = (
    "a batch of one example has no variance to normalize by: use larger batches (drop_last=True in a DataLoader that "
    "ends with one), normalization by layer or group, or hold the statistics still "
    "(ravine.strategies.batch_norm.frozen)"
)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, evaluation mode; outside, every module's mode as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Inside, the model may run in training mode; outside, its buffers, as running statistics are, are as before."""
    before = [(buffer, buffer.detach().clone()) for buffer in model.buffers() if not nn.parameter.is_lazy(buffer)]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def hold_in_evaluation(module: nn.Module, _: Any) -> None:
    """A hook before a layer's forward, which keeps it in evaluation mode whenever `model.train()` comes."""
    module.training = False


def is_held(module: nn.Module) -> bool:
    """Whether a layer is kept in evaluation mode by `hold_in_evaluation`."""
    return hold_in_evaluation in module._forward_pre_hooks.values()


def is_batch_of_one(error: BaseException) -> bool:
    """Whether this is the error of a normalization that found one value to a channel, torch's or one of ravine's."""
    text = str(error)
    return isinstance(error, ValueError) and ("more than 1 value per channel" in text or "batch of one example" in text)
