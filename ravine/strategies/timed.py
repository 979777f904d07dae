"""Batches that know their number, so that a loss can change on the way and a run that goes on knows where it is."""

import dataclasses
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.batches import Batch, batches
from ravine.core.task import Task

TimedLoss = Callable[[nn.Module, Batch, float], Tensor]


def timed(task: Task, steps: int, loss: TimedLoss, **changes: Any) -> Task:
    """The task with a loss of (model, batch, time), where time goes from 0 to 1 over `steps` batches and stays there.

    The number of a batch comes with it out of the data, not out of the model or the loss: so a run that was cut off
    and goes on has the right one. What is judged is as it was. The task has no `forward` and `criterion`.
    """

    def draw(generator: torch.Generator) -> Iterator[Batch]:
        return zip(batches(task.train, task.batch_size, generator), count())

    def at_its_time(model: nn.Module, batch: Batch) -> Tensor:
        content, number = batch  # see draw
        return loss(model, content, min(1.0, number / steps))

    def size(batch: Batch) -> int:
        return task.examples(batch[0])

    plain = {"forward": None, "criterion": None, "sample": None}
    own: dict[str, Any] = {"train": draw, "size": size, "loss": at_its_time}
    return dataclasses.replace(task, **(plain | own | changes))
