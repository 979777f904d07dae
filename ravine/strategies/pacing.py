"""Curricula: easy examples first, the others little by little."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ravine.core.batches import Batch, batches, check_data, length, picker
from ravine.core.declared import check_value
from ravine.core.errors import RavineError, unknown

Draw = Callable[[torch.Generator], Iterator[Batch]]
Pace = Callable[[float], float]
Difficulty = Tensor | Sequence[float] | Callable[[Any], float]


def linear(time: float, start: float) -> float:
    """From `start` to 1 on a straight line."""
    return start + (1 - start) * time


def root(time: float, start: float) -> float:
    """sqrt(time (1 - start²) + start²): quick at first (Platanios et al. 2019, eq. 7)."""
    return math.sqrt(time * (1 - start**2) + start**2)


def steps(time: float, start: float) -> float:
    """In five stages of equal length (the "baby steps" of Spitkovsky et al. 2010)."""
    return start + (1 - start) * min(4, int(5 * time)) / 4


PACES = {"linear": linear, "root": root, "steps": steps}


def curriculum(
    data: Any,
    difficulty: Difficulty,
    pace: str | Pace = "linear",
    *,
    steps: int,
    batch_size: int = 64,
    start: float = 0.1,
    reverse: bool = False,
) -> Draw:
    """Training data that begin with the easiest examples, for `Task(train=...)` (Bengio et al. 2009).

    difficulty: a number for each example, or a function of an example (`data[i]`) that gives it.
    pace: "linear", "root" or "steps", or a function from time to share. At batch t of `steps` the easiest share
        pace(t / steps) of the data is drawn from, beginning at `start`; afterwards all, in epochs as usual.
    reverse: the hardest first: the control that tells whether the order matters.

    Give the task `batch_size` too. The batches depend on the generator and their number alone, so that runs resume.
    Raises `RavineError` for data without an end, and for difficulties that are not finite or not one for each.

    >>> import dataclasses
    >>> easy_first = dataclasses.replace(task, train=curriculum(task.train, difficulty, steps=300))     # doctest: +SKIP
    """
    check_data("curriculum: data", data)
    n = length(data)
    if n is None:
        raise RavineError("a curriculum sorts its examples: data without an end cannot be sorted, give a data set")
    check_value("steps", steps, int, "[1, inf)")
    check_value("start", start, float, "(0, 1]")
    check_value("batch_size", batch_size, int, f"[1, {n}]")
    if isinstance(pace, str) and pace not in PACES:
        raise unknown("pace", pace, PACES, "Or a function from time in [0, 1] to the share of the data.")
    share = (lambda time: PACES[pace](time, start)) if isinstance(pace, str) else pace
    sizes = _sizes(share, steps, batch_size, n)
    order = _scores(data, difficulty, n).argsort(stable=True, descending=reverse)
    pick = picker(data)

    def draw(generator: torch.Generator) -> Iterator[Batch]:
        for open_ in sizes:
            yield pick(order[torch.randperm(open_, generator=generator)[:batch_size]])
        yield from batches(data, batch_size, generator)

    return draw


def _sizes(share: Pace, steps: int, batch_size: int, n: int) -> list[int]:
    """How many of the `n` examples are drawn from at each batch."""
    found: list[int] = []
    for t in range(steps):
        value = share(t / steps)
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise RavineError(f"pace must give a share of the data, from 0 to 1, at any time; at {t / steps} {value!r}")
        found.append(min(n, max(batch_size, math.ceil(value * n))))
    return found


def _scores(data: Any, difficulty: Difficulty, n: int) -> Tensor:
    if callable(difficulty):
        pick = picker(data)
        rows = (pick(torch.tensor([i])) for i in range(n))
        scores = torch.tensor([float(difficulty(_first(row))) for row in rows], dtype=torch.float64)
    else:
        scores = torch.as_tensor(difficulty, dtype=torch.float64)
    if scores.shape != (n,):
        raise RavineError(f"difficulty must be one number for each of {n} examples, got shape {tuple(scores.shape)}")
    if not scores.isfinite().all():
        bad = int((~scores.isfinite()).nonzero()[0])
        raise RavineError(f"difficulty must be finite, got {float(scores[bad])} for example {bad}")
    return scores


def _first(batch: Any) -> Any:
    """The one example in a batch of one."""
    if isinstance(batch, dict):
        return {key: value[0] for key, value in batch.items()}
    return tuple(value[0] for value in batch) if isinstance(batch, tuple | list) else batch[0]
