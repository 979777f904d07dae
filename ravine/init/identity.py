"""Identity initialization."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor

from ravine.init.strategy import Drawn, Source, Strategy, middle


@dataclass(frozen=True)
class Identity(Strategy):
    """Identity: the layer begins as its own input times gain, or as much of it as fits.

        W_ij = gain delta_ij;    a kernel has its number in the middle

    For recurrent weights of ReLU units with gain 1, or 0.01 where long memory is not needed (Le, Jaitly and Hinton, A
    simple way to initialize recurrent networks of rectified linear units, arXiv 1504.00941). Nothing
    is random, so outputs beyond the number of inputs are zero.
    """

    gain: float | int | str = 1.0

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: Source) -> Tensor:
        weight = source.zeros(shape)
        middle(weight).fill_diagonal_(gain)
        return weight

    def scale(self, shape: tuple[int, ...], role: str = "hidden") -> float:
        return float((min(shape[:2]) / math.prod(shape)) ** 0.5)


def identity(shape: Sequence[int], gain: float | str = 1.0, **drawn: Unpack[Drawn]) -> Tensor:
    """A weight (out, in, *kernel) that hands its input on, times gain; `Identity` says more."""
    return Identity(gain)(shape, **drawn)
