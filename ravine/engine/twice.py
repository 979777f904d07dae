"""Where torch's fast kernels have no second derivative, the plain ones are used."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


class _Apart(TorchFunctionMode):
    """Takes weight norm apart: the second derivative of torch 2.13's fused one is wrong, by a third or so."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is torch._weight_norm:
            return _weight_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _weight_norm(v: torch.Tensor, g: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """w = g v / ||v||, the norm over all dimensions but `dim` (Salimans & Kingma 2016, arXiv 1602.07868, eq. 2)."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Inside, attention and recurrent layers can be differentiated twice; the user's choice of kernels comes back.

    Fused attention and cuDNN's recurrent kernels have a backward pass that cannot itself be differentiated, and that of
    fused weight norm is differentiated wrongly.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_Apart())
        if torch.cuda.is_available():
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield
