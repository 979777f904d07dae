"""The adding problem: a sequence of numbers, two of them marked, whose sum is to be said at the end."""

import torch
from torch import Tensor

TOLERANCE = 0.04
"""An answer is wrong if it is off by more (Sutskever et al. 2013, sec. 4)."""


def sequences(copies: int, batch: int, length: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs (copies, batch, length, 2), numbers in [0, 1] and marks less their means, and sums less theirs.

    One mark is in the first half and one in the second (Hochreiter & Schmidhuber 1997, sec. 5.4, in short).
    """
    values = torch.rand(copies, batch, length, generator=chance)
    marks, half = torch.zeros(copies, batch, length), length // 2
    for start in (0, half):
        marks.scatter_(2, start + torch.randint(half, (copies, batch, 1), generator=chance), 1.0)
    total = (values * marks).sum(2)
    return torch.stack([values - 0.5, marks - 2 / length], 3), total - 1


def wrong(answers: Tensor, sums: Tensor) -> Tensor:
    """The share of answers (copies, batch) that are off by more than the tolerance: (copies,)."""
    return ((answers - sums).abs() > TOLERANCE).double().mean(1)
