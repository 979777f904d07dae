"""From averages to averages that hold one more iterate: torch's one-pass interpolation, or a compiled kernel.

For weights of 32 bits and more both pass over memory once. Weights of 16 bits have averages of 32, which torch can only
interpolate with a widened copy of the weights; the kernel widens as it reads.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.engine.execution import AUTO, EXECUTIONS, cannot_compile, compiling_failed
from ravine.engine.graphs import EXAMPLE, compiled, traced
from ravine.engine.kernel import ONE_AT_A_TIME
from ravine.engine.layout import line
from ravine.engine.rounding import is_low, widened
from ravine.rules.averages import towards

SMALL = 1 << 16  # elements below which a call of a kernel takes longer than the work


def check(execution: str) -> None:
    """Raise unless averages can be kept in this way."""
    if execution == "compiled" and (reason := cannot_compile("cpu")):
        raise RavineError(f"execution='compiled' is not possible: {reason}; use execution='auto' or 'loop'")


def move(averages: Sequence[Tensor], values: Sequence[Tensor], share: float, execution: str) -> None:
    """Move every average, in place, by `share` of the way to its value."""
    if share == 1:
        torch._foreach_copy_(list(averages), list(values))
        return
    plain: tuple[list[Tensor], list[Tensor]] = ([], [])
    size = sum(x.numel() for x in values)
    for average, value in zip(averages, values, strict=True):
        if not (_wanted(execution, value, size) and _lies(average, value) and _by_kernel(average, value, share)):
            plain[0].append(average)
            plain[1].append(widened(value))
    if plain[0]:
        torch._foreach_lerp_(*plain, share)


def _wanted(execution: str, value: Tensor, size: int) -> bool:
    if execution == EXECUTIONS[1] or value.numel() < SMALL or not value.is_floating_point():
        return False
    if execution == "auto" and (not is_low(value.dtype) or size < AUTO):
        return False
    return not cannot_compile(value.device.type)


def _lies(average: Tensor, value: Tensor) -> bool:
    """Whether both lie in memory in one order and without holes."""
    return type(value) is Tensor and value.stride() == average.stride() and value.is_contiguous()


def _by_kernel(average: Tensor, value: Tensor, share: float) -> bool:
    """Whether a kernel has moved it; where compiling fails, which is said once, it has not."""
    try:
        with ONE_AT_A_TIME:
            kernel = _kernel(average.dtype, value.dtype, average.device)
    except Exception as error:
        compiling_failed("auto", error)
        return False
    vector = torch.tensor([share], dtype=average.dtype, device=average.device)
    kernel([line(average), line(value), vector])
    torch._C._increment_version((average,))  # which a kernel does not do
    return True


@cache
def _kernel(wide: torch.dtype, narrow: torch.dtype, device: torch.device) -> Callable[[list[Tensor]], object]:
    def step(average: Tensor, value: Tensor, share: Tensor) -> list[Tensor]:
        average.copy_(towards(average, widened(value), share[0]))
        return []

    examples = [torch.empty(EXAMPLE, dtype=dtype, device=device) for dtype in (wide, narrow)]
    return compiled(traced(step, *examples, torch.ones(1, dtype=wide, device=device)))
