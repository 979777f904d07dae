"""Layers learnt on half of the classes of the digits, in networks for the other half (Yosinski et al. 2014)."""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from ravine.claims._deep_nets import Deep, accuracies, entropies, gradient
from ravine.claims._walk import walk
from ravine.core.claim import Trial
from ravine.rules import Adam
from ravine.strategies import class_halves
from ravine.tasks import task

NET, LR, BATCH = Deep(4, 32), 3e-3, 64
LAYERS = (1, 2, 3, 4)
Data = tuple[Tensor, Tensor]
Row = tuple[str, int]
"""A treatment, and how many layers are copied."""


class Half(NamedTuple):
    """Of every copy: what is trained on, and what is judged on."""

    train: list[Data]
    test: list[Data]


def halves(seeds: Sequence[int], few: int | None) -> tuple[Half, Half]:
    """For each seed a random half of the classes, and the other with `few` images of each class to train on."""
    found: tuple[Half, Half] = (Half([], []), Half([], []))
    for seed in seeds:
        for half, part in zip(found, class_halves(task("digits-mlp"), seed, few), strict=True):
            half.train.append(part.train)
            half.test.append(tuple(torch.cat(both) for both in zip(part.valid, part.test, strict=True)))  # type: ignore[arg-type]
    return found


def learnt(start: Tensor, data: list[Data], trial: Trial, name: str, steps: int, mask: Tensor | None = None) -> Tensor:
    """The weights after training by Adam; rows are arms of one copy for each of `data`, all arms on equal batches."""
    generators = [trial.torch("batches", name, i) for i in range(len(data))]
    arms = len(start) // len(data)

    def losses(w: Tensor) -> Tensor:
        rows = [torch.randint(len(y), (BATCH,), generator=g) for (_, y), g in zip(data, generators, strict=True)]
        x = torch.stack([x[row] for (x, _), row in zip(data, rows, strict=True)]).repeat(arms, 1, 1)
        y = torch.stack([y[row] for (_, y), row in zip(data, rows, strict=True)]).repeat(arms, 1)
        return entropies(NET.logits(w, x), y)

    return next(islice(walk(Adam(), gradient(losses, mask), start, LR), steps, None))


def judged(weights: Tensor, data: list[Data]) -> Tensor:
    """Accuracy in percent: (arms, copies)."""
    with torch.no_grad():
        columns = [accuracies(NET.logits(weights[i :: len(data)], x), y) for i, (x, y) in enumerate(data)]
    return 100 * torch.stack(columns, 1)


def matrix(trial: Trial, few: int | None, rows: Sequence[Row], copies: int, steps: int) -> dict[Row, list[float]]:
    """Accuracy on B of every treatment with so many layers copied, and of training on B alone: ("baseB", 0).

    Of one copy all networks for B begin with the same weights above the copied layers and see the same minibatches.
    """
    a, b = halves(trial.seeds(copies), few)
    fresh = NET.start([trial.torch("start", i) for i in range(copies)], "he")
    first = NET.start([trial.torch("start of A", i) for i in range(copies)], "he")
    bases = {"A": learnt(first, a.train, trial, "A", steps), "B": learnt(fresh, b.train, trial, "B", steps)}
    again = NET.start([trial.torch("start above", i) for i in range(copies)], "he")
    starts, masks = [], []
    for treatment, k in rows:
        copied = NET.only(range(1, k + 1))
        starts.append(copied * bases[treatment[0]] + (1 - copied) * again)
        masks.append((torch.ones_like(copied) if "+" in treatment else 1 - copied).expand(copies, -1))
    found = learnt(torch.cat(starts), b.train, trial, "B again", steps, torch.cat(masks))
    values = {row: line.tolist() for row, line in zip(rows, judged(found, b.test), strict=True)}
    return {("baseB", 0): judged(bases["B"], b.test)[0].tolist()} | values
