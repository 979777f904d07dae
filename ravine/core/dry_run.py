"""One dry batch: everything a task is made of is tried once, before anything runs."""

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from ravine.core.batches import batches, to
from ravine.core.errors import RavineError
from ravine.core.modes import BATCH_OF_ONE, buffers_kept, is_batch_of_one
from ravine.core.seeds import GlobalStream, derive, generator
from ravine.core.task import Task

T = TypeVar("T")


@dataclass(frozen=True)
class DryRun:
    """What one dry batch told: the number of trainable parameters, and a fingerprint of all that was computed."""

    parameters: int
    fingerprint: str
    loss: float
    metric: float


def dry_run(task: Task, device: str = "cpu", test: bool = False) -> DryRun:
    """Build the model, draw a batch, take loss and gradient, judge once; the same for the same task.

    test: judge the test data too, where they will be looked at.

    Raises `RavineError` with the stage that failed: "building the model", "drawing a batch", "counting its examples",
    "the loss of one batch", "its gradient", "the metric on valid", "the metric on test".
    """
    place = torch.device(device)
    with GlobalStream(derive(0, "dry run"), place), ExitStack() as stack:
        model = _stage(task, "building the model", lambda: task.model())
        if not isinstance(model, nn.Module):
            raise RavineError(f"task '{task.name}': model() must return an nn.Module, got {type(model).__name__}")
        model.to(place)
        stack.enter_context(buffers_kept(model))  # of a model that task.model() does not make anew
        trainable = [p for p in model.parameters() if p.requires_grad]
        if not trainable:
            raise RavineError(f"task '{task.name}': the model has no trainable parameters")
        digest = hash_tensors(model.state_dict().values())
        draw = generator(0, "dry run")
        batch = _stage(task, "drawing a batch", lambda: next(batches(task.train, task.batch_size, draw)))
        _stage(task, "counting its examples", lambda: task.examples(batch))
        loss = _stage(task, "the loss of one batch", lambda: task.loss(model, to(batch, place)))
        if not isinstance(loss, Tensor) or loss.ndim:
            found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise RavineError(f"task '{task.name}': the loss of one batch must be a scalar tensor, got {found}")
        if loss.requires_grad:
            _stage(task, "its gradient", loss.backward)
        if all(p.grad is None for p in trainable):
            raise RavineError(f"task '{task.name}': the loss reaches no parameter of the model")
        metric = _stage(task, "the metric on valid", lambda: task.judge(model, to(task.valid, place)))
        if test and task.test is not None:
            _stage(task, "the metric on test", lambda: task.judge(model, to(task.test, place)))
    content = f"{digest}/{hash_tensors([batch])}/{loss.item()!r}/{metric!r}/{task.better}"
    fingerprint = hashlib.sha256(content.encode()).hexdigest()[:16]
    return DryRun(sum(p.numel() for p in trainable), fingerprint, loss.item(), metric)


def hash_tensors(values: object) -> str:
    """A hash of the bytes of all tensors in tuples, lists, dicts and iterables, in their order."""
    digest = hashlib.sha256()

    def feed(value: object) -> None:
        if isinstance(value, Tensor):
            flat = value.detach().to_dense().cpu().contiguous().flatten()
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(flat.view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            feed(list(value.values()))
        elif hasattr(value, "__iter__") and not isinstance(value, str | bytes):
            for item in value:
                feed(item)

    feed(values)
    return digest.hexdigest()[:16]


def _stage(task: Task, what: str, attempt: Callable[[], T]) -> T:
    try:
        return attempt()
    except RavineError as error:
        raise RavineError(f"task '{task.name}': {what} failed: {error}") from error
    except Exception as error:
        advice = f" ({BATCH_OF_ONE})" if is_batch_of_one(error) else ""
        raise RavineError(f"task '{task.name}': {what} failed with {type(error).__name__}: {error}{advice}") from error
