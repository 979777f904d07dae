"""What every task must do."""

import torch

from ravine.checks.holding import hold
from ravine.core.batches import batches
from ravine.core.dry_run import DryRun, dry_run
from ravine.core.seeds import GlobalStream, generator
from ravine.core.task import Task


def check_task(task: Task) -> DryRun:
    """Raise RavineError or AssertionError unless one dry batch goes through, and again with the same numbers."""
    found, owner = dry_run(task, test=True), f"task '{task.name}'"
    same = found == dry_run(task)
    hold(same, owner, "computes other numbers from the same seed: draw only from the generator it is given")
    with GlobalStream(0):
        model = task.model().eval()
        if task.forward is not None and task.criterion is not None:
            batch = next(batches(task.train, task.batch_size, generator(0, "check")))
            whole, parted = task.loss(model, batch), task.criterion(task.forward(model, batch), batch)
            hold(torch.equal(whole, parted), owner, f"loss is {whole}, but criterion(forward(...)) is {parted}")
    return found
