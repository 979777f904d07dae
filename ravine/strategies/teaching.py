"""A teacher that is trained on the spot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ravine.core.errors import RavineError
from ravine.core.probe import Moment
from ravine.core.task import Task
from ravine.loop import train
from ravine.weights import settled


def taught(
    task: Task,
    steps: int,
    seed: int = 0,
    device: str = "cpu",
    out: str | Path | None = None,
    observe: Callable[[int], None] | None = None,
    optimizer: Any = "adam",
) -> nn.Module:
    """The model at the end of `ravine.train`, at the parameters that count; with `out` a run that was cut off goes on.

    observe: is told the work done. Raises `RavineError` where training diverges.
    """
    last: Moment | None = None
    for last in train(task, optimizer, steps=steps, seed=seed, device=device, out=out):
        if observe is not None:
            observe(last.work)
    assert last is not None
    if last.diverged:
        raise RavineError(f"'{optimizer}' diverged on '{task.name}' after {last.work} steps: give it a smaller lr")
    return settled(last)
