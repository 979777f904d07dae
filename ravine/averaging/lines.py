"""From averages to averages that hold one more iterate: torch's one-pass interpolation, or a compiled kernel.

For weights of 32 bits and more torch's interpolation passes over memory once, and no kernel is faster. Weights of 16
bits have averages of 32, which torch can only interpolate with a widened copy of the weights; the kernel widens as it
reads.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.engine.execution import AUTO, cannot_compile, compiling_failed
from ravine.engine.graphs import EXAMPLE, compiled, traced
from ravine.engine.kernel import ONE_AT_A_TIME
from ravine.engine.layout import PLAIN, line
from ravine.engine.rounding import is_low, widened
from ravine.rules.averages import nearer

Kernel = Callable[[list[Tensor]], object]
SMALL = 1 << 16  # elements below which a call of a kernel takes longer than the work


def check(execution: str) -> None:
    """Raise unless averages can be kept in this way."""
    if execution == "compiled" and (reason := cannot_compile("cpu")):
        raise RavineError(f"execution='compiled' is not possible: {reason}; use execution='auto' or 'loop'")


def move(averages: Sequence[Tensor], values: Sequence[Tensor], share: float, execution: str) -> None:
    """Move every average, in place, by `share` of the way to its value; all are of one type and on one device."""
    if share == 1:
        torch._foreach_copy_(list(averages), list(values))
        return
    first, low = values[0], is_low(values[0].dtype)
    wanted = execution == "compiled" or (execution == "auto" and sum(x.numel() for x in values) >= AUTO)
    # The kernel has the near way of the two that `towards` has, which is that of all updates but the first few.
    kernel = _kernel_for(averages[0], first) if wanted and low and share < 0.5 else None
    vector = torch.tensor([share], dtype=averages[0].dtype, device=first.device) if kernel else first
    plain: tuple[list[Tensor], list[Tensor]] = ([], [])
    for average, value in zip(averages, values, strict=True):
        if kernel and value.numel() >= SMALL and _lies(average, value):
            kernel([line(average), line(value), vector])
            torch._C._increment_version((average,))  # which a kernel does not do
        elif low:
            average.lerp_(widened(value), share)  # one after the other: widened copies take room
        else:
            plain[0].append(average)
            plain[1].append(value)
    if plain[0]:
        torch._foreach_lerp_(*plain, share)


def _lies(average: Tensor, value: Tensor) -> bool:
    """Whether both lie in memory in one order and without holes."""
    return type(value) in PLAIN and value.is_contiguous() and average.is_contiguous()


def _kernel_for(average: Tensor, value: Tensor) -> Kernel | None:
    """The kernel for these types; none where there cannot be one, which is said once."""
    if cannot_compile(value.device.type):
        return None
    try:
        with ONE_AT_A_TIME:
            return _kernel(average.dtype, value.dtype, average.device)
    except Exception as error:
        compiling_failed("auto", error)
        return None


@cache
def _kernel(wide: torch.dtype, narrow: torch.dtype, device: torch.device) -> Kernel:
    def step(average: Tensor, value: Tensor, share: Tensor) -> list[Tensor]:
        average.copy_(nearer(average, widened(value), share[0]))
        return []

    examples = [torch.empty(EXAMPLE, dtype=dtype, device=device) for dtype in (wide, narrow)]
    return compiled(traced(step, *examples, torch.ones(1, dtype=wide, device=device)))
