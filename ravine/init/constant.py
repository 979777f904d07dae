"""One number everywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor

from ravine.init.strategy import Drawn, Source, Strategy


@dataclass(frozen=True)
class Constant(Strategy):
    """Constant: one number everywhere, for biases; a matrix of it keeps its units alike for ever.

    A bias of 0.1 lets most ReLU units begin active (Goodfellow et al. 2016, section 8.4).
    """

    value: float = 0.1

    dimensions = (1, 5)
    ranges = {"value": "(-inf, inf)"}

    def scale(self, shape: tuple[int, ...], role: str = "hidden") -> float:
        return abs(self.value)

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: Source) -> Tensor:
        return source.zeros(shape).fill_(self.value)


def constant(shape: Sequence[int], value: float = 0.1, **drawn: Unpack[Drawn]) -> Tensor:
    """A tensor of one number."""
    return Constant(value)(shape, **drawn)
