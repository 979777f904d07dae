"""Random walk initialization."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor

from ravine.init.activations import Activation, activation
from ravine.init.gains import limit
from ravine.init.moments import moments, slopes_at_zero
from ravine.init.strategy import Drawn, Source, Strategy, fans


@dataclass(frozen=True)
class RandomWalk(Strategy):
    """Random walk: a gain that leaves the mean of ln |gradient|^2, a random walk over layers, without drift.

        W_ij ~ N(0, g^2 / N),  N = fan_in,  g_linear = exp(1 / (2 N)),  g_ReLU = sqrt(2) exp(1.2 / (max(N, 6) - 2.4))

    Sussillo and Abbott, arXiv 1412.6558. Other activations take the same correction to second order in
    1 / N, which is ours: g = sigma_w exp((3 k - 1) / (4 N)) with k = E f'^4 / (E f'^2)^2 and sigma_w from
    `ravine.init.gain(f, preserve="auto")`; it is exp(1 / (2 N)) for linear f, and exp(1.25 / N) for ReLU.

    activation: for a weight drawn alone; `ravine.init.apply` takes each layer's own.
    """

    activation: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.activation)

    @property
    def takes_gain(self) -> bool:
        return True  # that of the activation, which `apply` knows

    def spread(self, shape: tuple[int, ...], role: str = "hidden", gain: float | None = None) -> float:
        fan_in, _ = fans(shape)
        return float((walking_gain(activation(self.activation), fan_in) if gain is None else gain) * fan_in**-0.5)

    def gain_of(self, given: float | None) -> float:
        return 0.0 if given is None else float(given)  # 0: by the width, which `draw` knows

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: Source) -> Tensor:
        return source.normal(shape, self.spread(shape, role, gain or None))


def walking_gain(f: Activation, width: int) -> float:
    """g of the random walk for an activation and a width N."""
    if f.label == "relu":
        return math.sqrt(2) * math.exp(1.2 / (max(width, 6) - 2.4))
    below, above = slopes_at_zero(f)
    of = moments(f)
    spread = 1.0 if below == above else of.slope_fourth / of.slope_square**2  # smooth f look linear at the fixed point
    return limit(f) * math.exp((3 * spread - 1) / (4 * width))


def random_walk(shape: Sequence[int], activation: str = "relu", **drawn: Unpack[Drawn]) -> Tensor:
    """A weight (out, in, *kernel) with the random-walk gain of an activation; `RandomWalk` says more."""
    return RandomWalk(activation)(shape, **drawn)
