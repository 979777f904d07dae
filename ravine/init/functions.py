"""Functions of torch as models call them, told apart by name: activations, and what leaves a signal as it is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.nn import functional as F

NAMES = (
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "softsign", "logsigmoid",
    "hardtanh", "hardsigmoid", "hardswish", "tanh", "sigmoid", "prelu", "rrelu", "tanhshrink", "softshrink",
    "hardshrink",
)  # fmt: skip
PLAIN: dict[str, Callable[..., Tensor]] = {name: getattr(F, name) for name in NAMES}
_OTHER_NAMES = {"log_sigmoid": "logsigmoid", "special_expit": "sigmoid", "expit": "sigmoid"}
_CLAMPS: dict[tuple[float | None, float | None], str] = {
    (0.0, None): "relu", (0.0, 6.0): "relu6", (-1.0, 1.0): "hardtanh",
}  # fmt: skip

WEIGHTED = {"linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
MATRIX_PRODUCTS = {"matmul", "mm", "addmm"}
PRODUCTS = MATRIX_PRODUCTS | {"bmm", "baddbmm", "einsum", "scaled_dot_product_attention", "bilinear"}
MIXTURES = {"softmax", "log_softmax", "softmin", "gumbel_softmax", "embedding", "embedding_bag", "one_hot"}
NORMS = {
    "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "normalize", "local_response_norm",
}  # fmt: skip
RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}
SUMS = {"add", "iadd", "radd"}
FACTORS = {"mul", "imul", "rmul", "multiply", "div", "idiv", "truediv", "itruediv", "divide", "true_divide"}
SPLITS = {"chunk", "split", "split_with_sizes", "tensor_split", "hsplit", "unbind", "getitem", "narrow", "select"}
CHOICES = {"where", "masked_fill"}
MADE_NEW = ("new_", "zeros", "ones", "full", "empty", "rand")  # beginnings; `zeros_like(z)` has nothing of z but shape
_PASSING = SPLITS | SUMS | {
    "sub", "isub", "subtract", "lerp", "cat", "concat", "concatenate", "stack", "hstack", "vstack", "sum", "mean",
    "cumsum", "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "squeeze", "unsqueeze",
    "expand", "expand_as", "broadcast_to", "repeat", "repeat_interleave", "tile", "transpose", "swapaxes", "swapdims",
    "permute", "movedim", "moveaxis", "t", "adjoint", "get", "contiguous", "clone", "detach", "data", "requires_grad",
    "to", "type", "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda", "alias", "as_strided", "real",
    "imag", "view_as_real", "view_as_complex", "copy", "flip", "roll", "rot90", "sort", "msort", "gather", "take",
    "take_along_dim", "index_select", "index_add", "index_put", "index_copy", "scatter", "scatter_add",
    "masked_select", "masked_scatter", "unfold", "fold", "pad", "interpolate", "upsample", "grid_sample",
    "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "tril", "triu", "nan_to_num",
    "diagonal", "diag_embed", "as_subclass", "set", "pin_memory", "rename", "refine_names", "align_to", "resolve_conj",
}  # fmt: skip
_PASSING_PARTS = ("pool", "dropout", "fft", "cast")  # of names


@dataclass(frozen=True)
class Called:
    """An activation as it was called: its name, what it was called on, and its settings."""

    name: str
    z: Any
    more: tuple[Any, ...] = ()
    rest: dict[str, Any] = field(default_factory=dict)


def plain_name(function: Any) -> str:
    """A function's name without the underscores of methods and of work in place."""
    return str(getattr(function, "__name__", "")).strip("_")


def called(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Called | None:
    """The activation that a function of this name is with these arguments; None if it is none that has a name.

    `clamp(z, min=0)`, `maximum(z, 0)` and `threshold(z, 0, 0)` are ReLU.
    """
    name = _OTHER_NAMES.get(name, name)
    z = args[0] if args else kwargs.get("input")
    if name in PLAIN:
        more = tuple(item for item in args[1:] if not isinstance(item, bool))
        return Called(name, z, more, {key: value for key, value in kwargs.items() if key not in ("inplace", "input")})
    if name in ("clamp", "clip", "clamp_min"):
        low = args[1] if len(args) > 1 else kwargs.get("min")
        high = args[2] if len(args) > 2 else kwargs.get("max")
        found = _CLAMPS.get((number(low), number(high)))
        return Called(found, z) if found and (high is None) == (number(high) is None) else None
    if name in ("maximum", "max", "fmax") and len(args) == 2:
        zero = [number(arg) == 0 if isinstance(arg, Tensor) else False for arg in args]
        return Called("relu", args[zero[0]]) if zero[0] != zero[1] and isinstance(args[zero[0]], Tensor) else None
    if name == "threshold":
        settings = (*args[1:3], *(kwargs[key] for key in ("threshold", "value") if key in kwargs))
        return Called("relu", z) if [number(item) for item in settings] == [0, 0] else None
    return None


def number(given: Any) -> float | None:
    """A number, or a tensor of one, as a float; None for anything else."""
    if isinstance(given, Tensor) and given.numel() == 1 and not given.is_meta and not given.is_complex():
        return float(given.detach())
    return float(given) if isinstance(given, int | float) and not isinstance(given, bool) else None


def passes(name: str) -> bool:
    """Whether a function moves, copies, adds or averages numbers, which leaves their distribution much as it is."""
    return name in _PASSING | WEIGHTED or any(part in name for part in _PASSING_PARTS)


def mixes(name: str) -> bool:
    """Whether a function makes something else of its signals: products, softmax, losses."""
    return name in PRODUCTS | MIXTURES or name.endswith(("_loss", "cross_entropy", "_div"))
