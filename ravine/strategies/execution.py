"""Which layer feeds which, found by running the model on an example, whatever its forward does."""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ravine.core.errors import RavineError
from ravine.core.modes import evaluating
from ravine.core.trees import tensors


class Call(NamedTuple):
    """A layer's call: its name, which tensors went in and came out, by number, and the shape of what came out."""

    name: str
    given: int | None
    made: int | None
    shape: tuple[int, ...] = ()


class Execution(NamedTuple):
    """The calls of leaf modules in their order; how often each tensor was used; and those that the model returned."""

    calls: list[Call]
    uses: dict[int, int]
    returned: set[int]

    def count(self, name: str) -> int:
        """How often the layer ran."""
        return sum(call.name == name for call in self.calls)

    def call(self, name: str) -> Call | None:
        """The layer's call, if it ran once."""
        found = [call for call in self.calls if call.name == name]
        return found[0] if len(found) == 1 else None

    def feeds(self, a: Call) -> list[Call]:
        """The calls that take what `a` made."""
        return [b for b in self.calls if a.made is not None and b.given == a.made and b is not a]


class _Watch(TorchFunctionMode):
    """Counts the functions that take a tensor and make another; keeps all alive, so that no number comes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.uses: dict[int, int] = {}
        self.alive: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if tensors(made):
            for x in tensors((args, kwargs or {})):
                self.uses[id(x)] = self.uses.get(id(x), 0) + 1
                self.alive.append(x)
        return made


def executed(model: nn.Module, example: Any, whole: tuple[type[nn.Module], ...] = ()) -> Execution:
    """Run `model` on `example` in evaluation mode and say what happened.

    Layers are modules without children, and those of the types `whole`.
    """
    calls: list[Call] = []
    watch = _Watch()

    def look(name: str, module: nn.Module, given: Any, made: Any) -> None:
        inside, outside = tensors(given), tensors(made)
        watch.alive.extend([*inside, *outside])
        shape = tuple(outside[0].shape) if outside else ()
        calls.append(Call(name, id(inside[0]) if inside else None, id(outside[0]) if outside else None, shape))

    layers = [(name, m) for name, m in model.named_modules() if not any(m.children()) or isinstance(m, whole)]
    hooks = [m.register_forward_hook(partial(look, name)) for name, m in layers]
    try:
        with evaluating(model), torch.no_grad(), watch:
            made = run(model, example)
    finally:
        for hook in hooks:
            hook.remove()
    return Execution(calls, watch.uses, {id(x) for x in tensors(made)})


def run(model: nn.Module, example: Any) -> Any:
    """The model called with an example: a tensor, a tuple of its arguments, or a dict of those with names."""
    try:
        if isinstance(example, dict):
            return model(**example)
        return model(*example) if isinstance(example, tuple | list) else model(example)
    except Exception as error:
        raise RavineError(
            f"the model cannot be called with the example ({type(error).__name__}: {str(error).splitlines()[0]}): give "
            "a tensor, a tuple of its arguments, or a dict of those with names"
        ) from error
