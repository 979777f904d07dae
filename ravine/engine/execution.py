"""Whether a step is compiled or looped."""

import warnings
from collections.abc import Sequence
from functools import cache

from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.rule import Rule

EXECUTIONS = ("auto", "loop", "compiled")
AUTO = 1 << 22  # weights from which "auto" compiles: below, a step of the loop takes milliseconds, compiling seconds


def compiles(execution: str, rule: Rule, params: Sequence[Tensor]) -> bool:
    """Whether a group's step is to be compiled; raises where that was asked for and cannot be."""
    if execution == "loop" or not params or (execution == "auto" and sum(p.numel() for p in params) < AUTO):
        return False
    if rule.scope != "element":
        reason = f"'{rule}' looks at whole tensors, and kernels at single weights"
    elif not rule.is_plain:
        reason = f"'{rule}' needs the loss, noise or products at every step, which kernels do not have"
    else:
        reason = cannot_compile(params[0].device.type)
    if reason and execution == "compiled":
        raise RavineError(f"execution='compiled' is not possible: {reason}; use execution='auto' or 'loop'")
    if reason and rule.scope == "element" and rule.is_plain:
        _warn_once(reason)
    return not reason


@cache
def cannot_compile(device: str) -> str:
    """Why kernels cannot be compiled for this type of device; empty where they can."""
    if device == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler

        try:
            get_cpp_compiler()
        except Exception as error:
            return f"there is no C++ compiler here ({type(error).__name__})"
        return ""
    if device == "cuda":
        from torch.utils._triton import has_triton

        return "" if has_triton() else "triton is not installed"
    return f"there are no kernels for '{device}'"


@cache
def _warn_once(reason: str) -> None:
    warnings.warn(f"steps are looped, not compiled: {reason}; they are slower, and the same", RuntimeWarning, 2)


def compiling_failed(execution: str, error: Exception) -> None:
    """Raise where compiled steps were asked for; else say that the loop takes over."""
    said = f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"
    if execution == "compiled":
        raise RavineError(f"compiling failed, and nothing was changed ({said}); use execution='loop'") from error
    _warn_once(f"compiling failed ({said})")
