"""Early stopping: an ordinary consumer of moments."""

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ravine.core.declared import check_value
from ravine.core.errors import RavineError
from ravine.core.probe import Moment


def early_stopping(
    moments: Iterable[Moment],
    patience: int,
    min_delta: float = 0.0,
    restore: bool = True,
    keep: str | Path | None = None,
) -> Iterator[Moment]:
    """The moments of a run until the judged metric has not improved for `patience` moments in a row.

    An improvement is one by more than `min_delta`. At the end the model gets the weights of its best moment back,
    unless `restore` is False; `keep` is a file for these weights, so that a run which is cut off and goes on later
    still has them. Goodfellow, Bengio & Courville 2016, Algorithm 7.1.

    >>> for moment in ravine.early_stopping(ravine.train(task, "adam"), patience=5): ...   # doctest: +SKIP
    """
    check_value("patience", patience, int, "[1, inf)")
    check_value("min_delta", min_delta, float, "[0, inf)")
    return _until(moments, patience, min_delta, _Best(restore, Path(keep) if keep else None))


class _Best:
    """The weights of the best moment so far, in memory or in a file."""

    def __init__(self, wanted: bool, file: Path | None) -> None:
        self.wanted, self.file = wanted, file
        self.weights: dict[str, Tensor] | None = None

    def take(self, moment: Moment) -> None:
        if not self.wanted or moment.replayed:  # the weights of a replayed moment are in the file already
            self.weights = None
            return
        self.weights = {name: value.clone() for name, value in moment.model.state_dict().items()}
        if self.file:
            part = self.file.with_name(self.file.name + ".part")
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                torch.save(self.weights, part)
                os.replace(part, self.file)
            except (OSError, RuntimeError) as error:  # RuntimeError is what torch makes of a full disk
                raise RavineError(f"cannot keep the best weights in {self.file}: {error}") from error

    def give_back(self, moment: Moment) -> None:
        if not self.wanted:
            return
        if self.weights is None:
            if not (self.file and self.file.exists()):
                raise RavineError("the best weights were lost when the run was cut off: give early_stopping keep=FILE")
            self.weights = torch.load(self.file, weights_only=True)
        moment.model.load_state_dict(self.weights)


def _until(moments: Iterable[Moment], patience: int, min_delta: float, kept: _Best) -> Iterator[Moment]:
    best: Moment | None = None
    waited = 0
    try:
        for moment in moments:
            sign = 1 if moment.task.better == "higher" else -1
            if best is None or math.isnan(best.metric) or sign * (moment.metric - best.metric) > min_delta:
                best, waited = moment, 0
                kept.take(moment)
            else:
                waited += 1
            yield moment
            if waited >= patience:
                return
    finally:
        if best is not None:
            kept.give_back(best)
