"""The model of a task at its start: as it is built or initialized by a spec, searched if asked, and inspected."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ravine import init
from ravine.core.batches import Batch, batches, length, to
from ravine.core.declared import check_value
from ravine.core.errors import RavineError
from ravine.core.seeds import generator
from ravine.core.task import Task
from ravine.weights import fresh, stored

_FEWEST = 128  # examples, where the data have as many: with fewer, units look dead that only slept


@dataclass(frozen=True)
class Start:
    """What was found. where: the weights in words; model: with them; searched: what the search did, or None."""

    task: str
    where: str
    seed: int
    examples: int
    model: nn.Module
    findings: init.Findings
    searched: init.SearchReport | None = None

    def content(self) -> dict[str, Any]:
        """All of it as numbers and words, without the model."""
        found: dict[str, Any] = {name: getattr(self, name) for name in ("task", "where", "seed", "examples")}
        found |= self.findings.content()
        found["search"] = None if self.searched is None else asdict(self.searched)
        return found


def start(
    task: Task,
    spec: str | None = None,
    *,
    search: bool = False,
    checkpoint: str | Path | None = None,
    seed: int = 0,
    examples: int | None = None,
    device: str = "cpu",
) -> Start:
    """Look at the start of a task on one batch of its training data.

    The model is the one with which `ravine.train` begins for this seed; with `spec` initialized by `ravine.init.apply`,
    with `checkpoint` at the weights of that file, and with `search` rescaled by `ravine.init.search` after that, on
    another batch than the one that is looked at. examples: in the batch; 128 or the task's batch size, whichever is
    more, and no more than there are. Data that come as batches decide themselves.
    """
    check_value("seed", seed, int, "[0, inf)")
    check_value("examples", examples, int | None, "[2, inf)")
    if spec is not None and checkpoint is not None:
        raise RavineError("the weights are those of a checkpoint or of an initialization: give one of the two")
    model = fresh(task, seed, device) if checkpoint is None else stored(task, checkpoint, device)
    size = _size(task, examples)
    drawn = batches(task.train, size, generator(seed, "init batch"))
    first, second = (to(next(drawn), torch.device(device)) for _ in range(2))
    where = "as it is built" if checkpoint is None else f"weights of {Path(checkpoint).name}"
    if spec is not None:
        init.apply(model, spec, generator=generator(seed, "init weights"), example=_inputs(first))
        where = f"initialized by {spec}"
    searched = None
    if search:
        searched = init.search(model, first, task.loss, generator=generator(seed, "init search"))
        where += ", searched"
    found = init.inspect(model, second, task.loss)
    return Start(task.name, where, seed, task.examples(second), model, found, searched)


def _size(task: Task, examples: int | None) -> int:
    n = length(task.train)
    if n is None and examples is not None:
        raise RavineError(f"the data of task '{task.name}' come in batches of their own size: leave examples out")
    if n is not None and examples is not None and examples > n:
        raise RavineError(f"examples={examples}, but task '{task.name}' has {n} to train on")
    most = task.batch_size if n is None else n
    return min(most, examples or max(_FEWEST, task.batch_size))


def _inputs(batch: Batch) -> Any:
    """What the model is called with: of an (inputs, targets) batch the first."""
    return batch[0] if isinstance(batch, tuple | list) else batch


