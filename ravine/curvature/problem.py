"""The parameters that curvature is taken in, as a flat vector, and functions of the model at any values of them."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ravine.core.errors import RavineError, unknown
from ravine.core.roles import named_parameters, unwrapped
from ravine.engine.twice import twice_differentiable

Params = str | nn.Parameter | Sequence[str] | Sequence[nn.Parameter] | None
Values = tuple[Tensor, ...]


class _Within(nn.Module):
    """Lets a function of the model be called with other values in the place of its parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(self.model, *arguments)


class Problem:
    """A model and the parameters of it that are variable.

    params: names of parameters or of modules, or parameters themselves; all trainable ones unless given.
    """

    def __init__(self, model: nn.Module, params: Params = None) -> None:
        if not isinstance(model, nn.Module):
            raise RavineError(f"curvature needs an nn.Module, got {type(model).__name__}")
        self.model = unwrapped(model)
        self._within = _Within(self.model)
        self.named = _chosen(self.model, params)
        raw = _raw_names(self.model, self.named)
        self._names = [f"model.{name}" for name in raw]
        self._homes = [_home(self.model, name) for name in raw]
        first = next(iter(self.named.values()))
        self.dtype, self.device = first.dtype, first.device
        for name, p in self.named.items():
            if p.dtype.is_complex:
                raise RavineError(
                    f"curvature is that of real parameters, and {name} is {p.dtype}: hold its real and imaginary parts "
                    "as two parameters (torch.view_as_complex joins them), or choose others by params="
                )
            if p.dtype != self.dtype or p.device != self.device:
                raise RavineError(
                    f"parameters of different kinds: {name} is {p.dtype} on {p.device}, others {self.dtype} on "
                    f"{self.device}: choose some by params="
                )
        self.slices: dict[str, slice] = {}
        self.size = 0
        for name, p in self.named.items():
            self.slices[name] = slice(self.size, self.size + p.numel())
            self.size += p.numel()

    def values(self) -> Values:
        """The parameters as they are now."""
        return tuple(p.detach() for p in self.named.values())

    def version(self) -> tuple[Any, ...]:
        """Changes whenever a parameter or a buffer has been written to, or another tensor stands in its place."""
        self._found_again()
        tensors = [*self.named.values(), *self.model.parameters(), *self.model.buffers()]
        modes = tuple(module.training for module in self.model.modules())
        return tuple((id(t), t.data_ptr(), t._version) for t in tensors), modes

    def sums(self) -> list[float]:
        """A sum over each parameter and buffer: writing to `.data` changes no version. It reads the weights once."""
        with torch.no_grad():
            found = [t.sum() for t in (*self.named.values(), *self.model.parameters(), *self.model.buffers())]
            return [float(one) for one in torch.stack([one.to(self.device, torch.float64) for one in found]).tolist()]

    def _found_again(self) -> None:
        """Take parameters that have been put in the place of others since."""
        for (name, old), (module, key) in zip(list(self.named.items()), self._homes, strict=True):
            new = module._parameters.get(key)
            if new is old:
                continue
            if new is None or (new.shape, new.dtype, new.device) != (old.shape, old.dtype, old.device):
                now = "is gone" if new is None else f"is {tuple(new.shape)}, {new.dtype}, {new.device} now"
                raise RavineError(f"the parameter {name} {now}, but the operator was made of another: make it anew")
            self.named[name] = new

    def call(self, function: Callable[..., Any], values: Values, *arguments: Any) -> Any:
        """`function(model, *arguments)` with `values` in the place of the parameters."""
        return functional_call(
            self._within, dict(zip(self._names, values, strict=True)), (function, *arguments), tie_weights=True
        )

    def split(self, v: Tensor) -> Values:
        """A flat vector as tensors of the parameters' shapes."""
        sizes = [p.numel() for p in self.named.values()]
        return tuple(part.view_as(p) for part, p in zip(torch.split(v, sizes), self.named.values(), strict=True))

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Tensors of the parameters' shapes as a flat vector."""
        return torch.cat([part.reshape(-1) for part in parts])


def _chosen(model: nn.Module, params: Params) -> dict[str, nn.Parameter]:
    everything = named_parameters(model)
    if params is None:
        found = {name: p for name, p in everything.items() if p.requires_grad}
        if not found:
            raise RavineError(
                f"the model has no trainable parameters (of {len(everything)} in all): let some require gradients, or "
                "choose them by params="
            )
        return found
    if isinstance(params, str | Tensor):
        params = [params]  # type: ignore[assignment]
    found = {}
    for one in params:
        if isinstance(one, Tensor):
            mine = {name: p for name, p in everything.items() if p is one}
            if not mine:
                raise RavineError(
                    f"params= holds a tensor of shape {tuple(one.shape)} that is no parameter of the model"
                )
        else:
            mine = {name: p for name, p in everything.items() if name == one or name.startswith(f"{one}.") or not one}
            if not mine:
                modules = [name for name, _ in model.named_modules() if name]
                raise unknown("parameter or module", one, [*everything, *modules])
        found |= mine
    if not found:
        raise RavineError("params= chooses no parameter")
    return {name: p for name, p in everything.items() if name in found}


def _raw_names(model: nn.Module, named: dict[str, nn.Parameter]) -> list[str]:
    """The names under which torch itself knows these parameters."""
    by_identity = {id(p): name for name, p in reversed(list(model.named_parameters()))}
    return [by_identity[id(p)] for p in named.values()]


def _home(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds a parameter, and its name there."""
    path, _, key = name.rpartition(".")
    return model.get_submodule(path), key


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Inside, kernels have second derivatives, and evaluating the model leaves its buffers as they are.

    Batch norm in train mode uses the batch's own statistics and keeps none; whatever else writes to buffers finds them
    restored.
    """
    with ExitStack() as stack:
        stack.enter_context(twice_differentiable())
        if any(isinstance(module, nn.LSTM) for module in model.modules()):  # oneDNN's has no forward derivative
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "TF32 acceleration on top of oneDNN")  # which nobody asked for
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.training and module.track_running_stats:
                module.track_running_stats = False
                stack.callback(setattr, module, "track_running_stats", True)
        kept = [(buffer, buffer.clone(), buffer._version) for buffer in model.buffers()]
        stack.callback(_restore, kept, [(module, dict(module._buffers)) for module in model.modules()])
        yield


def _restore(
    kept: Sequence[tuple[Tensor, Tensor, int]], held: Sequence[tuple[nn.Module, dict[str, Tensor | None]]]
) -> None:
    """Buffers as they were, what forward has written to them or put in their place."""
    for module, before in held:
        if any(module._buffers.get(name) is not buffer for name, buffer in before.items()) or len(before) != len(
            module._buffers
        ):
            module._buffers.clear()
            module._buffers.update(before)
    with torch.no_grad():
        for buffer, copy, version in kept:
            if buffer._version != version:
                buffer.copy_(copy)
