"""Running statistics of batch normalization, computed anew: exactly, over all of the data, without momentum."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Dataset, IterableDataset

from ravine.core.batches import check_data, in_order, length, to
from ravine.core.declared import check_value
from ravine.core.errors import RavineError
from ravine.core.modes import BATCH_OF_ONE, evaluating, is_batch_of_one, is_held
from ravine.core.roles import plain, unwrapped

BATCH = 256
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class _Enough(Exception):  # no error: what was wanted of a forward pass has been seen
    pass


class _Moments:
    """Mean and sum of squared deviations of what a layer is fed, for each channel, in float64."""

    def __init__(self, channels: int) -> None:
        self.count, self.mean, self.spread = 0, torch.zeros(channels, dtype=torch.float64), torch.tensor(0.0)

    def add(self, x: Tensor, dim: int) -> None:
        """Take in a batch: Chan, Golub & LeVeque 1979, eq. 2.1."""
        rows = x.detach().to(torch.float64).movedim(dim, -1).flatten(0, -2)
        n, mean = len(rows), rows.mean(0)
        spread = (rows - mean).square().sum(0)
        total = self.count + n
        apart = mean - self.mean.to(mean.device)
        self.mean = self.mean.to(mean.device) + apart * (n / total)
        self.spread = self.spread.to(mean.device) + spread + apart.square() * (self.count * n / total)
        self.count = total


def recalibrate(
    model: nn.Module, data: Any, forward: Callable[[nn.Module, Any], Any] | None = None, batch_size: int = BATCH,
    exact: bool = False,
) -> list[str]:  # fmt: skip
    """Set the running mean and variance of every batch normalization to those of `data`; returns the layers' names.

        mean = sum of x / n,    variance = sum of (x - mean)^2 / (n - 1)        over all n values of a channel

    In one pass, each layer behind others that normalize by their own batch, as in training; the rest of the model is in
    evaluation mode, so that dropout drops nothing. Unlike torch's `update_bn`, which takes the mean of the batches'
    variances, batches of different sizes and means count as they should. exact: one pass for every such layer, in the
    order in which they run, each behind layers that normalize by what was computed: then in evaluation mode every
    layer's output has mean 0 and variance 1 over the data.

    data: a tensor, a tuple of tensors (inputs, targets, ...), a dataset, or batches: a list of them, a DataLoader. Of a
        batch that is a tuple or a list the first is the input. A tuple whose tensors are all alike, as `x.split(50)`
        gives one, is refused: it may mean both. forward(model, batch) calls the model otherwise. batch_size: of
        tensors and datasets.
    Modes are as they were afterwards, and if it fails the statistics too. A model without batch normalization is left
    alone. Wu & Johnson 2021 compare such estimates (arXiv:2105.07576, section 3). Raises `RavineError` for data without
    a batch, for a batch of one, which has no variance, and for layers held still by `frozen`.
    """
    if not isinstance(model, nn.Module):
        raise RavineError(f"recalibrate takes a model, an nn.Module; got {type(model).__name__}")
    check_value("recalibrate: batch_size", batch_size, int, "[1, inf)")
    layers = _layers(model)
    if held := [name for name, m in layers.items() if is_held(m)]:
        raise RavineError(f"recalibrate: '{held[0]}' is frozen, which keeps its statistics: release() it before")
    if not layers:
        return []
    call = partial(forward or _called, model)
    device = next((x.device for x in model.parameters()), torch.device("cpu"))
    with evaluating(model), _kept_if_it_fails(model), torch.no_grad():
        if exact and isinstance(data, Iterator):
            raise RavineError(
                "recalibrate: exact=True reads the data once for every layer: give a list or a DataLoader"
            )
        if not exact:
            _measure(layers, layers, data, batch_size, call, device)
        else:
            for name in _in_order(layers, next(iter(_batches(data, batch_size)), None), call, device):
                _measure({name: layers[name]}, {}, data, batch_size, call, device)
    return list(layers)


def statistics(model: nn.Module) -> dict[str, Tensor]:
    """The running statistics of batch normalization by their names, themselves."""
    pairs = ((f"{name}.{key}", getattr(m, key)) for name, m in _layers(model).items() for key in _STATISTICS)
    return {name: x for name, x in pairs if x is not None}


def _layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """The layers that keep running statistics, by name."""
    found = {plain(name): m for name, m in unwrapped(model).named_modules() if isinstance(m, _BatchNorm)}
    return {name: m for name, m in found.items() if m.running_mean is not None and m.running_var is not None}


def _measure(
    layers: dict[str, _BatchNorm], by_batch: dict[str, _BatchNorm], data: Any, size: int,
    call: Callable[[Any], Any], device: torch.device,
) -> None:  # fmt: skip
    """Set the statistics of `layers` from a pass over the data, those in `by_batch` normalizing by their own batch."""
    found = {name: _Moments(m.num_features) for name, m in layers.items()}
    stop = next(iter(layers)) if not by_batch else ""

    def look(name: str, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        found[name].add(arguments[0], getattr(module, "channel_dim", 1))

    hooks = [m.register_forward_pre_hook(partial(look, name)) for name, m in layers.items()]
    if stop:
        hooks.append(layers[stop].register_forward_hook(_enough))
    for m in by_batch.values():
        m.train()
    batches = 0
    try:
        for batch in _batches(data, size):
            batches += 1
            try:
                call(to(batch, device))
            except _Enough:
                pass
            except ValueError as error:
                if is_batch_of_one(error):
                    raise RavineError(f"recalibrate: {BATCH_OF_ONE}") from error
                raise
    finally:
        for hook in hooks:
            hook.remove()
        for m in by_batch.values():
            m.eval()
    for name, moments in found.items():
        _write(name, layers[name], moments, batches)


def _write(name: str, layer: _BatchNorm, moments: _Moments, batches: int) -> None:
    if not batches:
        raise RavineError(
            "recalibrate: the data gave no batch: give tensors, a dataset, or batches that can be read again"
        )
    if moments.count == 0:
        return  # a layer that this forward pass does not use keeps what it has
    if moments.count < 2:
        raise RavineError(f"recalibrate: '{name}' saw one example in all the data, which has no variance: give more")
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(moments.mean)
    layer.running_var.copy_(moments.spread / (moments.count - 1))
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.fill_(batches)


def _enough(*_: Any) -> None:
    raise _Enough


def _in_order(layers: dict[str, _BatchNorm], batch: Any, call: Callable[[Any], Any], device: torch.device) -> list[str]:
    """The layers in the order in which they run; refuses one that runs twice, whose inputs depend on its statistics."""
    seen: list[str] = []
    hooks = [
        m.register_forward_pre_hook(lambda _module, _inputs, name=name: seen.append(name)) for name, m in layers.items()
    ]
    try:
        if batch is None:
            raise RavineError("recalibrate: the data gave no batch")
        call(to(batch, device))
    finally:
        for hook in hooks:
            hook.remove()
    if twice := [name for name in dict.fromkeys(seen) if seen.count(name) > 1]:
        raise RavineError(f"recalibrate: '{twice[0]}' runs {seen.count(twice[0])} times in a pass: use exact=False")
    return seen


def _batches(data: Any, size: int) -> Iterator[Any]:
    """Batches of tensors, of a dataset, or as they are given; of what is cut here none is of one example."""
    data = (data,) if isinstance(data, Tensor) else data
    dataset = isinstance(data, Dataset) and not isinstance(data, IterableDataset)
    inside = list(data.values()) if isinstance(data, dict) else list(data) if isinstance(data, tuple | list) else []
    all_tensors = bool(inside) and all(isinstance(x, Tensor) and x.ndim for x in inside)
    if isinstance(data, tuple) and all_tensors:
        _refuse_pieces(inside)
    if isinstance(data, list) and all_tensors and len({(x.dtype, x.ndim) for x in inside}) > 1:
        raise RavineError(
            "recalibrate: a list holds batches, but the tensors in this one are not of one kind: inputs and targets "
            "are a tuple, (x, y)"
        )
    if dataset or (all_tensors and not isinstance(data, list)):
        check_data("recalibrate: data", data)
        n = length(data) or 0
        while n > 1 and n % size == 1:
            size += 1
        yield from in_order(data, size)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes | dict) and not hasattr(data, "__array__"):
        yield from data
    else:
        advice = ": torch.from_numpy makes tensors" if hasattr(data, "__array__") else ""
        raise RavineError(f"recalibrate: data must be tensors, a dataset or batches, got {type(data).__name__}{advice}")


def _refuse_pieces(tensors: list[Tensor]) -> None:
    """Raise for a tuple that may hold batches as well as inputs and targets: all are of one type and shape of rows."""
    first, *others = tensors
    alike = all(x.dtype == first.dtype and x.shape[1:] == first.shape[1:] for x in others)
    if others and alike and not all(x is first for x in others):
        raise RavineError(
            f"recalibrate: a tuple is inputs, targets, ..., but the {len(tensors)} tensors of this one are alike, as "
            "x.split(50) makes them: give torch.cat(data) or iter(data) where they are batches, and data[0] where the "
            "first is the inputs"
        )


def _called(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, dict):
        raise RavineError(
            "recalibrate: batches are dicts: give forward=, as in forward=lambda model, batch: model(**batch)"
        )
    given = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(given, Tensor) and hasattr(given, "__array__"):
        raise RavineError(f"recalibrate: a batch is a {type(given).__name__}: torch.from_numpy makes a tensor of it")
    return model(given)


@contextmanager
def _kept_if_it_fails(model: nn.Module) -> Iterator[None]:
    own = statistics(model)
    before = {name: x.clone() for name, x in own.items()}
    try:
        yield
    except BaseException:
        for name, x in before.items():
            own[name].copy_(x)
        raise
