"""What of a model has a scale of its own: weights, and the numbers that are linear in them, seen by hooks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy

from ravine.core.errors import RavineError, unknown
from ravine.core.roles import unwrapped

See = Callable[[tuple[Any, ...], dict[str, Any], Any], Tensor]
"""From what a module was called with, and gave, to the numbers that are linear in a weight."""

Rows = tuple[int, int | None]
ALL: Rows = (0, None)
_CONVOLUTIONS = nn.modules.conv._ConvNd
RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@dataclass(frozen=True)
class Part:
    """A weight of a module, and what comes of it: the outputs of a linear layer, or q, k and v of attention.

    name: the module's, with a word where it has several parts. weight, bias: names in `owner`, and which of their rows;
    bias: None where `see` adds none. unit_dim: the dimension of `see`'s numbers that counts units.
    """

    name: str
    module: nn.Module
    owner: nn.Module
    weight: str
    bias: str | None
    see: See
    rows: Rows = ALL
    bias_rows: Rows = ALL
    unit_dim: int = -1

    def weights(self) -> Tensor:
        """The rows of the weight, as a view that can be written to."""
        found: Tensor = getattr(self.owner, self.weight)
        return found.detach()[slice(*self.rows)]

    def biases(self) -> Tensor | None:
        """The rows of the bias, as a view, or None."""
        if self.bias is None:
            return None
        found: Tensor = getattr(self.owner, self.bias)
        return found.detach()[slice(*self.bias_rows)]

    def spread(self, values: Tensor, like: Tensor) -> Tensor:
        """One value a unit, in a shape that can be added to `like`."""
        shape = [1] * like.ndim
        shape[self.unit_dim] = -1
        return values.view(shape)


def parts(model: nn.Module) -> dict[str, Part]:
    """The parts of `model` by name, in the order of registration.

    Linear, bilinear and convolutional layers: their outputs. MultiheadAttention: q, k, v and the output. RNN, LSTM, GRU
    and their cells: what each layer's inputs bring to its pre-activations, W_ih x; the recurrent weights have no scale
    that one batch could tell and are no part.
    """
    found: dict[str, Part] = {}
    inside = {id(m.out_proj) for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    for name, module in model.named_modules():
        if id(module) not in inside:
            found |= {part.name: part for part in _of(name or type(module).__name__.lower(), module)}
    return found


def _of(name: str, module: nn.Module) -> Iterator[Part]:
    if isinstance(module, nn.MultiheadAttention):
        yield from _attention(name, module)
    elif isinstance(module, nn.RNNBase):
        yield from _recurrent(name, module)
    elif isinstance(module, nn.RNNCellBase):
        yield Part(name, module, module, "weight_ih", None, _cell(module))
    elif isinstance(module, nn.Linear | nn.Bilinear | _CONVOLUTIONS):
        dim = -1 - len(module.kernel_size) if isinstance(module, _CONVOLUTIONS) else -1
        bias = "bias" if module.bias is not None else None
        yield Part(name, module, module, "weight", bias, lambda a, k, output: output, unit_dim=dim)


def _attention(name: str, module: nn.MultiheadAttention) -> Iterator[Part]:
    width = module.embed_dim
    packed = module.in_proj_weight is not None
    for number, letter in enumerate("qkv"):
        rows = (number * width, (number + 1) * width)
        weight = "in_proj_weight" if packed else f"{letter}_proj_weight"
        bias = "in_proj_bias" if module.in_proj_bias is not None else None

        def see(arguments: tuple[Any, ...], keywords: dict[str, Any], _: Any, at: int = number, w: str = weight,
                part: Rows = rows) -> Tensor:  # fmt: skip
            given: Any = keywords.get(("query", "key", "value")[at], arguments[at] if at < len(arguments) else None)
            added = None if module.in_proj_bias is None else module.in_proj_bias[slice(*part)]
            return F.linear(given, getattr(module, w)[slice(*part) if packed else slice(None)], added)

        mine = rows if packed else ALL  # the bias is one for all three in any case
        yield Part(f"{name}.{letter}", module, module, weight, bias, see, mine, rows)
    out = module.out_proj
    bias = "bias" if out.bias is not None else None
    yield Part(f"{name}.out", module, out, "weight", bias, lambda a, k, output: output[0])


def _cell(module: nn.RNNCellBase) -> See:
    def see(arguments: tuple[Any, ...], keywords: dict[str, Any], _: Any) -> Tensor:
        given: Any = keywords.get("input", arguments[0] if arguments else None)
        return F.linear(given, module.weight_ih)

    return see


def _recurrent(name: str, module: nn.RNNBase) -> Iterator[Part]:
    for layer in range(module.num_layers):
        for way in ("", "_reverse") if module.bidirectional else ("",):
            weight = f"weight_ih_l{layer}{way}"

            def see(arguments: tuple[Any, ...], keywords: dict[str, Any], _: Any, k: int = layer,
                    w: str = weight) -> Tensor:  # fmt: skip
                given = keywords.get("input", arguments[0] if arguments else None)
                state = keywords.get("hx", arguments[1] if len(arguments) > 1 else None)
                below = _below(module, k, given, state)
                return F.linear(below, getattr(module, w))

            yield Part(f"{name}.l{layer}{way}", module, module, weight, None, see)


def _below(module: nn.RNNBase, layer: int, given: Any, state: Any) -> Tensor:
    """What goes into layer `layer`: the outputs of the layers below it, which are run alone, without dropout."""
    if layer:
        given = lower(module, layer)(given, _first(state, layer * (1 + module.bidirectional)))[0]
    data: Tensor = given.data  # of a tensor itself; of a packed sequence what is packed
    return data


def lower(module: nn.RNNBase, layers: int) -> nn.RNNBase:
    """The lowest layers of a recurrent module, with its own weights."""
    options: dict[str, Any] = {"num_layers": layers, "bias": module.bias, "batch_first": module.batch_first}
    options |= {"bidirectional": module.bidirectional, "device": "meta", "dtype": module.weight_ih_l0.dtype}
    if isinstance(module, nn.LSTM):
        options["proj_size"] = module.proj_size
    if isinstance(module, nn.RNN):
        options["nonlinearity"] = module.nonlinearity
    kind = next(kind for kind in (nn.LSTM, nn.GRU, nn.RNN) if isinstance(module, kind))
    made: nn.RNNBase = kind(module.input_size, module.hidden_size, **options)
    for name, _ in list(made.named_parameters()):
        setattr(made, name, getattr(module, name))
    return made


def _first(state: Any, count: int) -> Any:
    if isinstance(state, tuple):
        return tuple(_first(one, count) for one in state)
    return state if state is None else state[:count]


# ---------------------------------------------------------------- what is refused


def checked(model: Any) -> nn.Module:
    """The model inside its wrappers; raises for what is no module, lazy, or on the meta device."""
    if not isinstance(model, nn.Module):
        kind = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise RavineError(f"model must be an nn.Module, got {kind}")
    inner: nn.Module = unwrapped(model)
    for name, tensor in [*inner.named_parameters(), *inner.named_buffers()]:
        if is_lazy(tensor):
            raise RavineError(f"{name} is lazy: its shape is not known yet; call the model once on a batch before")
        if tensor.is_meta:
            raise RavineError(
                f"{name} is on the meta device and has no numbers: call model.to_empty(device=...) and initialize it"
            )
        if tensor.is_inference():
            raise RavineError(
                f"{name} was made under torch.inference_mode(), so that nothing can have a gradient in it: make the "
                "model outside"
            )
    return inner


def chosen(model: nn.Module, skip: Sequence[str]) -> dict[str, Part]:
    """The parts outside of the modules in `skip`; raises where one cannot be scaled alone: frozen, shared, computed."""
    skip = (skip,) if isinstance(skip, str) else tuple(skip)
    everything = parts(model)
    names = [name for name, _ in model.named_modules() if name]
    for name in skip:
        if name not in names and name not in everything:
            raise unknown("module in skip=", name, {*names, *everything})
    found = {name: part for name, part in everything.items() if not _skipped(name, skip)}
    if not found:
        why = "skip= leaves none" if everything else "it has no linear, convolutional, attention or recurrent layer"
        raise RavineError(f"the model has no layer whose weights could be scaled: {why}")
    owners = _owners(model)
    for name, part in found.items():
        for key in (part.weight, part.bias):
            if key is not None:
                _check(name, key, part.owner, owners)
    return found


def _skipped(name: str, skip: tuple[str, ...]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in skip)


def _owners(model: nn.Module) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for key, p in module.named_parameters(recurse=False, remove_duplicate=False):
            found.setdefault(id(p), []).append(f"{name}.{key}" if name else key)
    return found


def _check(name: str, key: str, owner: nn.Module, owners: dict[int, list[str]]) -> None:
    p = owner._parameters.get(key)
    leave = f"or leave it alone by skip=['{name}']"
    if p is None:
        raise RavineError(
            f"the {key} of {name} is computed (by a parametrization, as weight norm) and has no scale of its own: "
            f"search before it is registered, {leave}"
        )
    if not p.requires_grad:
        raise RavineError(f"the {key} of {name} is frozen: let it require gradients, {leave}")
    if len(owners[id(p)]) > 1:
        shared = " and ".join(owners[id(p)])
        raise RavineError(f"the {key} of {name} is shared: {shared} are one tensor, so a scale for one is one for all: "
                          f"untie them, {leave}")  # fmt: skip
    if not torch.isfinite(p).all():
        raise RavineError(f"the {key} of {name} has numbers that are not finite: initialize it anew")
