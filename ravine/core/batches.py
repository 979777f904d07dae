"""How batches are drawn from what a task trains on.

Training data are a tuple, list or dict of tensors with the same leading dimension; a map-style dataset (`len` and
`[i]`); or, for data without an end, a function `draw(generator) -> iterator of batches`.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, default_collate

from ravine.core.errors import RavineError
from ravine.core.trees import tensors

Batch = Any


def length(data: Any) -> int | None:
    """The number of examples, or None for data without an end."""
    if callable(data) and not hasattr(data, "__getitem__"):
        return None
    tensors = _tensors(data)
    return len(tensors[0]) if tensors else len(data)


def check_data(owner: str, data: Any) -> None:
    """Raise unless batches can be drawn from `data`."""
    if isinstance(data, DataLoader):
        raise RavineError(
            f"{owner} is a DataLoader, which shuffles by itself: give its dataset ({owner}=loader.dataset) and "
            "batch_size=, so that every run draws its batches from its own seed"
        )
    if isinstance(data, IterableDataset):
        raise RavineError(f"{owner} is an IterableDataset: wrap it as a function of a generator that yields batches")
    tensors = _tensors(data)
    if tensors is not None:
        sizes = sorted({len(tensor) for tensor in tensors})
        if len(sizes) != 1:
            raise RavineError(f"the tensors of {owner} have different lengths: {', '.join(map(str, sizes))}")
    elif not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) and not callable(data):
        raise RavineError(
            f"{owner} must be tensors, a dataset with len() and [i], or a function of a generator that yields "
            f"batches; got {type(data).__name__}"
        )
    if length(data) == 0:
        raise RavineError(f"{owner} is empty")


def batches(data: Any, size: int, generator: torch.Generator, skip: int = 0) -> Iterator[Batch]:
    """Batches without end: each epoch in a new order, without the ragged rest, all of exactly `size` examples.

    The first `skip` batches are passed over before this returns, without fetching them where the data have indices.
    """
    n = length(data)
    source = _drawn(data, generator) if n is None else _orders(n, size, generator)
    for _ in islice(source, skip):
        pass
    return source if n is None else map(picker(data), source)


def _drawn(draw: Callable[[torch.Generator], Iterator[Batch]], generator: torch.Generator) -> Iterator[Batch]:
    count = 0
    for count, batch in enumerate(draw(generator), 1):  # noqa: B007 - the number of the last one is told below
        yield batch
    raise RavineError(f"train gave {count} batches and ended: a function that draws batches goes on (while True: ...)")


def _orders(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        order = torch.randperm(n, generator=generator)
        for start in range(0, n - size + 1, size):
            yield order[start : start + size]


def in_order(data: Any, size: int) -> Iterator[Batch]:
    """All examples once, in order, the last batch as large as what is left."""
    n = length(data)
    assert n is not None
    pick = picker(data)
    tensors = _tensors(data) is not None
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))  # of tensors a view: nothing is copied
        yield pick(rows if tensors else torch.arange(rows.start, rows.stop))


def picker(data: Any) -> Callable[[Any], Batch]:
    """The function from indices to a batch; where the data are tensors a slice will do as well."""
    tensors = _tensors(data)
    if tensors is None:
        fetch = getattr(data, "__getitems__", lambda indices: [data[i] for i in indices])
        return lambda index: default_collate(fetch(index.tolist()))
    if isinstance(data, dict):
        return lambda index: {key: tensor[to(index, tensor.device)] for key, tensor in data.items()}
    return lambda index: tuple(tensor[to(index, tensor.device)] for tensor in tensors)


def to(data: Any, device: torch.device) -> Any:
    """`data` with every tensor inside tuples, lists and dicts on `device`; anything else as it is."""
    if isinstance(data, Tensor):
        return data if data.device == device else data.to(device)
    if isinstance(data, tuple | list):
        return type(data)(to(item, device) for item in data) if type(data) in (tuple, list) else data
    if type(data) is dict:
        return {key: to(item, device) for key, item in data.items()}
    return data


def leading_size(batch: Batch) -> int | None:
    """The leading dimension of the first tensor in `batch`."""
    return next((tensor.shape[0] for tensor in tensors(batch) if tensor.ndim), None)


def _tensors(data: Any) -> list[Tensor] | None:
    """The tensors that are indexed together, where `data` is nothing but tensors."""
    if isinstance(data, TensorDataset):
        data = data.tensors
    values = list(data.values()) if isinstance(data, dict) else list(data) if isinstance(data, tuple | list) else []
    return values if values and all(isinstance(value, Tensor) and value.ndim for value in values) else None
