"""Normalized initialization (Glorot)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor

from ravine.init.strategy import DISTRIBUTIONS, Drawn, Source, Strategy, fans


@dataclass(frozen=True)
class Glorot(Strategy):
    """Glorot's (Xavier's) normalized initialization: a compromise of keeping activations and gradients.

        Var W = gain^2 2 / (fan_in + fan_out),    uniform: W_ij ~ U(-sqrt(6 / (m + n)), sqrt(6 / (m + n)))

    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010, eqs. 12
    and 16; Goodfellow et al. (2016), eq. 8.23. Theirs is uniform; so is this one's default.
    """

    distribution: str = "uniform"
    gain: float | int | str = 1.0

    choices = {"distribution": DISTRIBUTIONS}

    def scale(self, shape: tuple[int, ...], role: str = "hidden") -> float:
        return float((2 / sum(fans(shape))) ** 0.5)

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: Source) -> Tensor:
        return source.of(self.distribution, shape, gain * self.scale(shape))


def glorot(
    shape: Sequence[int], distribution: str = "uniform", gain: float | str = 1.0, **drawn: Unpack[Drawn]
) -> Tensor:
    """A weight (out, in, *kernel) of variance 2 / (fan_in + fan_out); `Glorot` says more."""
    return Glorot(distribution, gain)(shape, **drawn)
