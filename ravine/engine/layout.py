"""How tensors lie in memory, and one line of numbers of what lies without holes."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


def fits(p: Tensor) -> bool:
    """Whether a parameter and its gradient lie in memory side by side, in the same order and without holes.

    One without a dimension does not: its state could not be told from one that is a number.
    """
    g = p.grad
    if type(p) not in PLAIN or type(g) is not Tensor or g.is_sparse or not p.numel() or not p.ndim:
        return False
    if g.is_neg() or g.is_conj():  # torch has put a sign off, which memory does not show
        return False
    if p.is_contiguous() and g.is_contiguous():
        return True
    return p.stride() == g.stride() and _dense(p.shape, p.stride())


PLAIN = (Tensor, torch.nn.Parameter)


@lru_cache(maxsize=4096)
def _dense(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether that is so in whatever order of dimensions: channels_last, or a transposed matrix."""
    expected = 1
    for step, size in sorted(zip(stride, shape, strict=True)):
        if size != 1 and step != expected:
            return False
        expected *= size
    return True


def line(x: Any) -> Tensor:
    """All of `x` as one dimension, in the order in which it lies in memory."""
    found: Tensor = x if x.ndim == 1 else x.as_strided((x.numel(),), (1,))
    return found


def room(values: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """A buffer for something of every tensor, and the parts of it as views with the tensors' shapes."""
    whole = torch.empty(sum(p.numel() for p in values), dtype=dtype, device=values[0].device)
    parts = zip(values, torch.split(whole, [p.numel() for p in values]), strict=True)
    return whole, [part.as_strided(p.shape, p.stride(), part.storage_offset()) for p, part in parts]
