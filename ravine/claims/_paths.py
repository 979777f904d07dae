"""Networks on the digits that are trained and leave behind where they have been: starts, ends and the way between."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ravine.core.claim import Trial
from ravine.core.rule import Rule
from ravine.optimizer import Optimizer

WIDTHS, BATCH = (64, 32, 32, 10), 100


@cache
def digits() -> tuple[Tensor, Tensor]:
    """The 1,797 digits in float64, pixels of mean 0 and standard deviation 1 over the whole set, and their classes."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return torch.tensor((images - images.mean()) / images.std()), torch.tensor(labels, dtype=torch.int64)


@dataclass(frozen=True)
class Net:
    """64-32-32-10, rectified; `normalized`: the hidden sums of a batch are brought to mean 0 and variance 1, then γ, β.

    Copies stand side by side in each tensor, parts in turn: weights, offsets (β), and where normalized scales γ.
    """

    normalized: bool = False

    def start(self, copies: int, chance: torch.Generator) -> list[Tensor]:
        """Weights of He et al. 2015, offsets 0, scales 1."""
        found = []
        for a, b in pairwise(WIDTHS):
            found.append(torch.randn(copies, a, b, generator=chance, dtype=torch.float64) * (2 / a) ** 0.5)
            found += [torch.zeros(copies, 1, b, dtype=torch.float64), torch.ones(copies, 1, b, dtype=torch.float64)]
        kept = found[:-1] if self.normalized else [part for i, part in enumerate(found) if i % 3 < 2]
        return [part.requires_grad_() for part in kept]

    def losses(self, parts: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
        """The mean cross-entropy of each copy: (copies,)."""
        each = 3 if self.normalized else 2
        layers = [parts[i : i + each] for i in range(0, len(parts), each)]
        for i, (weight, offset, *scale) in enumerate(layers):
            x = x @ weight
            if scale:
                x = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt() * scale[0]
            x = x + offset
            x = x.relu() if i + 1 < len(layers) else x
        classes = y.expand(x.shape[:2])
        return F.cross_entropy(x.flatten(0, 1), classes.reshape(-1), reduction="none").view(x.shape[:2]).mean(1)


@dataclass(frozen=True)
class Way:
    """Where training has led. `at`: flat weights of every copy (copies, n) after each epoch, the start first."""

    net: Net
    parts: list[Tensor]
    at: list[Tensor]
    length: Tensor
    """The sum of the lengths of all steps of each copy."""

    def straight(self, alphas: Sequence[float]) -> Tensor:
        """The training loss at those shares of the straight line from start to end: (alphas, copies)."""
        x, y = digits()
        rows = []
        with torch.no_grad():
            for alpha in alphas:
                flat = torch.lerp(self.at[0], self.at[-1], alpha)
                sizes = [part[0].numel() for part in self.parts]
                pieces = [f.view_as(p) for f, p in zip(torch.split(flat, sizes, 1), self.parts, strict=True)]
                rows.append(self.net.losses(pieces, x, y))
        return torch.stack(rows)

    @property
    def distance(self) -> Tensor:
        """From start to end, of each copy."""
        found: Tensor = (self.at[-1] - self.at[0]).norm(dim=1)
        return found


def trained(trial: Trial, name: str, rule: Rule, lr: float, epochs: int, copies: int, net: Net) -> Way:
    """Copies trained side by side by minibatches of 100, each with its own start and order."""
    x, y = digits()
    parts = net.start(copies, trial.torch("init"))
    optimizer, chance = Optimizer(parts, rule, lr=lr), trial.numpy("order", name)
    at, length = [_flat(parts)], torch.zeros(copies, dtype=torch.float64)
    here = at[0]
    for _ in range(epochs):
        shuffled = torch.tensor(chance.permuted(np.tile(np.arange(len(x)), (copies, 1)), axis=1))
        for rows in torch.split(shuffled[:, : len(x) // BATCH * BATCH], BATCH, 1):
            loss = net.losses(parts, x[rows], y[rows]).sum()
            for part, gradient in zip(parts, torch.autograd.grad(loss, parts), strict=True):
                part.grad = gradient
            optimizer.step()
            before, here = here, _flat(parts)
            length += (here - before).norm(dim=1)
        at.append(here)
    return Way(net, parts, at, length)


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach().flatten(1) for part in parts], 1).clone()
