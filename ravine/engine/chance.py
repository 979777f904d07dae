"""Chance within a step, drawn anew from the seed, the parameter and its step: a resumed run draws the same."""

from typing import Any

import torch
from torch import Tensor

from ravine.core.seeds import derive
from ravine.engine.rounding import DROPPED, is_low

Label = tuple[Any, ...]  # of a parameter: the seed, and its name, or its place where it has none


def noise_for(p: Tensor, label: Label, t: int) -> Tensor:
    """The noise with which the parameter `label` is rounded at its step `t`."""
    high = 1 << DROPPED[p.dtype]
    draw = _draw_for(p, "rounding", label, t)
    return torch.randint(0, high, p.shape, generator=draw, dtype=torch.int32, device=p.device)


def normal_for(p: Tensor, label: Label, t: int) -> Tensor:
    """Standard normal numbers for the step `t` of the parameter `label`."""
    return torch.randn(p.shape, generator=_draw_for(p, "noise", label, t), dtype=_computed(p), device=p.device)


def signs_for(p: Tensor, label: Label, t: int) -> Tensor:
    """+1 or -1 with equal chances, for the step `t` of the parameter `label`."""
    draw = _draw_for(p, "signs", label, t)
    return torch.randint(0, 2, p.shape, generator=draw, device=p.device).to(_computed(p)) * 2 - 1


def _computed(p: Tensor) -> torch.dtype:
    return torch.float32 if is_low(p.dtype) else p.dtype


def _draw_for(p: Tensor, use: str, label: Label, t: int) -> torch.Generator:
    """A generator that is made anew from what it is for: nothing has to be kept."""
    return torch.Generator(p.device).manual_seed(derive(t, use, *label))
