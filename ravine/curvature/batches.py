"""One batch, or all batches of a data set: how they are told apart, read again, and weighted."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ravine.core.errors import RavineError

Size = Callable[[Any], int] | None


@dataclass(frozen=True)
class Data:
    """Batches that can be gone through again and again. `single` is the only one, where there is one."""

    source: Iterable[Any]
    size: Size
    single: bool

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        """Every batch with its number of examples."""
        count = 0
        for count, batch in enumerate(self.source, 1):  # noqa: B007 - looked at after the loop
            yield batch, examples(batch, self.size)
        if not count:
            raise RavineError("the data have no batches")


def data(given: Any, size: Size = None) -> Data:
    """`given` as batches: a tensor, or a tuple, list or dict that holds tensors, is one batch; all else is a source.

    Raises `RavineError` for an iterator, which can be read only once.
    """
    if _is_batch(given):
        return Data([given], size, True)
    if hasattr(given, "__next__"):
        raise RavineError(
            f"a {type(given).__name__} can be read only once, and curvature goes through its data again and again: "
            "give a DataLoader, or list(...) of it"
        )
    if not hasattr(given, "__iter__"):
        raise RavineError(f"data must be a batch (tensor, tuple, dict) or an iterable of batches, got {given!r:.80}")
    if hasattr(given, "__len__") and not len(given):
        raise RavineError("the data have no batches")
    single = isinstance(given, list | tuple) and len(given) == 1
    return Data(given, size, single)


def _is_batch(given: Any) -> bool:
    if isinstance(given, Tensor | dict):
        return True
    return isinstance(given, tuple | list) and any(isinstance(item, Tensor) for item in given)


def examples(batch: Any, size: Size) -> int:
    """The number of examples in a batch: what `size` says, or the leading dimension on which all its tensors agree."""
    if size is not None:
        return int(size(batch))
    found = {tensor.shape[0] for tensor in _tensors(batch) if tensor.ndim}
    if len(found) != 1:
        said = f"its tensors' leading dimensions are {sorted(found)}" if found else "it holds no tensors"
        raise RavineError(f"cannot tell how many examples a batch has, since {said}: give size=, a function of a batch")
    return found.pop()


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, dict):
        for item in batch.values():
            yield from _tensors(item)
    elif isinstance(batch, tuple | list):
        for item in batch:
            yield from _tensors(item)
