"""Which rows of a weight a piece of its output comes from: of `q, k, v = qkv(x).chunk(3, -1)`, a third each."""

from dataclasses import dataclass

import torch
from torch import Tensor

Rows = tuple[int, int, int]  # first, behind the last, of how many


@dataclass(frozen=True)
class Output:
    """The output of a weight: its tensor, how many features it has, how many numbers lie between two of them."""

    tensor: Tensor
    features: int
    inner: int

    def rows(self, piece: Tensor) -> Rows | None:
        """The block of features that `piece`, a view of this output, has; None for all, or for no block of them."""
        whole = self.tensor
        if piece.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr() or not whole.is_contiguous():
            return None
        period = self.features * self.inner
        places = torch.tensor([piece.storage_offset() - whole.storage_offset()])
        for size, stride in zip(piece.shape, piece.stride(), strict=True):
            if stride % period:  # else the dimension runs over examples or positions
                places = (places[:, None] + stride * torch.arange(size)).flatten()
        found = sorted({place // self.inner % self.features for place in places.tolist()})
        first, last = found[0], found[-1] + 1
        return (first, last, self.features) if len(found) == last - first < self.features else None


def output(name: str, weight: Tensor, made: Tensor) -> Output | None:
    """The output of a product with a weight, by the function's name; None where its features are not to be told."""
    if made.ndim == 0 or made.numel() == 0:
        return None
    if not name.startswith("conv"):
        return Output(made, made.shape[-1], 1)
    dim = made.ndim - weight.ndim + 1
    return Output(made, made.shape[dim], made[0].numel() // made.shape[1] if dim == 1 else made[0].numel())


def equal_parts(blocks: set[Rows | None]) -> int:
    """How many equal parts the blocks are, in which an output is used; 1 where it is also used whole, or otherwise."""
    if len(blocks) < 2 or None in blocks:
        return 1
    found = sorted(block for block in blocks if block is not None)
    features, size = found[0][2], found[0][1] - found[0][0]
    even = [(i * size, (i + 1) * size, features) for i in range(len(found))]
    return len(found) if found == even and len(found) * size == features else 1
