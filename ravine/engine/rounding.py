"""Where a step ends for weights of fewer than 32 bits: rules compute in float32, and rounding happens once, here.

A step much smaller than a weight's last bit is lost in rounding to the nearest: training in bf16 then stands still.
Stochastic rounding keeps it on average, Kahan's compensation keeps it exactly, at the price of a second tensor.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ravine.core.errors import RavineError

ROUNDINGS = ("nearest", "stochastic", "kahan")
COMPENSATION = "compensation"  # the state that Kahan's summation keeps beside the rule's own

DROPPED = {torch.bfloat16: 16, torch.float16: 13}  # bits of a float32's mantissa that the weight has no room for


def kept_by_rule(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A parameter's state as its rule knows it: without the count of steps and the compensation, which are ours."""
    return {key: value for key, value in state.items() if key not in ("step", COMPENSATION)}


def is_low(dtype: torch.dtype) -> bool:
    """Whether weights of this type are computed on in float32."""
    return dtype in DROPPED


def real(x: Any) -> Tensor:
    """A view of `x` in real numbers: rules take complex parameters as pairs."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def widened(x: Tensor) -> Tensor:
    """`x` as rules see it: 32 bits at least."""
    return x.float() if is_low(x.dtype) else x


def stepped(p: Tensor, u: Tensor, scale: Any) -> Tensor:
    """`p - scale u` for weights that need no rounding."""
    moved: Tensor = p - scale * u
    return moved


def to_nearest(p: Tensor, u: Tensor, scale: Any) -> Tensor:
    """`p - scale u` rounded to the nearest weight."""
    moved: Tensor = (p.float() - scale * u).to(p.dtype)
    return moved


def by_chance(p: Tensor, u: Tensor, scale: Any, noise: Tensor) -> Tensor:
    """`p - scale u` rounded up or down with the probabilities that make it right on average.

    noise: whole numbers, uniform below two to the power of the bits that are dropped, see `ravine.engine.chance`.
    Infinities and NaN stay what they are. Below float16's smallest normal number, 6e-5, the remaining bits are rounded
    to the nearest.
    """
    moved = p.float() - scale * u
    bits = DROPPED[p.dtype]
    rounded = ((moved.view(torch.int32) + noise) >> bits << bits).view(torch.float32)
    return torch.where(moved.isfinite(), rounded, moved).to(p.dtype)


def compensated(p: Tensor, u: Tensor, scale: Any, compensation: Tensor) -> tuple[Tensor, Tensor]:
    """`p - scale u` to the nearest, with what was lost before added in, and what is lost now (Kahan 1965)."""
    change = compensation.float() - scale * u
    moved = (p.float() + change).to(p.dtype)
    return moved, (change - (moved.float() - p.float())).to(p.dtype)


def refuse_sharded(params: Iterable[Tensor]) -> None:
    """Raise where weights that would be rounded by chance are spread over processes: each would draw its own noise."""
    if any(is_low(p.dtype) and hasattr(p, "to_local") for p in params):
        raise RavineError("weights of a DTensor cannot be rounded by chance yet: use rounding='kahan'")
