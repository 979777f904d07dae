"""A model's signals, read off its modules where they stand in a row, or by one activation for all."""

from collections.abc import Iterator

from torch import nn

from ravine.init.activations import MODULES, Activation, activation
from ravine.init.flow import Flow, Origin, Tag

PASSING = (
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Flatten, nn.Unflatten, nn.Identity,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
    nn.ZeroPad2d, nn.Upsample, nn.PixelShuffle,
)  # fmt: skip
MATRICES = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


def chain(model: nn.Module) -> Flow | None:
    """The flow through modules in a row (`nn.Sequential`, nested or not); None where only running it would tell."""
    flow, tag = Flow(), Tag()
    for module in _row(model):
        if module is None:
            return None
        if isinstance(module, MATRICES):
            tag = flow.weight(id(module.weight), tag)
        elif type(module) in MODULES and not isinstance(module, nn.Identity):
            tag = flow.activate(activation(module), tag)
        elif is_norm(module):
            scale = getattr(module, "weight", None)
            tag = flow.normalize(tag, None if scale is None else id(scale))
        elif isinstance(module, nn.Softmax | nn.LogSoftmax | nn.Embedding | nn.EmbeddingBag):
            tag = flow.mix([tag])
        elif not isinstance(module, PASSING):
            return None
    flow.resolve(tag)
    return flow


def _row(module: nn.Module) -> Iterator[nn.Module | None]:
    """The modules in order of use; None where that is not known."""
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _row(child)
    else:
        known = type(module).__module__.startswith("torch.nn.")
        yield module if known else None


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalizes, by its class' name."""
    return "Norm" in type(module).__name__


def assumed(keys: list[int], f: Activation, linear: set[int], normalized: bool) -> Flow:
    """The flow where every weight is followed by f, except those of `linear`, in the order in which they are given."""
    flow = Flow()
    before: Origin | None = None
    for key in keys:
        flow.weight(key, Tag(origins=frozenset({before})))
        flow.places[key].after.add(None if key in linear else f)
        before = None if key in linear else Origin(f, frozenset({key}), normalized)
    return flow
