"""Many copies of a network trained side by side from different starts, each at its own learning rate.

A copy's weights are a slice of each tensor; its gradient depends on its own loss alone.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

Loss = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]
"""The mean loss of every copy (R,) on images (R, B, d) or (B, d) with their labels."""


def widened(parts: Sequence[Tensor], times: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Each copy that many times in a row."""
    return [part.detach().to(dtype).repeat_interleave(times, 0).requires_grad_() for part in parts]


def scaled(parts: Sequence[Tensor], factor: float) -> list[Tensor]:
    """Weights (every other tensor, from the first) times a factor; offsets as they are."""
    return [part.detach() * (factor if i % 2 == 0 else 1) for i, part in enumerate(parts)]


def descend(parts: Sequence[Tensor], losses: Tensor, lr: Tensor) -> None:
    """A step of plain gradient descent of every copy, at its own learning rate (R,)."""
    gradients = torch.autograd.grad(losses.sum(), list(parts))
    with torch.no_grad():
        for part, gradient in zip(parts, gradients, strict=True):
            part -= lr.view(-1, *[1] * (part.ndim - 1)) * gradient


def passes(
    parts: Sequence[Tensor],
    loss: Loss,
    data: tuple[Tensor, Tensor],
    lr: Tensor,
    *,
    batch: int,
    epochs: int,
    chance: torch.Generator,
    orders: int,
) -> Iterator[int]:
    """SGD; yields the number of passes so far. `orders` random orders of the data, each for as many copies in a row."""
    x, y = data
    for epoch in range(1, epochs + 1):
        order = torch.rand(orders, len(x), generator=chance).argsort(1).repeat_interleave(len(lr) // orders, 0)
        for rows in torch.split(order[:, : len(x) // batch * batch], batch, 1):
            descend(parts, loss(parts, x[rows], y[rows]), lr)
        yield epoch
