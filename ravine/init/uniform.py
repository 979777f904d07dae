"""The uniform heuristic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor

from ravine.init.strategy import Drawn, Source, Strategy


@dataclass(frozen=True)
class Uniform(Strategy):
    """Uniform: U(-1/sqrt(m), 1/sqrt(m)) for m inputs, the heuristic that Glorot and Bengio (2010) call standard.

        W_ij ~ U(-gain sqrt(3 / fan_in), gain sqrt(3 / fan_in))

    with gain 1/sqrt(3), so that m Var W = 1/3 (their eq. 15). Goodfellow et al. (2016), p. 303, in the text before
    eq. 8.23.
    """

    gain: float | int | str = 3**-0.5

    isotropic = False

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: Source) -> Tensor:
        return source.of("uniform", shape, gain * self.scale(shape))


def uniform(shape: Sequence[int], gain: float | str = 3**-0.5, **drawn: Unpack[Drawn]) -> Tensor:
    """A weight (out, in, *kernel), U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for the gain 1/sqrt(3); `Uniform` says more."""
    return Uniform(gain)(shape, **drawn)
