"""Sparse initialization."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.init.strategy import Drawn, Source, Strategy, fans


@dataclass(frozen=True)
class Sparse(Strategy):
    """Sparse: every unit gets k incoming weights, N(0, std^2), and zeros else (Martens 2010).

        w_ij ~ N(0, std^2) for j in S_i,  |S_i| = k,    w_ij = 0 else

    A unit is a row of (out, in, *kernel), so its total input has variance k std^2 E x^2 whatever the width.
    `replace=true` draws the k places with replacement, as Martens' own program does: a unit then has k weights or a few
    less. std is 1 unless given; `gain` is another way to say it, std = gain / sqrt(k).

    Martens, Deep learning via Hessian-free optimization, ICML 2010, section 5. `torch.nn.init.sparse_` zeroes a share
    of each column, which fixes the outgoing weights of a unit and not its incoming ones.
    """

    k: int = 15
    std: float | None = None
    gain: float | int | str | None = None
    replace: bool = False

    ranges = {"k": "[1, inf)", "std": "(0, inf)"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.std is not None and self.gain is not None:
            raise RavineError(f"sparse: std={self.std} and gain={self.gain!r} both say the scale; give one of them")

    def check(self, shape: tuple[int, ...], role: str, gain: float | None, dtype: torch.dtype) -> None:
        super().check(shape, role, gain, dtype)
        if self.k > (fan_in := fans(shape)[0]):
            raise RavineError(
                f"sparse: k={self.k} incoming weights a unit, but a weight of shape {shape} has fan_in {fan_in}: "
                f"k must be in [1, {fan_in}]"
            )

    @property
    def takes_gain(self) -> bool:
        return self.std is None

    def gain_of(self, given: float | None) -> float:
        if given is None and self.gain is None:
            return float((1.0 if self.std is None else self.std) * self.k**0.5)
        return super().gain_of(given)

    def scale(self, shape: tuple[int, ...], role: str = "hidden") -> float:
        fan_in, _ = fans(shape)
        distinct = fan_in * (1 - (1 - 1 / fan_in) ** self.k) if self.replace else self.k
        return float((distinct / self.k / fan_in) ** 0.5)

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: Source) -> Tensor:
        fan_in, _ = fans(shape)
        places = self._places(shape[0], fan_in, source)
        chosen = torch.zeros(shape[0], fan_in, dtype=torch.bool, device=source.place).scatter_(1, places, True)
        return source.normal(shape, gain / self.k**0.5).mul_(chosen.view(shape))

    def _places(self, units: int, fan_in: int, source: Source) -> Tensor:
        """(units, k) columns."""
        if self.replace:
            return torch.randint(fan_in, (units, self.k), device=source.place, generator=source.generator)
        keys = torch.rand(units, fan_in, dtype=torch.float32, device=source.place, generator=source.generator)
        return keys.topk(self.k, dim=1, sorted=False).indices


def sparse(
    shape: Sequence[int],
    k: int = 15,
    std: float | None = None,
    replace: bool = False,
    gain: float | str | None = None,
    **drawn: Unpack[Drawn],
) -> Tensor:
    """A weight (out, in, *kernel) with k incoming weights a unit, N(0, std^2), std 1 unless given; `Sparse` says more.

    >>> import torch
    >>> w = sparse((256, 784), k=15, generator=torch.Generator().manual_seed(0))
    >>> set((w != 0).sum(1).tolist())
    {15}
    """
    return Sparse(k, std, gain, replace)(shape, **drawn)
