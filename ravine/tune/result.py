"""What a test of learning rates answers: a value, with the evidence it stands on."""

import dataclasses
from typing import Any

from ravine.core.record import plain


@dataclasses.dataclass(frozen=True)
class Result:
    """A learning rate, or that none can be told, and why.

    suggestion: the lr of the first parameter group; None where the test cannot tell, and `reason` says what to do.
    low, high: between these the best lr is thought to lie; the short runs did not tell apart what is between.
    diverges_at: the smallest lr that was seen to diverge, or to be no better than not training; None if none was.
    reason: how the answer came about, in sentences.
    curve: `sweeps`, for each seed `lr`, raw `loss`, `smoothed` and where it `diverged`; `validation`, the runs at a
        fixed lr with all their losses. Plain lists, so that JSON takes it.
    spec: the whole spec with the suggested lr of every group, ready to paste; without a suggestion, the spec as given.
        Empty where the optimizer was given as an object and no spec can be written for it.
    lrs: the suggested lr of every group, in the groups' order.
    cost: gradient evaluations spent, of all seeds and validation runs together.
    """

    task: str
    method: str
    suggestion: float | None
    low: float | None
    high: float | None
    diverges_at: float | None
    reason: str
    spec: str
    lrs: tuple[float, ...]
    cost: int
    steps: int
    curve: dict[str, Any] = dataclasses.field(repr=False)

    def content(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        content: dict[str, Any] = plain(dataclasses.asdict(self))
        return content
