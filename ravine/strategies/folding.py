"""Batch normalization folded into the layers beside it, for inference."""

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from ravine.core.errors import RavineError
from ravine.core.modes import evaluating
from ravine.core.trees import tensors
from ravine.nn.layers import is_chain
from ravine.strategies.changes import Report, exchange, tied
from ravine.strategies.execution import executed, run
from ravine.strategies.norms import BatchNorm, BatchNorm1d, GhostBatchNorm, Normalized

_CLOSE = {torch.float64: 1e-9, torch.float32: 1e-5}  # what is promised; rounding stays below in all but deep models
# What these do is known; a subclass with a forward of its own may do more, such as an activation.
_NORM_FORWARDS = {
    kind.forward for kind in (_BatchNorm, nn.SyncBatchNorm, BatchNorm, BatchNorm1d, GhostBatchNorm)
}
_LAYER_FORWARDS = {
    kind.forward
    for kind in (
        nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    )
}  # fmt: skip


class Pair(NamedTuple):
    """A batch normalization and the layer that takes it up, which stands before it or behind it."""

    norm: str
    layer: str
    behind: bool  # the normalization behind the layer


def fold(model: nn.Module, example: Any = None) -> Report:
    """A copy of `model` for inference, in which batch normalization is part of the layers beside it.

        gamma (W x + b - mu) / sqrt(var + eps) + beta  =  W' x + b'
        W' = s W,  b' = s (b - mu) + beta,  s = gamma / sqrt(var + eps)              behind the layer
        W' = W diag(s),  b' = b + W (beta - s mu)                                    before it

    The same numbers in evaluation mode, without the work; a normalization that was put there by `insert` disappears,
    and weights made of lengths and directions are plain again. For linear layers and convolutions of all kinds behind
    which it stands; before a convolution only without padding, since padded zeros are not normalized.

    example: what the model is called with, to see by a run which layer feeds which, and to compare the outputs before
        and after. It is needed where a normalization does not stand in an `nn.Sequential`, and where torch's
        `BatchNorm1d` beside a linear layer sees sequences: there it normalizes positions, not features, which is
        refused with an example and taken for two dimensions, with a note, without one.

    What cannot be folded stays as it is; the report says why. Arithmetic is in float64. The model itself stays as it
    is, with its mode. Raises `RavineError` where nothing can be folded, and where the outputs would differ.
    """
    if not isinstance(model, nn.Module):
        raise RavineError(f"fold takes a model, an nn.Module; got {type(model).__name__}")
    made = copy.deepcopy(model).eval()
    baked = _bake(made)
    pairs, left = _by_run(made, example) if example is not None else _by_place(made)
    if not pairs and not baked:
        found = "; ".join(f"'{name}': {why}" for name, why in left.items()) or "it has no batch normalization"
        raise RavineError(f"fold: there is nothing to fold in this model ({found})")
    modules = dict(made.named_modules())
    done = [(name, "its weight is plain again") for name in baked]
    with torch.no_grad():
        for pair in pairs:
            norm, layer = modules[pair.norm], modules[pair.layer]
            (_behind if pair.behind else _before)(layer, norm)
            _remove(made, norm)
            done.append((pair.norm, f"folded into '{pair.layer}'"))
    if example is not None:
        _compare(model, made, example)
    notes = () if example is not None else tuple(_assumed(modules, pairs))
    return Report(made, tuple(done), tuple(left.items()), notes)


def _assumed(modules: dict[str, nn.Module], pairs: list[Pair]) -> Iterator[str]:
    """What does not show without a run: whether torch's BatchNorm1d beside a linear layer sees sequences."""
    for pair in pairs:
        norm, layer = modules[pair.norm], modules[pair.layer]
        if isinstance(layer, nn.Linear) and getattr(norm, "channel_dim", 1) == 1:
            yield (
                f"'{pair.norm}' was taken to see inputs of two dimensions; over sequences it normalizes positions and "
                "cannot be folded: example= tells them apart"
            )


def _by_run(model: nn.Module, example: Any) -> tuple[list[Pair], dict[str, str]]:
    """The pairs that a run shows, and why the rest is left."""
    seen = executed(model, example)
    modules, shared = dict(model.named_modules()), tied(model)
    pairs: list[Pair] = []
    left: dict[str, str] = {}
    for name, norm in modules.items():
        if not isinstance(norm, _BatchNorm):
            continue
        call = seen.call(name)
        if call is None:
            left[name] = f"it runs {seen.count(name)} times with this example"
            continue
        makers = [a for a in seen.calls if a.made == call.given and a is not call]
        takers = seen.feeds(call)
        options = [(a.name, True, call.given) for a in makers[-1:]] + [(b.name, False, call.made) for b in takers[:1]]
        reasons: list[str] = []
        for layer, behind, between in options:
            reason = _refusal(norm, modules[layer], behind, shared, len(call.shape))
            if not reason and seen.call(layer) is None:
                reason = f"'{layer}' runs more than once"
            if not reason and (seen.uses.get(between or 0, 0) > 1 or between in seen.returned):
                reason = f"what stands between it and '{layer}' is used elsewhere too"
            if not reason and any(layer == pair.layer for pair in pairs):
                reason = f"'{layer}' has taken up another one"
            if not reason:
                pairs.append(Pair(name, layer, behind))
                break
            reasons.append(reason)
        else:
            left[name] = "; ".join(reasons) or "no linear layer or convolution stands directly beside it"
    return pairs, left


def _by_place(model: nn.Module) -> tuple[list[Pair], dict[str, str]]:
    """The pairs of neighbours in a Sequential; refuses a normalization elsewhere."""
    modules, shared = dict(model.named_modules()), tied(model)
    pairs: list[Pair] = []
    left: dict[str, str] = {}
    for name, norm in modules.items():
        if not isinstance(norm, _BatchNorm):
            continue
        prefix = name.rpartition(".")[0]
        if norm is model or not is_chain(modules[prefix]):
            raise RavineError(f"fold: what stands before '{name}' does not show without a run: give example=")
        around = [f"{prefix}.{key}" if prefix else key for key in modules[prefix]._modules]
        i = around.index(name)
        options = [(other, behind) for other, behind in ((i - 1, True), (i + 1, False)) if 0 <= other < len(around)]
        reasons: list[str] = []
        for other, behind in options:
            if around[other] not in modules:  # the same layer once more, whose first name is another
                reasons.append("a neighbour is used in two places")
            elif reason := _refusal(norm, modules[around[other]], behind, shared):
                reasons.append(reason)
            elif any(around[other] == pair.layer for pair in pairs):
                reasons.append(f"'{around[other]}' has taken up another one")
            else:
                pairs.append(Pair(name, around[other], behind))
                break
        else:
            left[name] = "; ".join(reasons) or "no layer stands beside it"
    return pairs, left


def _refusal(norm: _BatchNorm, layer: nn.Module, behind: bool, shared: set[int], ndim: int | None = None) -> str:
    """Why a layer cannot take up a normalization of a tensor of `ndim` dimensions, if known; empty where it can."""
    if norm.running_mean is None or norm.running_var is None:
        return "it keeps no running statistics"
    if not isinstance(layer, nn.Linear | _ConvNd):
        return f"beside it stands {type(layer).__name__}, no linear layer or convolution"
    if is_parametrized(layer):
        return "the weight of the layer beside it is parametrized"
    for m, known in ((norm, _NORM_FORWARDS), (layer, _LAYER_FORWARDS)):
        if type(m).forward not in known:
            return f"{type(m).__name__} has a forward of its own"
    if reason := _other_channels(norm, layer, behind, ndim):
        return reason
    if shared & {id(layer.weight), id(layer), id(norm)}:
        return "the layer beside it, or its weight, is used in two places"
    if norm._forward_hooks or norm._forward_pre_hooks or layer._forward_hooks or layer._forward_pre_hooks:
        return "hooks look at what stands between"
    if not behind and isinstance(layer, _ConvTransposeNd):
        return "a transposed convolution behind it adds fewer terms at the edges"
    if not behind and isinstance(layer, _ConvNd) and layer.padding != "valid" and _pads(layer):
        return "the convolution behind it pads with zeros that are not normalized"
    return ""


def _pads(layer: _ConvNd) -> bool:
    return layer.padding == "same" or any(layer.padding)


def _other_channels(norm: _BatchNorm, layer: nn.Linear | _ConvNd, behind: bool, ndim: int | None) -> str:
    """Why the channels that are normalized are not those of the layer; empty where they are."""
    if isinstance(layer, nn.Linear):
        given, made, dims = layer.in_features, layer.out_features, 0
    else:
        given, made, dims = layer.in_channels, layer.out_channels, layer.weight.ndim - 2
    count = made if behind else given
    if norm.num_features != count:
        return f"it normalizes {norm.num_features} channels, but the layer beside it has {count}"
    place = getattr(norm, "channel_dim", 1)
    ndim = dims + 2 if ndim is None else ndim
    if place % ndim != ndim - dims - 1:
        return f"of an input of {ndim} dimensions it normalizes another one than the features of the layer beside it"
    return ""


def _scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """s and beta - s mu of a normalization, in float64."""
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -scale * norm.running_mean.double()
    if norm.weight is not None:
        scale, shift = scale * norm.weight.double(), shift * norm.weight.double()
    return scale, shift + (norm.bias.double() if norm.bias is not None else 0)


def _behind(layer: Any, norm: nn.Module) -> None:
    scale, shift = _scale_and_shift(norm)
    weight = layer.weight.double()
    if isinstance(layer, _ConvTransposeNd):  # (in, out / groups, ...)
        grouped = weight.view(layer.groups, -1, *weight.shape[1:])
        factor = scale.view(layer.groups, 1, -1, *(1,) * (weight.ndim - 2))
        new = (grouped * factor).view(weight.shape)
    else:
        new = weight * scale.view(-1, *(1,) * (weight.ndim - 1))
    bias = layer.bias.double() if layer.bias is not None else 0
    _set(layer, new, bias * scale + shift)


def _before(layer: Any, norm: nn.Module) -> None:
    scale, shift = _scale_and_shift(norm)
    weight, groups = layer.weight.double(), getattr(layer, "groups", 1)
    parts = weight.view(groups, -1, *weight.shape[1:])  # (groups, out / groups, in / groups, ...)
    ones = (1,) * (weight.ndim - 2)
    new = (parts * scale.view(groups, 1, -1, *ones)).view(weight.shape)
    more = (parts * shift.view(groups, 1, -1, *ones)).flatten(2).sum(-1).flatten()
    _set(layer, new, (layer.bias.double() if layer.bias is not None else 0) + more)


def _set(layer: Any, weight: Tensor, bias: Tensor) -> None:
    own = layer.weight
    layer.weight = nn.Parameter(weight.to(own.dtype), own.requires_grad)
    layer.bias = nn.Parameter(bias.to(own.dtype), own.requires_grad)


def _remove(model: nn.Module, norm: nn.Module) -> None:
    """Take a normalization out: of what `insert` made only the layer is left."""
    pair = next((m for m in model.modules() if isinstance(m, Normalized) and m.norm is norm), None)
    if pair is not None and pair is not model:
        exchange(model, pair, pair[0])
    else:
        exchange(model, norm, nn.Identity())


def _bake(model: nn.Module) -> list[str]:
    """Make weights plain that are a length times a direction."""
    baked = []
    for name, m in list(model.named_modules()):
        if is_parametrized(m, "weight") and _is_weight_norm(m):
            # The class with the property `weight` is shared with the model that this is a copy of.
            own = {key: x for key, x in vars(type(m)).items() if key not in ("__dict__", "__weakref__")}
            m.__class__ = type(type(m).__name__, type(m).__bases__, own)
            remove_parametrizations(m, "weight", leave_parametrized=True)
            baked.append(name)
    return baked


def _is_weight_norm(m: Any) -> bool:
    return type(m.parametrizations["weight"][0]).__name__ == "_WeightNorm"  # torch's, which has no public name


def _compare(model: nn.Module, made: nn.Module, example: Any) -> None:
    with evaluating(model), torch.no_grad():
        before, after = tensors(run(model, example)), tensors(run(made, example))
    for a, b in zip(before, after, strict=True):
        if a.is_floating_point() and a.numel():
            apart = float((a - b).abs().max() / a.abs().max().clamp_min(1e-30))
            if not apart <= _CLOSE.get(a.dtype, 0.05):
                raise RavineError(
                    f"fold: the outputs would differ by {apart:.1e} of the largest one, so that layers are joined "
                    "otherwise than a run shows, or rounding adds up (then fold(model.double(), ...) goes); nothing "
                    "was changed"
                )
