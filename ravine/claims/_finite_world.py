"""A world small enough to be known whole: every cell of p(x, y) is listed, so that expectations are sums."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class World(NamedTuple):
    """The points x in the rows of `x` (cells, d), their classes `y`, and the probability `p` of each cell."""

    x: Tensor
    y: Tensor
    p: Tensor

    def draw(self, shape: tuple[int, ...], chance: np.random.Generator) -> Tensor:
        """Cells, drawn independently."""
        return torch.tensor(chance.choice(len(self.p), size=shape, p=self.p.numpy()))


def world(bits: int, classes: int, chance: np.random.Generator) -> World:
    """All words of +-1 of that many bits, with random probabilities, times the classes, with random p(y | x)."""
    words = 1.0 - 2.0 * ((np.arange(2**bits)[:, None] >> np.arange(bits)) & 1)
    p_x = chance.dirichlet(np.ones(len(words)))
    p_y = chance.dirichlet(np.full(classes, 0.5), size=len(words))
    joint = torch.tensor((p_x[:, None] * p_y).ravel())
    x = torch.tensor(words).repeat_interleave(classes, 0)
    return World(x, torch.arange(classes).repeat(len(words)), joint / joint.sum())
