"""He initialization."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor

from ravine.init.strategy import DISTRIBUTIONS, Drawn, Source, Strategy, fans


@dataclass(frozen=True)
class He(Strategy):
    """He's (Kaiming's) initialization: keeps activations (fan_in) or gradients (fan_out) of ReLU nets.

        Var W = gain^2 / fan,    gain = sqrt(2 / (1 + a^2)) for slopes 1 and a;  a = 0, ReLU, unless gain says else

    He et al., Delving deep into rectifiers, arXiv 1502.01852, eqs. 10, 14 and 15. torch's `nn.Linear` calls it with
    a = sqrt(5), which is not He's but `uniform`.
    """

    mode: str = "fan_in"
    distribution: str = "normal"
    gain: float | int | str = 2**0.5

    choices = {"mode": ("fan_in", "fan_out"), "distribution": DISTRIBUTIONS}

    def scale(self, shape: tuple[int, ...], role: str = "hidden") -> float:
        return float(fans(shape)[self.mode == "fan_out"] ** -0.5)

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: Source) -> Tensor:
        return source.of(self.distribution, shape, gain * self.scale(shape))


def he(
    shape: Sequence[int],
    mode: str = "fan_in",
    distribution: str = "normal",
    gain: float | str = 2**0.5,
    **drawn: Unpack[Drawn],
) -> Tensor:
    """A weight (out, in, *kernel) of variance 2 / fan_in, or 2 / fan_out; `He` says more."""
    return He(mode, distribution, gain)(shape, **drawn)
