"""Widths of the maximal update parametrization."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor

from ravine.init.strategy import DISTRIBUTIONS, Drawn, Source, Strategy, fans


@dataclass(frozen=True)
class MuP(Strategy):
    """muP: hidden weights as LeCun's, output weights smaller by sqrt(width), so that settings move to other widths.

        input, hidden: Var W = gain^2 / fan_in,    output: Var W = gain^2 base_width / fan_in^2,    embedding: gain^2

    At fan_in = base_width the output is LeCun's too. The other half of muP is the learning rate: under Adam, hidden
    and output matrices take lr * base_width / fan_in (`ravine.groups` gives roles an lr each).

    Yang et al., Tensor Programs V, arXiv 2203.03466, Table 3.
    """

    base_width: int = 128
    distribution: str = "normal"
    gain: float | int | str = 1.0

    name = "mup"
    choices = {"distribution": DISTRIBUTIONS}
    ranges = {"base_width": "[1, inf)"}

    def scale(self, shape: tuple[int, ...], role: str = "hidden") -> float:
        fan_in, _ = fans(shape)
        if role == "embedding":
            return 1.0
        return float(fan_in**-0.5 * ((self.base_width / fan_in) ** 0.5 if role == "output" else 1.0))

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: Source) -> Tensor:
        return source.of(self.distribution, shape, gain * self.scale(shape, role))


def mup(
    shape: Sequence[int],
    base_width: int = 128,
    distribution: str = "normal",
    gain: float | str = 1.0,
    **drawn: Unpack[Drawn],
) -> Tensor:
    """A weight (out, in, *kernel) by its role: `role="output"` is narrower; `MuP` says more."""
    return MuP(base_width, distribution, gain)(shape, **drawn)
