"""Losses that change from call to call are told, with what draws in them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ravine.core.errors import RavineError


class _Random(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operations that draw random numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.names.append(str(func).split(".")[1])
        return func(*args, **(kwargs or {}))


def check_same(first: float, second: float, again: Callable[[], Any], dtype: torch.dtype) -> None:
    """Raise where a loss was evaluated twice at the same place and came out different.

    again: evaluates it once more, so that operations that draw can be named.
    """
    if abs(first - second) <= 1000 * torch.finfo(dtype).eps * max(abs(first), abs(second)):
        return
    with _Random() as seen:
        again()
    if seen.names:
        why = f"{', '.join(dict.fromkeys(seen.names))} draws random numbers (dropout in train mode, perhaps)"
    else:
        why = "each call sees other data (a new batch, or numbers drawn outside torch, at every call, perhaps)"
    raise RavineError(
        f"the loss is {first:.9g} and then {second:.9g} at the same parameters: {why}, and no search can "
        "compare such values. Use model.eval(), or the same batch and seed at every call of one step"
    )


def check_cleared(first: Tensor, second: Tensor) -> None:
    """Raise where a closure that calls `backward()` gave another gradient at the same place, as a sum of both does."""
    before, after, apart = (float(g.norm()) for g in (first, second, second - first))
    if apart > 0.01 * max(before, after):  # more than the order of sums may change on some devices
        raise RavineError(
            f"the closure calls backward() on gradients that are there already: at the same parameters the gradient's "
            f"norm is {before:.4g} and then {after:.4g}. Call zero_grad in the closure before backward(), or let it "
            "return the loss alone, as in lambda: criterion(model(x), y)"
        )
