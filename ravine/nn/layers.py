"""The layers of a model, as its author wrote them: which modules have weights, and which belong to them."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from ravine.core.errors import RavineError, unknown

_LISTED = 40  # names that an error lists at most


@dataclass(frozen=True)
class Layer:
    """Consecutive modules: one with weights, and what follows it up to the next with weights.

    Normalization, activation, pooling and dropout belong to the layer before them, and what precedes the first weights
    to the first layer.
    """

    names: tuple[str, ...]

    def modules(self, model: nn.Module) -> list[nn.Module]:
        """These modules in `model`."""
        return [model.get_submodule(name) for name in self.names]

    def __str__(self) -> str:
        return self.names[0] if len(self.names) == 1 else f"{self.names[0]} to {self.names[-1]}"


def weighs(module: nn.Module) -> bool:
    """Whether a module has a matrix, a kernel or a table; scales and shifts alone are none."""
    return any(p.ndim >= 2 for p in module.parameters())


def is_chain(module: nn.Module) -> bool:
    """Whether calling the module is calling its children one after the other."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def units(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that a model is made of, in the order in which it registers them; containers are opened.

    A module of the user's own, such as a residual block, is one unit whatever is in it.
    """
    inside = [(name, child) for name, child in model._modules.items() if child is not None]
    if not inside:
        yield "", model
    for name, child in inside:
        opened = is_chain(child) or isinstance(child, nn.ModuleList | nn.ModuleDict)
        for below, unit in units(child) if opened and child._modules else [("", child)]:
            yield f"{name}.{below}" if below else name, unit


def grouped(named: Iterable[tuple[str, nn.Module]]) -> list[Layer]:
    """Units, in some order, as layers."""
    found: list[list[str]] = []
    leading: list[str] = []
    for name, module in named:
        if weighs(module):
            found.append([*leading, name])
            leading = []
        elif found:
            found[-1].append(name)
        else:
            leading.append(name)
    return [Layer(tuple(names)) for names in found]


def layers(model: nn.Module) -> list[Layer]:
    """The layers of `model` in the order in which it registers them.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> [str(layer) for layer in layers(model)]
    ['0 to 2', '3']
    """
    return grouped(units(model))


def named(model: nn.Module, name: str, kind: str = "layer") -> nn.Module:
    """The module of that name; raises `RavineError` with its neighbours where there is none."""
    known = [found for found, _ in model.named_modules() if found]
    if name in known:
        return model.get_submodule(name)
    if not isinstance(name, str):
        raise RavineError(f"a {kind} is given by its name, such as '{known[0] if known else ''}', got {name!r}")
    if len(known) > _LISTED:
        known = difflib.get_close_matches(name, known, n=8, cutoff=0.0)
    raise unknown(kind, name, known, f"These are modules of the {type(model).__name__}.")
