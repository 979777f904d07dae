"""Small networks of one shape side by side: a replica's weights are a slice of each tensor, so all train in one pass.

A replica's gradient depends on its own loss alone, so the sum of all losses is what is differentiated.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

Data = tuple[Tensor, Tensor]
Unit = Callable[[Tensor], Tensor]


def digits(generator: torch.Generator, *sizes: int) -> list[Data]:
    """Disjoint parts of scikit-learn's 1,797 digits in a drawn order; pixels in [0, 1], float64."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=generator)[: sum(sizes)]
    x, y = torch.tensor(images / 16)[order], torch.tensor(labels)[order]
    return list(zip(torch.split(x, list(sizes)), torch.split(y, list(sizes)), strict=True))


def networks(
    widths: Sequence[int], replicas: int, generator: torch.Generator, gain: float = 2.0, last_bias: bool = True
) -> list[Tensor]:
    """Weights and biases in turn: weights of variance gain / fan-in (He et al. 2015 for gain 2), biases 0."""
    found = []
    for fan_in, fan_out in pairwise(widths):
        weight = torch.randn(replicas, fan_in, fan_out, dtype=torch.float64, generator=generator)
        found += [weight * (gain / fan_in) ** 0.5, torch.zeros(replicas, 1, fan_out, dtype=torch.float64)]
    return [p.requires_grad_() for p in (found if last_bias else found[:-1])]


def outputs(parameters: Sequence[Tensor], x: Tensor, unit: Unit = torch.relu) -> Tensor:
    """What each replica computes for its own inputs x[replica], or for one set x that all share."""
    layers = [parameters[i : i + 2] for i in range(0, len(parameters), 2)]
    for i, layer in enumerate(layers):
        x = x @ layer[0] + (layer[1] if len(layer) > 1 else 0)
        x = unit(x) if i + 1 < len(layers) else x
    return x


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Each replica's mean loss."""
    y = y.expand(logits.shape[:-1])
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(1)


def errors(logits: Tensor, y: Tensor) -> Tensor:
    """Each replica's share of wrong answers."""
    return (logits.argmax(-1) != y).double().mean(-1)


def minibatch(order: Tensor, step: int, size: int) -> Tensor:
    """The indices of each replica's minibatch at a step of an epoch; `order` is a permutation per replica."""
    return order[:, step * size : (step + 1) * size]


def shuffled(replicas: int, examples: int, generator: torch.Generator) -> Tensor:
    """A permutation of the examples for each replica."""
    return torch.rand(replicas, examples, generator=generator).argsort(1)


def descend(optimizer: torch.optim.Optimizer, losses: Tensor) -> None:
    """One step of all replicas, each down its own loss."""
    optimizer.zero_grad()
    losses.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
