"""Where a step would begin from numbers that are not finite."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ravine.core.errors import RavineError


class NonFinite(RavineError, ArithmeticError):
    """A gradient or a parameter is NaN or infinite."""


def nonfinite_in(groups: Iterable[Mapping[str, Any]], moved: Mapping[Tensor, Any]) -> str | None:
    """What is NaN or infinite, in words: the first gradient, or parameter that is not among those `moved` before.

    A parameter that was finite when it first moved is made infinite by a step only, and its next gradient tells.
    """
    looked: list[tuple[int, Mapping[str, Any], int, Tensor]] = []
    for number, group in enumerate(groups):
        for i, p in enumerate(group["params"]):
            if p.grad is not None:
                looked.append((number, group, i, p.grad))
                if not _steps(moved, p):
                    looked.append((number, group, i, p.detach()))
    if _finite_together([x for *_, x in looked]):
        return None
    for number, group, i, x in looked:
        values = _values(x)
        if not bool(values.isfinite().all()):
            p = group["params"][i]
            step = _steps(moved, p) + 1
            if x is p.grad:
                return f"the gradient of {_name(group, number, i)} is not finite at its step {step} ({_count(values)})"
            return f"{_name(group, number, i)} is not finite before its first step ({_count(values)})"
    return None


def _finite_together(tensors: list[Tensor]) -> bool:
    """Whether all sums are finite: one pass without a temporary, and one look at the result for each device.

    A NaN or an infinity makes a sum NaN or infinite. So can finite numbers near the largest that there is: where a sum
    is not finite the numbers themselves must be looked at.
    """
    sums: dict[torch.device, list[Tensor]] = {}
    for x in tensors:
        total = _values(x).sum(dtype=torch.float32) if x.dtype.itemsize < 4 else _values(x).sum()
        sums.setdefault(x.device, []).append(torch.view_as_real(total).sum() if x.is_complex() else total)
    return all(math.isfinite(torch.stack([x.double() for x in found]).sum().item()) for found in sums.values())


def _steps(moved: Mapping[Tensor, Any], p: Tensor) -> int:
    return int(moved.get(p, {}).get("step", 0))


def _name(group: Mapping[str, Any], number: int, i: int) -> str:
    names = group.get("param_names")
    return f"parameter '{names[i]}'" if names else f"parameter '{i} of group {number}'"


def _values(x: Tensor) -> Tensor:
    return x._values() if x.is_sparse else x


def _count(values: Tensor) -> str:
    nan, inf = int(values.isnan().sum()), int(values.isinf().sum())
    return f"{nan} NaN and {inf} infinite of {values.numel()}"
