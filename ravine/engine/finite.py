"""Where a step would begin from numbers that are not finite."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.engine.rounding import is_low


class NonFinite(RavineError, ArithmeticError):
    """A gradient or a parameter is NaN or infinite."""


def nonfinite_in(groups: Sequence[Mapping[str, Any]], moved: Mapping[Tensor, Any]) -> str | None:
    """What is NaN or infinite, in words: the first gradient, or parameter that is not among those `moved` before.

    A parameter that was finite when it first moved is made infinite by a step only, and its next gradient tells.
    """
    sums: dict[Any, list[Tensor]] = {}
    for group in groups:
        for p in group["params"]:
            g = p.grad
            if g is not None:
                total = _sum(g)
                sums.setdefault((total.device, total.dtype), []).append(total)
                if not _steps(moved, p):
                    total = _sum(p.detach())
                    sums.setdefault((total.device, total.dtype), []).append(total)
    if all(math.isfinite(torch.stack(found).sum().item()) for found in sums.values()):
        return None
    return _first(groups, moved)


def _sum(x: Tensor) -> Tensor:
    """A number that is not finite where one of `x` is not: one pass over memory, without a temporary tensor.

    It can be infinite for finite numbers too, near the largest that there is; then they must be looked at themselves.
    """
    if x.is_sparse:
        x = x._values()
    if x.is_complex():
        return torch.view_as_real(x.resolve_conj()).sum()
    return x.sum(dtype=torch.float32) if is_low(x.dtype) else x.sum()


def _first(groups: Sequence[Mapping[str, Any]], moved: Mapping[Tensor, Any]) -> str | None:
    """The first of all that is really not finite."""
    for number, group in enumerate(groups):
        for i, p in enumerate(group["params"]):
            if p.grad is None:
                continue
            step = _steps(moved, p) + 1
            if said := _count(p.grad):
                return f"the gradient of {_name(group, number, i)} is not finite at its step {step} ({said})"
            if step == 1 and (said := _count(p.detach())):
                return f"{_name(group, number, i)} is not finite before its first step ({said})"
    return None


def _steps(moved: Mapping[Tensor, Any], p: Tensor) -> int:
    return int(moved.get(p, {}).get("step", 0))


def _name(group: Mapping[str, Any], number: int, i: int) -> str:
    names = group.get("param_names")
    return f"parameter '{names[i]}'" if names else f"parameter '{i} of group {number}'"


def _count(x: Tensor) -> str:
    """How many of `x` are not finite, in words; empty where all are."""
    values = x._values() if x.is_sparse else x
    nan, inf = int(values.isnan().sum()), int(values.isinf().sum())
    return f"{nan} NaN and {inf} infinite of {values.numel()}" if nan or inf else ""
