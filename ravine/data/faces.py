"""FACES-R: patches of the ORL faces, made anew after the description of a set that is not to be had.

Hinton & Salakhutdinov (2006) cut 414 patches of 25x25 pixels out of each of 400 portraits of 64x64: turned by up to 90
degrees either way, one pixel of a patch 1.4 to 1.8 of the portrait. What their recipe leaves open was set so that PCA
with 30 components has an error of 132 on people it has not seen (in print 135).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ravine.core.declared import check_value

SIDE, PORTRAIT = 25, 64
NEAR, FAR = 1.4, 1.8
_AT_ONCE = 4096


def patches(portraits: Tensor, each: int, seed: int = 0) -> Tensor:
    """`each` patches of every portrait (n, height, width): (n * each, 625), in the portraits' own grey levels.

    A patch lies wholly within its portrait, turned and scaled at random and anywhere with the same chance.
    """
    check_value("each", each, int, "[1, inf)")
    small = F.interpolate(portraits[:, None].float(), (PORTRAIT, PORTRAIT), mode="bicubic", antialias=True)
    draw = torch.Generator().manual_seed(seed)
    drawn = torch.rand(len(portraits) * each, 4, generator=draw)
    owner = torch.arange(len(portraits)).repeat_interleave(each)
    parts = zip(torch.split(owner, _AT_ONCE), torch.split(drawn, _AT_ONCE), strict=True)
    return torch.cat([_cut(small[which], numbers) for which, numbers in parts])


def _cut(portraits: Tensor, drawn: Tensor) -> Tensor:
    """One patch of each portrait, by four numbers in [0, 1]: angle, scale, and place across and down."""
    angle, scale = math.pi * (drawn[:, 0] - 0.5), NEAR + (FAR - NEAR) * drawn[:, 1]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    reach = (SIDE - 1) / 2 * (cos.abs() + sin.abs())  # of a corner from the middle, across as down
    middle = reach[:, None] + drawn[:, 2:] * (PORTRAIT - 1 - 2 * reach[:, None])
    down, across = torch.meshgrid(*[torch.arange(SIDE) - (SIDE - 1) / 2] * 2, indexing="ij")
    cos, sin = cos[:, None, None], sin[:, None, None]
    x = cos * across - sin * down + middle[:, :1, None]
    y = sin * across + cos * down + middle[:, 1:, None]
    grid = torch.stack([x, y], -1) * 2 / (PORTRAIT - 1) - 1
    return F.grid_sample(portraits, grid, align_corners=True, padding_mode="border").flatten(1)
