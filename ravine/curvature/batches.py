"""One batch, or all batches of a data set: how they are told apart, read again, and weighted."""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.trees import tensors

Size = Callable[[Any], int] | None


@dataclass(frozen=True)
class Data:
    """Batches that can be gone through again and again. `single` is the only one, where there is one.

    hint: what the user may have meant by the data, where a reading of them fails.
    """

    source: Iterable[Any]
    size: Size
    single: bool
    hint: str = ""
    _gone_through: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        """Every batch with its number of examples."""
        count = 0
        for count, batch in enumerate(self.source, 1):  # noqa: B007 - looked at after the loop
            yield batch, examples(batch, self.size)
        if not count:
            if self._gone_through:
                raise RavineError(f"the data gave batches at first and none the next time: {_ONCE}")
            raise RavineError("the data have no batches")
        if not self._gone_through:
            self._gone_through.append(count)


_ONCE = (
    "they can be read only once, and curvature goes through its data again and again: give a DataLoader, or list(...) "
    "of them"
)
_LISTED = (
    "a list that holds tensors is one batch, as a DataLoader gives them; if each of them is a batch of its own, give "
    "[(tensor,) for tensor in ...], or a DataLoader"
)


def data(given: Any, size: Size = None) -> Data:
    """`given` as batches: a tensor, a mapping, a tuple or list that holds tensors is one batch; all else is a source.

    Raises `RavineError` for an iterator, which can be read only once.
    """
    if size is not None and not callable(size):
        raise RavineError(f"size must be a function from a batch to its number of examples, got {size!r}")
    if _is_batch(given):
        hint = _LISTED if isinstance(given, list) and all(isinstance(item, Tensor) for item in given) else ""
        return Data([given], size, True, hint)
    if hasattr(given, "__next__"):
        raise RavineError(
            f"a {type(given).__name__} can be read only once, and curvature goes through its data again and again: "
            "give a DataLoader, or list(...) of it"
        )
    if not hasattr(given, "__iter__"):
        raise RavineError(f"data must be a batch (tensor, tuple, mapping) or an iterable of batches, got {given!r:.80}")
    if hasattr(given, "__len__") and not len(given):
        raise RavineError("the data have no batches")
    single = isinstance(given, list | tuple) and len(given) == 1
    return Data(given, size, single)


def _is_batch(given: Any) -> bool:
    if isinstance(given, Tensor | Mapping):
        return True
    return isinstance(given, tuple | list) and any(isinstance(item, Tensor) for item in given)


def examples(batch: Any, size: Size) -> int:
    """The number of examples in a batch: what `size` says, or the leading dimension on which all its tensors agree."""
    if size is not None:
        return _whole(size(batch))
    found = {tensor.shape[0] for tensor in tensors(batch) if tensor.ndim}
    if len(found) != 1:
        said = f"its tensors' leading dimensions are {sorted(found)}" if found else "it holds no tensors"
        listed = f" ({_LISTED})" if isinstance(batch, list) else ""
        raise RavineError(
            f"cannot tell how many examples a batch has, since {said}: give size=, a function of a batch{listed}"
        )
    return found.pop()


def _whole(said: Any) -> int:
    """What size= has said, as a whole number."""
    try:
        count = operator.index(said)
    except TypeError:
        count = 0
    if count < 1 or isinstance(said, bool):
        raise RavineError(f"size= must say a whole number of examples, 1 at least, and it says {said!r}")
    return count
