"""Where a step would begin from numbers that are not finite."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ravine.core.errors import RavineError


class NonFinite(RavineError, ArithmeticError):
    """A gradient or a parameter is NaN or infinite."""


def nonfinite_in(groups: Iterable[Mapping[str, Any]], moved: Mapping[Tensor, Any]) -> str | None:
    """What is NaN or infinite, in words: the first gradient, or parameter that is not among those `moved` before.

    A parameter that was finite when it first moved is made infinite by a step only, and its next gradient tells.
    """
    for number, group in enumerate(groups):
        for i, p in enumerate(group["params"]):
            if p.grad is None:
                continue
            step = moved[p]["step"] + 1 if moved.get(p) else 1
            if not _finite(p.grad):
                return f"the gradient of {_name(group, number, i)} is not finite at its step {step} ({_count(p.grad)})"
            if step == 1 and not _finite(p.detach()):
                return f"{_name(group, number, i)} is not finite before its first step ({_count(p.detach())})"
    return None


def _name(group: Mapping[str, Any], number: int, i: int) -> str:
    names = group.get("param_names")
    return f"parameter '{names[i]}'" if names else f"parameter '{i} of group {number}'"


def _finite(x: Tensor) -> bool:
    values = x._values() if x.is_sparse else x
    # One pass without a temporary tensor. The norm of large finite numbers can overflow: a bad one is looked at again.
    return bool(values.norm().isfinite()) or bool(values.isfinite().all())


def _count(x: Tensor) -> str:
    values = x._values() if x.is_sparse else x
    nan, inf = int(values.isnan().sum()), int(values.isinf().sum())
    return f"{nan} NaN and {inf} infinite of {values.numel()}"
