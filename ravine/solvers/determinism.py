"""Losses that change from call to call are told, with what draws in them."""

from collections.abc import Callable
from typing import Any

import torch
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
        why = "each call sees other data (a new batch at every call, perhaps)"
    raise RavineError(
        f"the loss is {first:.9g} and then {second:.9g} at the same parameters: {why}, and no search can "
        "compare such values. Use model.eval(), or the same batch and seed at every call of one step"
    )
