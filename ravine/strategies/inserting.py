"""Normalization put behind the layers of a model."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized

from ravine.core.declared import check_value
from ravine.core.errors import RavineError, unknown
from ravine.core.modes import evaluating
from ravine.nn.layers import is_chain
from ravine.strategies.changes import Report, exchange, undone_if_it_fails
from ravine.strategies.execution import Execution, executed, run
from ravine.strategies.norms import (
    BatchNorm,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GhostBatchNorm,
    GroupNorm,
    Normalized,
    NormalizedRNN,
)

KINDS = ("batch", "layer", "group", "weight", "ghost")
_LAYERS = (nn.Linear, _ConvNd, nn.RNNBase)
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
_READERS = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_GROUPS, _IN_A_GROUP = 32, 8  # groups at most, and values in each at least: two values become 1 and -1, one becomes 0
Where = Iterable[str] | Callable[[str, nn.Module], bool]


def insert(
    model: nn.Module, kind: str = "batch", where: Where | None = None, example: Any = None, eps: float = 1e-5,
    momentum: float | None = 0.1, groups: int | None = None, size: int = 32,
) -> Report:  # fmt: skip
    """Put normalization behind linear and convolutional layers, before what follows them, in place; says what it did.

        h' = gamma (h - mu) / sqrt(var + eps) + beta

    kind: "batch" over the batch and positions; "ghost" over parts of the batch of `size` examples; "layer" over an
        example's features (of a convolution, over channels and positions), also behind recurrent layers; "group" over
        `groups` of channels, the next smaller number that divides them, or unless given as many, up to 32, as leave 8
        channels in each; "weight" leaves activations alone and makes each weight a length times a direction, the
        function staying what it is (Salimans & Kingma 2016).
    where: names of layers, or a function of name and module that says which; all but the output layer unless given.
    example: what the model is called with, to see by a run which layer comes last, which is normalized already, and
        which runs more than once; and once more afterwards. Without, the last layer registered counts as the output,
        and only neighbours in an `nn.Sequential` are seen; the report says so where the model is no such chain.
    eps, momentum: of the normalization, and of its running statistics; momentum=None for their plain mean.

    A bias whose layer is followed by batch normalization adds to the mean that is taken out: it is removed. A layer
    `fc` becomes `fc.layer` and `fc.norm`, so make the optimizer afterwards. Raises `RavineError`, before anything has
    changed, where a layer named by `where` does not exist or cannot be normalized in this way, and where none can; and
    where the model fails on the example afterwards, with everything undone.

    Ioffe & Szegedy 2015; Ba, Kiros & Hinton 2016; Wu & He 2018; Hoffer, Hubara & Soudry 2017.

    >>> import torch, ravine
    >>> from ravine.strategies import batch_norm
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> print(batch_norm.insert(model))
    0  BatchNorm(8) behind it, its bias removed
    2  left: it is the output layer
    """
    if not isinstance(model, nn.Module):
        raise RavineError(f"insert changes a model, an nn.Module; got {type(model).__name__}")
    if kind not in KINDS:
        raise unknown("kind of normalization", str(kind), KINDS)
    check_value("insert: eps", eps, float, "[0, inf)")
    check_value("insert: momentum", momentum, float | None, "[0, 1]")
    check_value("insert: groups", groups, int | None, "[1, inf)")
    layers: dict[str, nn.Module] = {name: m for name, m in model.named_modules() if isinstance(m, _LAYERS)}
    seen = executed(model, example, _LAYERS) if example is not None else None
    chosen, named = _chosen(model, layers, where)
    why = {name: _refusal(model, name, layers, kind, seen, named, groups) for name in chosen}
    if named and (bad := [name for name in chosen if why[name]]):
        raise RavineError(f"insert: '{bad[0]}' cannot have {kind} normalization behind it: {why[bad[0]]}")
    able = [name for name in chosen if not why[name]]
    if not able:
        found = "; ".join(f"'{name}': {reason}" for name, reason in why.items()) or (
            "where chooses none" if named else "it has no such layer"
        )
        raise RavineError(f"insert: there is no layer to put {kind} normalization behind ({found})")
    options = {"eps": eps, "momentum": momentum}
    made = {name: _norm(layers[name], kind, options, groups, size) for name in able if kind != "weight"}
    notes = _notes(model, kind) if seen is None else ()
    with undone_if_it_fails(model):
        done = [(name, _put(model, layers[name], made.get(name))) for name in able]
        if example is not None:
            _try(model, example, kind)
    return Report(model, tuple(done), tuple((name, reason) for name, reason in why.items() if reason), notes)


def _try(model: nn.Module, example: Any, kind: str) -> None:
    """Run the changed model on the example, which it took before."""
    try:
        with evaluating(model), torch.no_grad():
            run(model, example)
    except RavineError as error:
        cause = error.__cause__ or error
        raise RavineError(
            f"insert: with {kind} normalization the model fails on the example ({type(cause).__name__}: "
            f"{str(cause).splitlines()[0]}). Nothing was changed; where= leaves layers out"
        ) from error


def _notes(model: nn.Module, kind: str) -> tuple[str, ...]:
    """What is taken for granted where no example shows it."""
    modules = dict(model.named_modules())
    if all(is_chain(m) or not m._modules for m in modules.values()):
        return ()
    notes = ["without example= layers count as run in the order in which the model registers them"]
    beside = [
        name for name, m in modules.items()
        if isinstance(m, _NORMS) and name and not is_chain(modules[name.rpartition(".")[0]])
    ]  # fmt: skip
    if beside and kind != "weight":
        notes.append(
            f"'{beside[0]}' ({type(modules[beside[0]]).__name__}) may normalize one of these layers already, which "
            "shows with example= only"
        )
    return tuple(notes)


def _chosen(model: nn.Module, layers: dict[str, nn.Module], where: Where | None) -> tuple[list[str], bool]:
    """The layers that are asked for, and whether by name."""
    if where is None:
        return list(layers), False
    if callable(where):
        return [name for name, m in layers.items() if where(name, m)], True
    if not isinstance(where, Iterable):
        raise RavineError(f"insert: where must be names of layers, or a function of name and module; got {where!r}")
    names = [where] if isinstance(where, str) else list(dict.fromkeys(where))
    modules = dict(model.named_modules())
    for name in names:
        if name not in modules:
            raise unknown("layer", str(name), layers)
        if name not in layers:
            kind = type(modules[name]).__name__
            raise RavineError(f"insert: '{name}' is a {kind}: choose among {', '.join(layers) or 'none'}")
    return names, True


def _refusal(
    model: nn.Module, name: str, layers: dict[str, nn.Module], kind: str, seen: Execution | None, named: bool,
    groups: int | None,
) -> str:  # fmt: skip
    """Why nothing can stand behind this layer; empty where it can."""
    layer = layers[name]
    parents = [m for prefix, m in model.named_modules() if prefix == "" or name.startswith(f"{prefix}.")]
    if isinstance(layer, nn.RNNBase) and kind != "layer":
        return (
            f"the steps of an {type(layer).__name__} run in one kernel, and statistics over a batch would differ from "
            "step to step: kind='layer' normalizes its outputs"
        )
    if reader := next((m for m in parents if isinstance(m, _READERS) and m is not layer), None):
        return f"{type(reader).__name__} reads its layers' weights past them, and has norms of its own"
    if layer is model and kind != "weight":
        return "it is the whole model"
    if any(nn.parameter.is_lazy(p) for p in layer.parameters()):
        return "it has no shape yet: run the model once before"
    if kind == "weight" and (reason := _no_direction(model, layer)):
        return reason
    if seen is not None and not seen.count(name):
        return "it does not run with this example"
    if seen is not None and seen.count(name) > 1 and kind in ("batch", "ghost"):
        return f"it runs {seen.count(name)} times in a pass, whose statistics would be mixed"
    if seen is None and kind in ("batch", "ghost") and (n := _places(model, layer)) > 1:
        return f"it stands in {n} places, whose statistics would be mixed"
    if kind in ("layer", "group") and _values(layer, kind, groups, seen, name) < 2:
        return "each group would have one value, of which normalization leaves nothing: use fewer groups, or batches"
    if kind != "weight" and _is_normalized(model, name, seen):
        return "it is normalized already"
    return "it is the output layer" if not named and name == _last(layers, seen) else ""


def _no_direction(model: nn.Module, layer: nn.Module) -> str:
    """Why a weight cannot be a length times a direction; empty where it can."""
    if is_parametrized(layer, "weight"):
        return "its weight is parametrized already"
    weight = getattr(layer, "weight", None)
    if sum(weight is p for m in model.modules() for p in m._parameters.values()) > 1:
        return "its weight is that of another layer too, and would be tied no longer"
    if isinstance(weight, torch.Tensor) and bool((weight.transpose(0, _outputs(layer)).flatten(1) == 0).all(1).any()):
        return "a row of its weight is zero, which has no direction"
    return ""


def _outputs(layer: nn.Module) -> int:
    """The dimension of a weight along which the outputs lie."""
    return 1 if isinstance(layer, _ConvTransposeNd) else 0


def _places(model: nn.Module, layer: nn.Module) -> int:
    return sum(m is layer for _, m in model.named_modules(remove_duplicate=False))


def _values(layer: Any, kind: str, groups: int | None, seen: Execution | None, name: str) -> int:
    """How many values are normalized together by layer or group; of a convolution that has not run two a channel."""
    if isinstance(layer, nn.RNNBase):
        return _width(layer)
    channels, positions = getattr(layer, "out_channels", 0) or layer.out_features, 1
    if isinstance(layer, _ConvNd):
        call = next((call for call in seen.calls if call.name == name), None) if seen else None
        positions = math.prod(call.shape[2 - layer.weight.ndim :]) if call else 2
    return channels // _divisor(channels, kind, groups) * positions


def _last(layers: dict[str, nn.Module], seen: Execution | None) -> str:
    ran = [call.name for call in seen.calls if call.name in layers] if seen else []
    return ran[-1] if ran else list(layers)[-1]


def _is_normalized(model: nn.Module, name: str, seen: Execution | None) -> bool:
    modules = dict(model.named_modules())
    if seen is not None:
        made = [call for call in seen.calls if call.name == name]
        return any(isinstance(modules[b.name], _NORMS) for a in made for b in seen.feeds(a))
    parent = modules[name.rpartition(".")[0]] if name else None
    siblings = list(parent.children()) if parent is not None and is_chain(parent) else []
    after = siblings[siblings.index(modules[name]) + 1 :] if modules[name] in siblings else []
    return isinstance(after[0], _NORMS) if after else False


def _norm(layer: nn.Module, kind: str, options: dict[str, Any], groups: int | None, size: int) -> nn.Module:
    """The normalization that goes behind a layer, where its weights are."""
    eps = {"eps": options["eps"]}
    made: nn.Module
    if isinstance(layer, _ConvNd):
        channels, dims = layer.out_channels, layer.weight.ndim - 2
        if kind == "batch":
            made = (BatchNorm1d, BatchNorm2d, BatchNorm3d)[dims - 1](channels, **options)
        elif kind == "ghost":
            made = GhostBatchNorm(channels, size, **options)
        else:
            made = nn.GroupNorm(_divisor(channels, kind, groups), channels, **eps)
        weight = layer.weight
    elif isinstance(layer, nn.RNNBase):
        made, weight = nn.LayerNorm(_width(layer), **eps), next(layer.parameters())
    else:
        assert isinstance(layer, nn.Linear)
        channels, weight = layer.out_features, layer.weight
        if kind == "batch":
            made = BatchNorm(channels, **options)
        elif kind == "ghost":
            made = GhostBatchNorm(channels, size, channel_dim=-1, **options)
        elif kind == "layer":
            made = nn.LayerNorm(channels, **eps)
        else:
            made = GroupNorm(_divisor(channels, kind, groups), channels, **eps)
    return made.to(weight.device, weight.dtype).train(layer.training)


def _width(layer: nn.RNNBase) -> int:
    return (layer.proj_size or layer.hidden_size) * (2 if layer.bidirectional else 1)


def _divisor(channels: int, kind: str, groups: int | None) -> int:
    """The number of groups: at most as many as given, or of at least eight channels."""
    most = 1 if kind == "layer" else min(_GROUPS, max(1, channels // _IN_A_GROUP)) if groups is None else groups
    return next(n for n in range(min(channels, most), 0, -1) if channels % n == 0)


def _put(model: nn.Module, layer: nn.Module, norm: nn.Module | None) -> str:
    """Put `norm` behind a layer, or normalize its weight where there is none; returns what was done."""
    if norm is None:
        weight_norm(layer, dim=_outputs(layer))
        return "its weight made of lengths and directions"
    shape = getattr(norm, "normalized_shape", None)
    features = math.prod(shape) if shape else getattr(norm, "num_features", 0) or norm.num_channels
    parts = f" in groups of {norm.num_channels // norm.num_groups}" if isinstance(norm, nn.GroupNorm) else ""
    said = f"{type(norm).__name__}({features}{parts}) behind it"
    if isinstance(norm, _NormBase) and getattr(layer, "bias", None) is not None:
        layer.register_parameter("bias", None)
        said += ", its bias removed"
    new = NormalizedRNN(layer, norm) if isinstance(layer, nn.RNNBase) else Normalized(layer, norm)
    exchange(model, layer, new)
    return said
