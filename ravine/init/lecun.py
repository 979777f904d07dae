"""LeCun initialization."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor

from ravine.init.strategy import DISTRIBUTIONS, Drawn, Source, Strategy


@dataclass(frozen=True)
class LeCun(Strategy):
    """LeCun's initialization: inputs of variance 1 give pre-activations of variance 1.

        Var W = gain^2 / fan_in

    LeCun, Bottou, Orr and Müller, Efficient BackProp, 1998, eq. 16.
    """

    distribution: str = "normal"
    gain: float | int | str = 1.0

    name = "lecun"
    choices = {"distribution": DISTRIBUTIONS}

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: Source) -> Tensor:
        return source.of(self.distribution, shape, gain * self.scale(shape))


def lecun(
    shape: Sequence[int], distribution: str = "normal", gain: float | str = 1.0, **drawn: Unpack[Drawn]
) -> Tensor:
    """A weight (out, in, *kernel) of variance 1 / fan_in; `LeCun` says more."""
    return LeCun(distribution, gain)(shape, **drawn)
