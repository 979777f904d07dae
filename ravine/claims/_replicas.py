"""Many copies of a small net trained side by side, each with its own start, data and learning rate; and the digits."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIZE, HIDDEN = 1797, 32
Nets = list[Tensor]
"""Weights and offsets of one hidden layer of tanh units: (R, d, h), (R, 1, h), (R, h, c), (R, 1, c)."""


@cache
def digits() -> tuple[Tensor, Tensor]:
    """The 1,797 digits in float64, pixels of mean 0 and standard deviation 1 over the whole set, and their classes."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return torch.tensor((images - images.mean()) / images.std()), torch.tensor(labels, dtype=torch.int64)


def shuffles(count: int, size: int, chance: np.random.Generator) -> Tensor:
    """That many random orders of 0 ... size - 1, in rows."""
    return torch.tensor(chance.permuted(np.tile(np.arange(size), (count, 1)), axis=1))


def nets(count: int, inputs: int, hidden: int, outputs: int, chance: torch.Generator) -> Nets:
    """Weights of variance 1/fan-in, no offsets."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=chance, dtype=torch.float64)

    first, second = normal(count, inputs, hidden) / inputs**0.5, normal(count, hidden, outputs) / hidden**0.5
    rows = [torch.zeros(count, 1, size, dtype=torch.float64) for size in (hidden, outputs)]
    return [parameter.requires_grad_() for parameter in (first, rows[0], second, rows[1])]


def spread(found: Nets, copies: int) -> Nets:
    """Each net that many times in a row."""
    return [part.detach().repeat_interleave(copies, 0).requires_grad_() for part in found]


def outputs(found: Nets, x: Tensor) -> Tensor:
    """(R, B, c) for inputs of (R, B, d), or of (B, d), which all nets share then."""
    w1, b1, w2, b2 = found
    return torch.tanh(x @ w1 + b1) @ w2 + b2


def entropies(found: Nets, x: Tensor, y: Tensor) -> Tensor:
    """The mean cross-entropy of every net: (R,)."""
    out = outputs(found, x)
    classes = y.expand(out.shape[:2]).reshape(-1)
    return F.cross_entropy(out.flatten(0, 1), classes, reduction="none").view(out.shape[:2]).mean(1)


def accuracies(found: Nets, x: Tensor, y: Tensor) -> Tensor:
    """The share of right answers of every net: (R,)."""
    with torch.no_grad():
        return (outputs(found, x).argmax(2) == y).double().mean(1)


def descend(found: Nets, losses: Tensor, lr: Tensor) -> None:
    """A step of plain gradient descent for each net, with its own learning rate (R,)."""
    gradients = torch.autograd.grad(losses.sum(), found)
    with torch.no_grad():
        for part, gradient in zip(found, gradients, strict=True):
            part -= lr[:, None, None] * gradient


class Split(NamedTuple):
    """For every copy its own training and held-out images: (S, n, 64) each, with their classes (S, n)."""

    train: tuple[Tensor, Tensor]
    valid: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def splits(count: int, train: int, valid: int, chance: np.random.Generator, noise: float = 0.0) -> Split:
    """Digits in float32; that share of the training labels is drawn anew from all classes. The rest is for tests."""
    x, y = digits()
    order = shuffles(count, SIZE, chance)
    parts = [(x[rows].float(), y[rows]) for rows in torch.split(order, [train, valid, SIZE - train - valid], 1)]
    labels = parts[0][1]
    wrong = torch.tensor(chance.random(labels.shape) < noise)
    drawn = torch.tensor(chance.integers(10, size=labels.shape))
    return Split((parts[0][0], torch.where(wrong, drawn, labels)), parts[1], parts[2])


class Course(NamedTuple):
    """How training went: at each look the passes so far, and figures of every copy and learning rate (looks, S, L)."""

    passes: np.ndarray
    loss: np.ndarray
    error: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    def first(self, reached: np.ndarray) -> np.ndarray:
        """The first look at which that holds, of every copy and learning rate; -1 where it never does."""
        return np.where(reached.any(0), reached.argmax(0), -1)

    def at(self, figure: np.ndarray, looks: np.ndarray) -> np.ndarray:
        """The figure at these looks (S, L); NaN where the look is -1."""
        found = np.take_along_axis(figure, np.maximum(looks, 0)[None], 0)[0]
        return np.where(looks >= 0, found, np.nan)


def course(
    data: Split,
    start: Nets,
    lrs: Sequence[float],
    *,
    batch: int,
    passes: float,
    chance: np.random.Generator,
    reached: Callable[[np.ndarray, np.ndarray], np.ndarray],
    patience: float,
    least: float = 0,
) -> Course:
    """SGD from the same starts with each learning rate, minibatches from a new order in every pass.

    Figures are taken every eighth of a pass at first, then ever more rarely (by 3 %). It ends after `passes`, or once
    `patience` times as many passes have gone as the first learning rate needed until `reached(loss, error)` held at
    some look for every copy, though not before `least`.
    """
    copies, size = data.train[1].shape
    lr = torch.tensor(lrs, dtype=torch.float32).repeat(copies)
    wide = Split(*((x.repeat_interleave(len(lrs), 0), y.repeat_interleave(len(lrs), 0)) for x, y in data))
    found = [part.detach().float().requires_grad_() for part in spread(start, len(lrs))]
    rows, line = torch.arange(len(lr))[:, None], []
    seen, look, at, end, there = 0, size / 8, [], passes * size, np.zeros((copies, len(lrs)), bool)
    while seen < end:
        order = shuffles(copies, size, chance).repeat_interleave(len(lrs), 0)
        for part in torch.split(order, batch, 1):
            x, y = wide.train if batch >= size else (wide.train[0][rows, part], wide.train[1][rows, part])
            descend(found, entropies(found, x, y), lr)
            seen += part.shape[1]
            if seen >= look:
                look = max(seen + size / 8, 1.03 * seen)
                at.append(seen / size)
                line.append(_figures(found, wide, copies))
                if not there.all(0).any():
                    there |= reached(line[-1][0], line[-1][1])
                    end = min(end, max(patience * seen, least * size)) if there.all(0).any() else end
    return Course(np.array(at), *np.array(line).swapaxes(0, 1))


def _figures(found: Nets, data: Split, copies: int) -> np.ndarray:
    """Training loss and error, accuracy on validation and test data: (4, S, L)."""
    with torch.no_grad():
        loss = torch.nan_to_num(entropies(found, *data.train), nan=np.inf)
    error = 1 - accuracies(found, *data.train)
    rows = (loss.double(), error, accuracies(found, *data.valid), accuracies(found, *data.test))
    return torch.stack(rows).view(4, copies, -1).numpy()
