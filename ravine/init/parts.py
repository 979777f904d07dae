"""What a model is made of: every parameter once, with its role and the matrices that are packed in it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from ravine.core.errors import RavineError
from ravine.core.roles import plain, roles, unwrapped
from ravine.init.chain import is_norm

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
MATRIX = ("matrix", "transposed", "bilinear")  # kinds
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Part:
    """A parameter: its name, role and owner; `kind` says how it is read, `count` how many matrices are packed in it,
    and `split` into how many equal parts the model takes the output of each.
    """

    name: str
    parameter: nn.Parameter
    role: str
    kind: str
    owner: nn.Module
    count: int = 1
    tied: tuple[str, ...] = ()
    split: int = 1

    @property
    def own_name(self) -> str:
        """The name within its module."""
        return self.name.rpartition(".")[2]

    def matrices(self, turned: bool = False) -> list[Tensor]:
        """Views of its matrices as (out, in, *kernel), into which one can write."""
        packed = self.parameter.detach()
        blocks = list(packed.chunk(self.count)) if self.count > 1 else [packed]
        if self.kind == "transposed" or turned:
            blocks = [block.transpose(0, 1) for block in blocks]
        whole = [block.flatten(1) if self.kind == "bilinear" else block for block in blocks]
        return whole if self.split == 1 else [part for block in whole for part in block.chunk(self.split)]


def parts(model: nn.Module) -> list[Part]:
    """Every parameter of `model`, tied ones once, in the order in which modules register them.

    Raises `RavineError` for parameters without values (lazy, on the meta device) or without a float type.
    """
    model = unwrapped(model)
    known = roles(model) if not _lazy(model) else {}
    found: dict[object, Part] = {}
    for prefix, module in model.named_modules():
        for own, p in module.named_parameters(recurse=False):
            name = plain(f"{prefix}.{own}" if prefix else own)
            _check_parameter(name, p)
            key = _memory(p)
            if key in found:
                earlier = found[key]
                if not (earlier.parameter is p and name in earlier.tied):
                    found[key] = _tied(earlier, name, module)
                continue
            role, kind, count = _read(own, p, module, known.get(name, "hidden"))
            found[key] = Part(name, p, role, kind, module, count)
    return list(found.values())


def _tied(earlier: Part, name: str, module: nn.Module) -> Part:
    """A parameter met again; an embedding whose table is a matrix too is an embedding that is tied."""
    table = isinstance(module, nn.Embedding) and earlier.kind == "matrix"
    role, kind = ("embedding", "table") if table else (earlier.role, earlier.kind)
    owner = module if table else earlier.owner
    return Part(earlier.name, earlier.parameter, role, kind, owner, earlier.count, (*earlier.tied, name))


def _memory(p: nn.Parameter) -> object:
    """What two parameters share that are one: the object itself, or the same numbers in memory."""
    if p.numel() == 0:
        return id(p)
    return p.untyped_storage().data_ptr(), p.storage_offset(), tuple(p.shape), p.stride(), p.dtype, p.device


def _lazy(model: nn.Module) -> bool:
    return any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters())


def _check_parameter(name: str, p: nn.Parameter) -> None:
    if isinstance(p, nn.parameter.UninitializedParameter):
        raise RavineError(
            f"parameter '{name}' has no shape yet (a lazy module): run the model once on an example, then initialize it"
        )
    if p.is_meta:
        raise RavineError(
            f"parameter '{name}' is on the meta device and has no memory: model.to_empty(device='cpu'), then "
            "initialize it"
        )
    if not (p.is_floating_point() or p.is_complex()) or p.dtype.itemsize < 2:
        raise RavineError(f"parameter '{name}' has type {p.dtype}: only floats of 16 bits or more and complex numbers")


def _read(own: str, p: nn.Parameter, module: nn.Module, role: str) -> tuple[str, str, int]:
    """(role, kind, number of packed matrices) of a parameter."""
    for reads in _READERS:
        if (found := reads(own, p, module, role)) is not None:
            return found
    if p.ndim == 0:
        return role, "scalar", 1
    if role == "embedding":
        return role, "table", 1
    if own == "bias" or own.endswith("_bias") or own.startswith("bias_"):
        return "bias", "vector", 1
    return role, "unknown", 1


Reading = tuple[str, str, int] | None


def _norm(own: str, p: nn.Parameter, module: nn.Module, role: str) -> Reading:
    if not is_norm(module) or p.ndim == 0:
        return None
    return ("norm", "scale", 1) if own == "weight" else ("norm", "vector", 1) if own == "bias" else None


def _layer(own: str, p: nn.Parameter, module: nn.Module, role: str) -> Reading:
    if own == "bias" and p.ndim == 1:
        return "bias", "vector", 1
    if own != "weight":
        return None
    if isinstance(module, nn.Linear):
        return role, "matrix", 1
    if isinstance(module, CONVOLUTIONS):
        return role, "matrix", module.groups
    if isinstance(module, TRANSPOSED):
        return role, "transposed", module.groups
    if isinstance(module, nn.Bilinear):
        return role, "bilinear", 1
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "embedding", "table", 1
    if isinstance(module, nn.PReLU):
        return "bias", "slope", 1
    if type(module).__name__ == "Conv1D" and p.ndim == 2:  # of transformers: x W
        return role, "transposed", 1
    return None


def _attention(own: str, p: nn.Parameter, module: nn.Module, role: str) -> Reading:
    if not isinstance(module, nn.MultiheadAttention):
        return None
    if own == "in_proj_weight":
        return "hidden" if role == "output" else role, "matrix", 3
    if own in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
        return "hidden" if role == "output" else role, "matrix", 1
    return ("embedding", "token", 1) if own in ("bias_k", "bias_v") else ("bias", "vector", 1)


def _recurrent(own: str, p: nn.Parameter, module: nn.Module, role: str) -> Reading:
    if not isinstance(module, RECURRENT):
        return None
    gates = gates_of(module)
    if own.startswith("weight_hh"):
        return "recurrent", "matrix", gates
    if own.startswith("weight_ih"):
        return "hidden" if role == "output" else role, "matrix", gates
    if own.startswith("weight_hr"):
        return "hidden", "matrix", 1
    return "bias", "vector", 1


_READERS: tuple[Callable[[str, nn.Parameter, nn.Module, str], Reading], ...] = (_norm, _layer, _attention, _recurrent)


def gates_of(module: nn.Module) -> int:
    """How many gates a recurrent module packs into a weight."""
    name = getattr(module, "mode", type(module).__name__).upper()
    return next((count for kind, count in GATES.items() if name.startswith(kind)), 1)


def gate(p: Tensor, module: nn.Module, index: int) -> Tensor:
    """The rows of one gate of a packed bias."""
    return p.detach().chunk(gates_of(module))[index]
