"""The average of checkpoints that lie on disk or in memory."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ravine.core.declared import check_value
from ravine.core.errors import RavineError, unknown

Source = str | Path | Mapping[str, Any]


def average(
    checkpoints: Iterable[Source], weights: Sequence[float] | None = None, key: str | None = None
) -> dict[str, Any]:
    """The average of several state dicts, or of the files that hold them, which are read one after the other.

        theta = (sum of w_i theta_i) / (sum of w_i)

    Sums are taken in float64 and returned in each tensor's own type; what is not of floating point (counts of batches)
    is the last one's. weights: w_i, all one unless given. key: under which a file holds its state dict, such as
    "model". Files are read with `weights_only=True`. Running statistics of batch normalization are averaged too, which
    is not what they are at the average: `recalibrate` computes those. Vaswani et al. 2017, section 6.1
    (arXiv:1706.03762); Wortsman et al. 2022, a uniform soup (arXiv:2203.05482). Raises `RavineError` where the
    checkpoints have other names, shapes or kinds of numbers than the first, and for files that cannot be read.

    >>> import torch, ravine
    >>> ravine.averaging.average([{"w": torch.zeros(2)}, {"w": torch.ones(2)}], weights=[1, 3])
    {'w': tensor([0.7500, 0.7500])}
    """
    if isinstance(checkpoints, str | Path | Mapping) or not isinstance(checkpoints, Iterable):
        got = "one" if isinstance(checkpoints, str | Path | Mapping) else type(checkpoints).__name__
        raise RavineError(f"average takes several checkpoints: a list of paths or of state dicts, got {got}")
    sources = list(checkpoints)
    shares = _shares(len(sources), weights)
    sums: dict[str, Tensor] = {}
    last: Mapping[str, Any] = {}
    for i, (source, share) in enumerate(zip(sources, shares, strict=True)):
        state = _state(source, key)
        if i:
            _check(i, state, last)
        for name, x in state.items():
            if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex()):
                wide = x.detach().to(torch.complex128 if x.is_complex() else torch.float64)
                sums[name] = sums[name].add_(wide.to(sums[name].device), alpha=share) if i else wide * share
        last = state
    return {name: sums[name].to(x.dtype) if name in sums else x for name, x in last.items()}


def _shares(count: int, weights: Sequence[float] | None) -> list[float]:
    if not count:
        raise RavineError("average needs at least one checkpoint, got none")
    if weights is not None and not isinstance(weights, Iterable):
        raise RavineError(f"average: weights are a list of numbers, one for each checkpoint, got {weights!r}")
    given = [1.0] * count if weights is None else list(weights)
    for w in given:
        check_value("average: a weight", w, float, None)
    if len(given) != count:
        raise RavineError(f"average: {len(given)} weights for {count} checkpoints: give one each")
    if not all(math.isfinite(w) and w >= 0 for w in given) or not sum(given):
        raise RavineError(f"average: weights must be finite, not negative and not all zero, got {given}")
    return [w / math.fsum(given) for w in given]


def _state(source: Source, key: str | None) -> Mapping[str, Any]:
    where = "a state dict" if isinstance(source, Mapping) else f"'{source}'"
    found: Any = source if isinstance(source, Mapping) else _read(source)
    if key is not None:
        if not isinstance(found, Mapping) or key not in found:
            raise unknown(f"key of {where}", key, map(str, found) if isinstance(found, Mapping) else ())
        found = found[key]
    if not isinstance(found, Mapping) or not any(isinstance(x, Tensor) for x in found.values()):
        keys = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise RavineError(f"average: {where} holds no tensors by name, but {keys}: say where they are with key=")
    return found


def _read(path: str | Path) -> Any:
    if not isinstance(path, str | Path):
        raise RavineError(f"average: a checkpoint is a path or a state dict, got {type(path).__name__}")
    if not Path(path).is_file():
        raise RavineError(f"average: there is no file '{path}'")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        told = str(error).splitlines() or [""]
        raise RavineError(
            f"average: '{path}' cannot be read as a checkpoint ({type(error).__name__}: {told[0]})"
        ) from error


def _kind(x: Any) -> str:
    if not isinstance(x, Tensor):
        return "no tensor"
    return "complex" if x.is_complex() else "of floating point" if x.is_floating_point() else "of whole numbers"


def _check(i: int, state: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    if other := sorted(state.keys() ^ first.keys()):
        raise RavineError(f"average: checkpoint {i + 1} has other weights than the first: '{other[0]}' is in one only")
    for name, x in state.items():
        if (kind := _kind(x)) != (before := _kind(first[name])):
            raise RavineError(f"average: '{name}' is {kind} in checkpoint {i + 1}, but {before} in the one before")
        if isinstance(x, Tensor) and x.shape != first[name].shape:
            found, wanted = tuple(x.shape), tuple(first[name].shape)
            raise RavineError(f"average: '{name}' has shape {found} in checkpoint {i + 1}, but {wanted} before")
