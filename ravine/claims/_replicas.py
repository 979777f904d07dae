"""Many copies of a small net trained side by side, each with its own start, data and learning rate; and the digits."""

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

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
        return (outputs(found, x).argmax(2) == y).to(torch.float64).mean(1)


def descend(found: Nets, losses: Tensor, lr: Tensor) -> None:
    """A step of plain gradient descent for each net, with its own learning rate (R,)."""
    gradients = torch.autograd.grad(losses.sum(), found)
    with torch.no_grad():
        for part, gradient in zip(found, gradients, strict=True):
            part -= lr[:, None, None] * gradient
