"""A normal distribution whose scale does not depend on the shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor

from ravine.init.strategy import Drawn, Source, Strategy


@dataclass(frozen=True)
class Normal(Strategy):
    """Normal: N(0, deviation^2) whatever the shape, as embeddings have it.

    W_ij ~ N(0, deviation^2)
    """

    deviation: float = 0.02

    dimensions = (1, 5)
    ranges = {"deviation": "(0, inf)"}

    def scale(self, shape: tuple[int, ...], role: str = "hidden") -> float:
        return self.deviation

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: Source) -> Tensor:
        return source.normal(shape, self.deviation)


def normal(shape: Sequence[int], deviation: float = 0.02, **drawn: Unpack[Drawn]) -> Tensor:
    """A weight of independent N(0, deviation^2), whatever its shape."""
    return Normal(deviation)(shape, **drawn)
