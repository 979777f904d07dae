"""Zero initialization."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor

from ravine.init.strategy import Drawn, Source, Strategy


@dataclass(frozen=True)
class Zeros(Strategy):
    """Zeros: for the last layer of residual branches and for output heads; hidden layers would stay symmetric."""

    dimensions = (1, 5)

    def scale(self, shape: tuple[int, ...], role: str = "hidden") -> float:
        return 0.0

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: Source) -> Tensor:
        return source.zeros(shape)


def zeros(shape: Sequence[int], **drawn: Unpack[Drawn]) -> Tensor:
    """A weight of zeros."""
    return Zeros()(shape, **drawn)
