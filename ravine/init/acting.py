"""Activation functions as the model calls them, in modules or plainly, and how much of each is dead or saturated."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from ravine.init.functions import PLAIN, called, plain_name
from ravine.init.observed import Part

SATURATED, DEAD = 0.02, 1e-3  # shares of the largest slope: of tanh, 0.02 is |h| > 0.99


@dataclass(frozen=True)
class Act:
    """One call of an activation function: after which part, and what the batch does in it.

    dead: the share of units whose slope is below 0.001 of the largest for the whole batch, None where the function is
    flat at both ends. saturated: there the share of numbers with a slope below 0.02 of the largest. One that is flat at
    both ends and 0 for all z < 0, as ReLU6, has both: its saturated numbers are those at the upper end.
    """

    function: str
    after: str
    dead: float | None
    saturated: float | None


class Acting(TorchFunctionMode):
    """Inside, every activation function that is called is looked at. `last` tells which part spoke last."""

    def __init__(self, last: Callable[[], Part | None]) -> None:
        super().__init__()
        self._last = last
        self.found: list[Act] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        act = called(plain_name(func), args, kwargs)
        if act is not None and isinstance(act.z, Tensor) and act.z.is_floating_point() and act.z.numel():
            self._look(act.name, act.z.detach(), act.more, act.rest)
        return func(*args, **kwargs)

    def _look(self, name: str, z: Tensor, more: tuple[Any, ...], rest: dict[str, Any]) -> None:
        part = self._last()
        slope = _slope(name, z, more, rest)
        largest, bounded, rests = _shape(name, z, more, rest)
        unit_dim = part.unit_dim if part is not None and z.ndim >= -part.unit_dim else -1
        others = [d for d in range(z.ndim) if d != unit_dim % max(z.ndim, 1)]
        dead = saturated = None
        if bounded:
            flat = slope < SATURATED * largest
            saturated = float((flat & (z > 0) if rests else flat).double().mean())
        if not bounded or rests:
            most = slope.amax(others) if others else slope
            dead = float((most < DEAD * largest).double().mean())
        self.found.append(Act(name, part.name if part is not None else "", dead, saturated))


def _slope(name: str, z: Tensor, more: tuple[Any, ...], rest: Mapping[str, Any]) -> Tensor:
    """|f'| at every number."""
    with torch.enable_grad(), saved_tensors_hooks(_same, _same):  # not those of activation checkpointing
        at = z.clone().requires_grad_()
        value = PLAIN[name](at, *more, **rest)
        (found,) = torch.autograd.grad(value.sum(), at)
    return found.detach().abs()


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _shape(name: str, z: Tensor, more: tuple[Any, ...], rest: Mapping[str, Any]) -> tuple[float, bool, bool]:
    """The largest slope, whether the function is flat at both ends, and whether it is 0 for all numbers below 0."""
    if name in ("prelu", "rrelu"):
        return 1.0, False, False
    grid = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    slope = _slope(name, grid, more, rest)
    largest = float(slope.max())
    rests = not bool(PLAIN[name](grid[grid < 0], *more, **rest).any())
    return largest, max(float(slope[0]), float(slope[-1])) < SATURATED * largest, rests


def worst(found: list[Act], part: str, key: str) -> float:
    """The largest share among the calls after this part, NaN where there is none."""
    values = [value for act in found if act.after == part and (value := getattr(act, key)) is not None]
    return max(values) if values else math.nan
