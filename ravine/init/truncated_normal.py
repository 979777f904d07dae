"""Truncated normal initialization."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor

from ravine.init.strategy import Drawn, Source, Strategy


@dataclass(frozen=True)
class TruncatedNormal(Strategy):
    """Truncated normal: none beyond `cut` deviations, and the variance is the one asked for all the same.

        W_ij ~ N(0, s^2) given |W_ij| <= cut s,    s^2 (1 - 2 cut phi(cut) / (2 Phi(cut) - 1)) = Var W = gain^2 / fan_in

    or `deviation`^2 where that is given. `torch.nn.init.trunc_normal_(std=s)` leaves the deviation at 0.88 s for a cut
    of 2, and its a and b are numbers, not deviations.
    """

    deviation: float | None = None
    gain: float | int | str = 1.0
    cut: float = 2.0

    isotropic = False
    ranges = {"deviation": "(0, inf)", "cut": "[0.1, 8]"}

    def scale(self, shape: tuple[int, ...], role: str = "hidden") -> float:
        return super().scale(shape) if self.deviation is None else self.deviation

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: Source) -> Tensor:
        return source.truncated(shape, gain * self.scale(shape), self.cut)


def truncated_normal(
    shape: Sequence[int],
    deviation: float | None = None,
    gain: float | str = 1.0,
    cut: float = 2.0,
    **drawn: Unpack[Drawn],
) -> Tensor:
    """A weight of a cut normal distribution, of variance 1 / fan_in or deviation^2; `TruncatedNormal` says more."""
    return TruncatedNormal(deviation, gain, cut)(shape, **drawn)
