"""What was done to a model's layers, what was left and why; and how a layer is exchanged for another."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Report:
    """A model that was changed: `done` and `left` are pairs of a layer's name and what was done, or why it was not."""

    model: nn.Module
    done: tuple[tuple[str, str], ...]
    left: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        width = max((len(name) for name, _ in (*self.done, *self.left)), default=0)
        lines = [f"{name:{width}}  {what}" for name, what in self.done]
        return "\n".join([*lines, *(f"{name:{width}}  left: {why}" for name, why in self.left)])


def exchange(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` stands in `model`: a layer that is used in two places stands in both."""
    places = [(parent, key) for parent in model.modules() for key, child in parent._modules.items() if child is old]
    for parent, key in places:
        parent._modules[key] = new
