"""A probe: one measurement on a run, and the moment at which it looks."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from ravine.core.declared import Declared
from ravine.core.record import Row
from ravine.core.task import Task


@dataclasses.dataclass(frozen=True)
class Moment:
    """A run at a point of its evaluation grid: what happened since the last point, and everything one may look at.

    step, work, examples: optimizer steps, gradient evaluations and examples so far.
    loss: mean training loss over the steps since the last moment; None at step 0.
    metric: the judged metric on the validation set.
    seconds: time in the run so far, without what happened outside it; evaluation_seconds: how much of it judging took.
    diverged: loss or metric is not finite; the run ends here.
    model, optimizer, task, batch: as they are now, after the step; gradients are those the last step used.
    before: the parameters before the last step by name, where a probe needs them.
    replayed: read back from the record of a run that was cut off; the model is the one the run goes on with.
    """

    step: int
    work: int
    examples: int
    loss: float | None
    metric: float
    seconds: float
    evaluation_seconds: float
    diverged: bool
    model: nn.Module
    optimizer: Any
    task: Task
    batch: Any = None
    before: Mapping[str, Tensor] | None = None
    probes: Mapping[str, float] = dataclasses.field(default_factory=dict)
    replayed: bool = False

    def row(self) -> Row:
        """The moment as a row of a record."""
        observed = {"seconds": self.seconds, "evaluation_seconds": self.evaluation_seconds}
        counts = {"step": self.step, "work": self.work, "examples": self.examples}
        return counts | {"loss": self.loss, "metric": self.metric} | dict(self.probes) | {"observed": observed}


@dataclasses.dataclass(frozen=True)
class Probe(Declared):
    """A measurement: `probe(moment)` gives named numbers. It looks and never touches.

    `needs = {"before"}` asks for the parameters before the step.
    """

    kind: ClassVar[str] = "probe"
    entry_group: ClassVar[str] = "ravine.probes"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, moment: Moment) -> dict[str, float]:
        raise NotImplementedError
