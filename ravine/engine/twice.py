"""Where torch's fast kernels have no second derivative, the plain ones are used."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Inside, attention and recurrent layers can be differentiated twice; the user's choice of kernels comes back.

    Fused attention and cuDNN's recurrent kernels have a backward pass that cannot itself be differentiated.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if torch.cuda.is_available():
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield
