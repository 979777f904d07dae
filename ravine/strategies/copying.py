"""Layers from one model to another, and layers that stay as they are."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.errors import RavineError
from ravine.nn.layers import is_chain, layers, named
from ravine.nn.tracing import in_running_order


def copy_layers(
    source: nn.Module, target: nn.Module, which: int | Sequence[str], freeze: bool = False, *, example: Any = None
) -> list[str]:
    """Copy layers of `source` into `target`: the first so many, or the modules of these names. The copied names.

    The layers are those that `ravine.nn.layers` tells, with their buffers; the first are those that run first. example:
    a batch of inputs, a tuple for several, by which that is seen; an `nn.Sequential` needs none. With `freeze` the
    copied layers are held as they are, see `hold`. Raises `RavineError` before anything is copied, for a layer that
    either model lacks and for shapes that differ.
    """
    names = _which(source, which, example)
    pairs: list[tuple[Tensor, Tensor]] = []
    for name in names:
        theirs, ours = _tensors(named(source, name)), _tensors(named(target, name))
        if lacking := sorted(theirs.keys() ^ ours.keys()):
            raise RavineError(f"layer '{name}' has {lacking[0]} in one of the two models only: they differ in kind")
        for key, value in theirs.items():
            if value.shape != ours[key].shape:
                raise RavineError(
                    f"layer '{name}' does not fit: its {key} has the shape {tuple(value.shape)} in the source and "
                    f"{tuple(ours[key].shape)} in the target; copy fewer layers"
                )
            pairs.append((value, ours[key]))
    with torch.no_grad():
        for value, place in pairs:
            place.copy_(value)
    if freeze:
        hold(named(target, name) for name in names)
    return names


def _which(source: nn.Module, which: int | Sequence[str], example: Any) -> list[str]:
    if isinstance(which, bool):
        raise RavineError(f"which must be a number of layers or names of modules, got {which!r}")
    if not isinstance(which, int):
        return [which] if isinstance(which, str) else list(which)
    there = layers(source)
    if example is not None:
        inputs = example if isinstance(example, tuple) else (example,)
        there = in_running_order(source, lambda model: model(*inputs))
    elif 0 < which < len(there) and not is_chain(source):
        raise RavineError(
            f"which {which} of the {len(there)} layers of the {type(source).__name__} come first is seen by running "
            f"it: give example=, a batch of its inputs, or names of modules such as ['{there[0].names[-1]}']"
        )
    if not 0 <= which <= len(there):
        listed = ", ".join(f"'{layer}'" for layer in there)
        raise RavineError(f"{which} layers cannot be copied: the {type(source).__name__} has {len(there)}, {listed}")
    return [name for layer in there[:which] for name in layer.names]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


def hold(modules: Iterable[nn.Module]) -> None:
    """Keep these modules as they are while the rest trains: no gradient, and always in evaluation mode.

    So their dropout is off and their batch normalization uses and keeps its running statistics, whatever `train()` is
    called on the model around them.
    """
    for module in modules:
        module.requires_grad_(False)
        for inner in module.modules():
            inner.eval()
            inner.train = partial(_stay, inner)  # type: ignore[method-assign]


def _stay(module: nn.Module, mode: Any = True) -> nn.Module:
    return module
