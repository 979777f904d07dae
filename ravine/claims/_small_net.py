"""A network of one hidden layer on scikit-learn's digits, many copies at once: the setting of several claims.

The weights of a copy are one vector, so that rules which look at each weight alone train all copies in one tensor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

INPUTS, CLASSES, TRAIN = 64, 10, 1297


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1,297 images to train on and 500 to judge, pixels in [0, 1], and their labels; one fixed shuffle."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(images, dtype=torch.float32)[order] / 16
    y = torch.tensor(labels, dtype=torch.int64)[order]
    return x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]


@dataclass(frozen=True)
class Net:
    """64 pixels, `width` rectified units, 10 classes; `scale` multiplies the loss."""

    width: int = 32
    scale: float = 1.0

    @property
    def size(self) -> int:
        """How many weights a copy has."""
        return (INPUTS + 1) * self.width + (self.width + 1) * CLASSES

    def start(self, generators: list[torch.Generator]) -> Tensor:
        """A copy for each generator: weights of He et al. 2015, biases of zero."""
        copies = torch.zeros(len(generators), self.size)
        for copy, generator in zip(copies, generators, strict=True):
            for part, inputs in zip(self._parts(copy)[::2], (INPUTS, self.width), strict=True):
                part.normal_(0, (2 / inputs) ** 0.5, generator=generator)
        return copies

    def loss(self, weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The mean cross-entropy of each copy (c, weights) on images (n, 64), or on its own (c, n, 64)."""
        a, b, c, d = self._parts(weights)
        outputs = torch.relu(x @ a + b[:, None]) @ c + d[:, None]
        labels = y.expand(outputs.shape[:-1])
        return F.cross_entropy(outputs.transpose(1, 2), labels, reduction="none").mean(-1)

    def gradient(self, batch: Callable[[], tuple[Tensor, Tensor]]) -> Callable[[Tensor], Tensor]:
        """The gradient of each copy's loss on the next minibatch."""

        def gradient(weights: Tensor) -> Tensor:
            at = weights.detach().requires_grad_()
            loss = self.scale * self.loss(at, *batch()).sum()
            return torch.autograd.grad(loss, at)[0]

        return gradient

    def _parts(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights and biases of the two layers, as views."""
        sizes = [INPUTS * self.width, self.width, self.width * CLASSES, CLASSES]
        a, b, c, d = torch.split(weights, sizes, -1)
        lead = weights.shape[:-1]
        return a.view(*lead, INPUTS, self.width), b, c.view(*lead, self.width, CLASSES), d


def batches(generators: list[torch.Generator], size: int, repeat: int = 1) -> Callable[[], tuple[Tensor, Tensor]]:
    """Minibatches drawn with replacement, one stream a generator, each handed to `repeat` copies in a row."""
    x, y, _, _ = digits()

    def batch() -> tuple[Tensor, Tensor]:
        picks = [torch.randint(TRAIN, (size,), generator=generator) for generator in generators]
        rows = torch.stack(picks).repeat_interleave(repeat, 0)
        return x[rows], y[rows]

    return batch
