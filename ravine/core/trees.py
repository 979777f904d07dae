"""Tensors in what models take and give: nested tuples, lists and mappings."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor


def tensors(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and mappings, in order; anything else in them is left out.

    >>> import torch
    >>> [tuple(t.shape) for t in tensors({"x": torch.ones(2), "more": (torch.ones(3, 1), "name")})]
    [(2,), (3, 1)]
    """
    return list(_found(tree))


def _found(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for item in tree.values():
            yield from _found(item)
    elif isinstance(tree, tuple | list):
        for item in tree:
            yield from _found(item)
