"""A model's signals, followed while it runs on an example: module calls and functional calls alike."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ravine.core.errors import RavineError
from ravine.core.trees import tensors
from ravine.init.activations import ACTIVATIONS, ALIASES, Activation, activation
from ravine.init.flow import Flow, Tag

WEIGHTED = {"linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
PRODUCTS = {"matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "scaled_dot_product_attention", "softmax", "bilinear"}
NORMS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "normalize"}
RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}
SUMS = {"add", "iadd", "radd"}


def trace(model: nn.Module, example: Any) -> Flow:
    """The flow of `model` on `example`: a tensor, a tuple of arguments or a dict of them.

    The model runs once, in evaluation mode and without gradients, and all it makes on the way is kept until it is done;
    modes, buffers and random states are as before. Raises `RavineError` where the example is not finite or does not
    fit. The values that come out do not matter: the weights of a model that is to be initialized may be anything.
    """
    _check_finite(example, "the example")
    flow = Flow()
    modes = {module: module.training for module in model.modules()}
    buffers = {name: copy.deepcopy(buffer) for name, buffer in model.named_buffers()}
    try:
        model.eval()
        devices = sorted({p.device.index or 0 for p in model.parameters() if p.is_cuda})
        with torch.no_grad(), torch.random.fork_rng(devices), _Following(flow, model) as following:
            following.tags = {id(t): (t, Tag(origins=frozenset({None}))) for t in tensors(example)}
            output = _called(model, example)
            for tensor in tensors(output):
                flow.resolve(following.tag(tensor), None)
    except RavineError:
        raise
    except Exception as error:
        raise RavineError(f"the model does not run on the example: {type(error).__name__}: {error}") from error
    finally:
        for module, training in modes.items():
            module.training = training
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return flow


def _called(model: nn.Module, example: Any) -> Any:
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, tuple) else model(example)


def _check_finite(given: Any, what: str) -> None:
    for tensor in tensors(given):
        if (tensor.is_floating_point() or tensor.is_complex()) and not tensor.isfinite().all():
            raise RavineError(f"{what} has values that are not finite (NaN or infinite)")


class _Following(TorchFunctionMode):
    """Sees every function of torch that the model calls, and keeps a tag for every tensor it makes."""

    def __init__(self, flow: Flow, model: nn.Module) -> None:
        super().__init__()
        self.flow = flow
        self.parameters = {id(p): p for p in model.parameters()}
        self.tags: dict[int, tuple[Tensor, Tag]] = {}  # with the tensor, so that no other takes its id
        self.pieces: dict[int, tuple[Tensor, int]] = {}  # of parameters, and views of them
        self.views: dict[int, tuple[Tensor, int, bool]] = {}  # of parameters: which, and whether transposed

    def tag(self, tensor: Any) -> Tag:
        found = self.tags.get(id(tensor))
        return found[1] if found else Tag()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        before = {id(t): self.tag(t) for t in tensors((args, kwargs))}
        output = func(*args, **kwargs)
        name = getattr(func, "__name__", "").strip("_")
        made = [tensor for tensor in tensors(output) if id(tensor) not in self.parameters]
        if made and not self._view_of_parameter(args, made):
            tag = self._after(name, args, kwargs, [before[id(t)] for t in tensors((args, kwargs)) if id(t) in before])
            for tensor in made:
                self.tags[id(tensor)] = (tensor, tag)
        return output

    def _view_of_parameter(self, args: tuple[Any, ...], made: list[Tensor]) -> bool:
        """Whether this only looks at a parameter, as W.T does; such views are remembered."""
        whole = self._parameter(args[0]) if args and isinstance(args[0], Tensor) else None
        if args and whole is None and id(args[0]) in self.pieces:
            whole = self.pieces[id(args[0])][1], False
        if whole is None or len(made) != 1 or len(tensors(args)) != 1:
            return False
        (view,), (key, turned), source = made, whole, args[0]
        if view.untyped_storage().data_ptr() != source.untyped_storage().data_ptr():
            return False
        self.pieces[id(view)] = (view, key)
        if view.numel() != source.numel() or view.ndim != source.ndim:
            return True
        flipped = view.ndim == 2 and view.stride() == source.stride()[::-1] and view.shape == source.shape[::-1]
        self.views[id(view)] = (view, key, turned != flipped)
        return True

    def _parameter(self, tensor: Any) -> tuple[int, bool] | None:
        if id(tensor) in self.parameters:
            return id(tensor), False
        found = self.views.get(id(tensor))
        return (found[1], found[2]) if found else None

    def _after(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], tags: list[Tag]) -> Tag:
        signals = [tag for tag in tags if tag.history or tag.origins or tag.pending]
        if name == "multi_head_attention_forward":
            return self._attention(args, kwargs)
        if name in RECURRENT:
            return self._recurrent(args, kwargs)
        if name in WEIGHTED | PRODUCTS and (found := self._weight(name, args, kwargs)) is not None:
            return self.flow.weight(found[0], self.tag(found[2]), found[1])
        if name in PRODUCTS or (name in ("mul", "imul", "rmul") and len(signals) > 1):
            return self.flow.mix(signals)
        if name in NORMS:
            known = [t for t in tensors((args[1:], kwargs)) if self._parameter(t)]
            return self.flow.normalize(self.flow.join(signals or [Tag()]), id(known[0]) if known else None)
        if (f := _activation(name, args, kwargs)) is not None:
            return self.flow.activate(f, self.tag(args[0] if args else kwargs.get("input")))
        if name in SUMS | {"cat", "concat", "concatenate"}:
            for t in tensors(args):
                if (piece := self._parameter(t) or self.pieces.get(id(t), (t, None))[1:])[0] is not None:
                    self.flow.added.add(piece[0])
        if name in SUMS and len(args) >= 2 and all(isinstance(arg, Tensor) for arg in args[:2]):
            a, b = self.tag(args[0]), self.tag(args[1])
            if a.history or b.history:
                return self.flow.add(a, b) if len(signals) > 1 else self.flow.join(signals)
        return self.flow.join(signals) if signals else Tag()

    def _weight(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, bool, Any] | None:
        """(parameter, whether it is used as x W, the signal) of a product with a parameter, or None."""
        operands = [*args, *(kwargs[key] for key in ("input", "weight", "mat1", "mat2", "other") if key in kwargs)]
        if name == "addmm":
            operands = operands[1:]
        known = [self._parameter(operand) if isinstance(operand, Tensor) else None for operand in operands[:2]]
        if name in PRODUCTS - {"matmul", "mm", "addmm"} or len(known) < 2:
            return None
        if known[1] is not None:
            key, turned = known[1]
            return key, turned if name in WEIGHTED else not turned, operands[0]
        return (*known[0], operands[1]) if known[0] is not None else None

    def _attention(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tag:
        names = ("query", "key", "value", "", "", "in_proj_weight", "", "", "", "", "", "out_proj_weight")
        given = dict(zip(names, args, strict=False)) | kwargs
        three = [self.tag(given[name]) for name in ("query", "key", "value")]
        inner = []
        for key in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            if self._parameter(given.get(key)):
                inner.append(self.flow.weight(id(given[key]), self.flow.join(three)))
        return self.flow.weight(id(given["out_proj_weight"]), self.flow.mix(inner or three))

    def _recurrent(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tag:
        tag = self.tag(args[0])
        self.flow.resolve(tag, None)
        weights = [t for t in tensors((args[1:], kwargs)) if id(t) in self.parameters and t.ndim > 1]
        for p in weights:
            self.flow.weight(id(p), Tag(origins=tag.origins, history=tag.history))
            self.flow.places[id(p)].after.add(None)
        return Tag(origins=frozenset({None}), history=tag.history | {id(p) for p in weights})


def _activation(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Activation | None:
    """The activation that a function of torch is, with its settings; None if it is none."""
    name = ALIASES.get(name, name)
    if name not in ACTIVATIONS or name == "linear":
        return None
    if name == "prelu":
        slopes = args[1] if len(args) > 1 else kwargs["weight"]
        return activation(nn.PReLU(init=float(slopes.detach().mean())))
    settings = [
        repr(float(value)) for value in args[1:] if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    worded = [f"{key}={value}" for key, value in kwargs.items() if key in _SETTINGS and not isinstance(value, bool)]
    text = ", ".join([*settings, *worded])
    named = activation(f"{name}({text})" if text else name)
    return activation(name) if _same(named, activation(name)) else named


_SETTINGS = {
    "negative_slope", "alpha", "min_val", "max_val", "approximate", "beta", "threshold", "lambd", "lower", "upper",
}  # fmt: skip
_PROBE = torch.tensor([-30.0, -2.5, -0.7, 0.3, 1.7, 7.0], dtype=torch.float64)


def _same(f: Activation, g: Activation) -> bool:
    return torch.equal(f.values(_PROBE)[0], g.values(_PROBE)[0])
