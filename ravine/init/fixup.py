"""Fixup initialization of residual nets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.init.strategy import Drawn, Source, Strategy, fans


@dataclass(frozen=True)
class Fixup(Strategy):
    """Fixup: residual nets without normalization begin with branches that add nothing and updates of depth-free size.

        last layer of a branch, output layer: 0;    others of a branch: He's times L^(-1 / (2 m - 2));    rest: He's

    L = `branches` of m = `layers` each, counted in the model by `ravine.init.apply` where they are not given. Its
    third rule, scalar biases and multipliers, is a matter of the model.

    Zhang, Dauphin and Ma, arXiv 1901.09321, section 3.
    """

    branches: int | None = None
    layers: int | None = None

    ranges = {"branches": "[1, inf)", "layers": "[1, inf)"}

    def check(self, shape: tuple[int, ...], role: str, gain: float | None, dtype: torch.dtype) -> None:
        super().check(shape, role, gain, dtype)
        if role == "branch" and (self.branches is None or self.layers is None):
            raise RavineError(
                "fixup scales the layers of residual branches by their number: give branches= and layers=, or let "
                "ravine.init.apply(model, 'fixup', example=inputs) count them"
            )

    def scale(self, shape: tuple[int, ...], role: str = "hidden") -> float:
        if role in ("branch_end", "output"):
            return 0.0
        he = (2 / fans(shape)[0]) ** 0.5
        if role != "branch" or self.layers is None or self.layers < 2:
            return float(he)
        return float(he * (self.branches or 1) ** (-1 / (2 * self.layers - 2)))

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: Source) -> Tensor:
        std = self.scale(shape, role)
        return source.normal(shape, std) if std else source.zeros(shape)


def fixup(
    shape: Sequence[int], branches: int | None = None, layers: int | None = None, **drawn: Unpack[Drawn]
) -> Tensor:
    """A weight (out, in, *kernel) by its role: branch, branch_end, output or another; `Fixup` says more."""
    return Fixup(branches, layers)(shape, **drawn)
