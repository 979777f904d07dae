"""The layers that have Kronecker factors: which they are, what goes into them and what comes out, seen by hooks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravine.curvature.problem import Problem

KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True)
class Layer:
    """A linear or convolutional layer: its module, and where in a flat vector its weights (outputs, inputs) stand.

    The bias is the weights' last column, with an input of 1. A weight or bias that is not variable has no columns.
    """

    module: nn.Module
    parameters: tuple[str, ...]
    place: Tensor
    weight: bool
    bias: bool

    def inputs(self, a: Tensor) -> Tensor:
        """What the weights are multiplied with: (examples, positions, inputs), of convolutions their patches."""
        patches = _patches(self.module, a)
        ones = patches.new_ones(*patches.shape[:2], 1)
        return torch.cat([patches] * self.weight + [ones] * self.bias, 2)

    def outputs(self, s: Tensor) -> Tensor:
        """Something of the shape of the outputs: (examples, positions, outputs)."""
        if isinstance(self.module, nn.Linear):
            return s.reshape(1 if s.ndim == 1 else len(s), -1, s.shape[-1])
        batched = s if s.ndim == _dimensions(self.module) + 2 else s.unsqueeze(0)
        return batched.flatten(2).transpose(1, 2)


@dataclass
class Use:
    """What a layer saw each time it was called in a pass: inputs and outputs, one of a call each."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


def layers(problem: Problem) -> tuple[dict[str, Layer], dict[str, str]]:
    """The layers by their modules' names, and for every other variable parameter the reason why it is in none."""
    names = {id(p): name for name, p in problem.named.items()}
    owners: dict[str, list[str]] = {name: [] for name in problem.named}
    for module_name, module in problem.model.named_modules():
        for p in module.parameters(recurse=False):
            if id(p) in names and module_name not in owners[names[id(p)]]:
                owners[names[id(p)]].append(module_name)
    found: dict[str, Layer] = {}
    left_out: dict[str, str] = {}
    for module_name, module in problem.model.named_modules():
        mine = {key: names[id(p)] for key, p in module.named_parameters(recurse=False) if id(p) in names}
        if not mine:
            continue
        shared = next((owners[name] for name in mine.values() if len(owners[name]) > 1), None)
        reason = f"it is shared by {' and '.join(shared)}" if shared else _refused(module)
        if reason:
            left_out |= dict.fromkeys(mine.values(), reason)
        else:
            found[module_name] = _layer(problem, module, mine)
    return found, left_out


def _refused(module: nn.Module) -> str:
    """Why a module has no Kronecker factors, or nothing."""
    kind = next((kind for kind in KINDS if isinstance(module, kind)), None)
    if kind is None:
        return f"{type(module).__name__} is not a Linear, Conv1d or Conv2d"
    if type(module).forward is not kind.forward:
        return f"{type(module).__name__} has a forward of its own"
    if getattr(module, "groups", 1) != 1:
        return f"its convolution has {module.groups} groups, each of which sees inputs of its own"
    return ""


def _layer(problem: Problem, module: nn.Module, mine: Mapping[str, str]) -> Layer:
    places = []
    for key in ("weight", "bias"):
        if key in mine:
            part = problem.slices[mine[key]]
            rows = problem.named[mine[key]].shape[0]
            places.append(torch.arange(part.start, part.stop, device=problem.device).view(rows, -1))
    names = tuple(mine[key] for key in ("weight", "bias") if key in mine)
    return Layer(module, names, torch.cat(places, 1), "weight" in mine, "bias" in mine)


def _dimensions(module: nn.Module) -> int:
    return 1 if isinstance(module, nn.Conv1d) else 2


def _patches(module: nn.Module, a: Tensor) -> Tensor:
    if isinstance(module, nn.Linear):
        return a.reshape(1 if a.ndim == 1 else len(a), -1, a.shape[-1])
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    flat = isinstance(module, nn.Conv1d)
    a = a if a.ndim == _dimensions(module) + 2 else a.unsqueeze(0)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    a = F.pad(a, module._reversed_padding_repeated_twice, mode=mode)
    kernel, dilation, stride = (
        (1, *size) if flat else size for size in (module.kernel_size, module.dilation, module.stride)
    )
    unfolded = F.unfold(a.unsqueeze(2) if flat else a, kernel, dilation, stride=stride)
    return unfolded.transpose(1, 2)


@contextmanager
def seen(found: Mapping[str, Layer]) -> Iterator[dict[str, Use]]:
    """Inside, what goes into layers and comes out of them is kept, outputs in the graph."""
    uses = {name: Use() for name in found}
    handles = [
        layer.module.register_forward_hook(_keeping(uses[name]), with_kwargs=True) for name, layer in found.items()
    ]
    try:
        yield uses
    finally:
        for handle in handles:
            handle.remove()


def _keeping(use: Use) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        use.inputs.append((args[0] if args else kwargs["input"]).detach().clone())
        use.outputs.append(output)
        return output.clone()  # which an activation in place may overwrite

    return hook
