"""What was done to a model's layers, what was left and why; how a layer is exchanged, and all of it undone."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Report:
    """A model that was changed: `done` and `left` are pairs of a layer's name and what was done, or why it was not.

    notes: what was taken for granted.
    """

    model: nn.Module
    done: tuple[tuple[str, str], ...]
    left: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        width = max((len(name) for name, _ in (*self.done, *self.left)), default=0)
        lines = [f"{name:{width}}  {what}" for name, what in self.done]
        lines += [f"{name:{width}}  left: {why}" for name, why in self.left]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def exchange(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` stands in `model`: a layer that is used in two places stands in both."""
    places = [(parent, key) for parent in model.modules() for key, child in parent._modules.items() if child is old]
    for parent, key in places:
        parent._modules[key] = new


def tied(model: nn.Module) -> set[int]:
    """The parameters and modules that stand in several places, by their ids."""
    weights = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    modules = Counter(id(m) for _, m in model.named_modules(remove_duplicate=False))
    return {key for found in (weights, modules) for key, n in found.items() if n > 1}


@contextmanager
def undone_if_it_fails(model: nn.Module) -> Iterator[None]:
    """Inside, layers and parameters of `model` may be exchanged; where it raises, all are the same ones as before."""
    before = [(m, m.__class__, dict(m._parameters), dict(m._modules)) for m in model.modules()]
    try:
        yield
    except BaseException:
        for m, kind, parameters, modules in before:
            m.__class__ = kind
            m._parameters.clear()
            m._parameters.update(parameters)
            m._modules.clear()
            m._modules.update(modules)
        raise
