"""A cliff: the loss of a recurrent network with one unit."""

import torch
from torch import Tensor

from ravine.surfaces.definition import surface

UNROLLED, BEGIN, TARGET = 50, 0.5, 0.7


@surface(
    window=(4.2, 6.4, -3.0, -1.7), start=(5.6, -2.0), minima=((4.4, -2.2309842726808973),), logarithmic=False,
    steps=100,
)  # fmt: skip
def cliff(w: Tensor, b: Tensor) -> Tensor:
    """A recurrent network of one unit: a plain that ends at a wall.

        x_t = w sigmoid(x_{t-1}) + b,   x_0 = 0.5,          f = (sigmoid(x_50) - 0.7)^2

    The cliff of Pascanu, Mikolov & Bengio 2013 (arXiv:1211.5063), which the deep learning book shows in figure 8.3. It
    has no single minimum: the loss is zero along a line, of which one point is marked.
    """
    x = torch.full_like(w, BEGIN)
    for _ in range(UNROLLED):
        x = w * torch.sigmoid(x) + b
    return (torch.sigmoid(x) - TARGET) ** 2
