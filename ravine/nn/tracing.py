"""What happens inside a model while it runs: what its modules take and give, in which order, and what it rests on."""

import copy
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.batches import Batch, batches
from ravine.core.errors import RavineError
from ravine.core.seeds import GlobalStream, derive, generator
from ravine.core.task import Task
from ravine.nn.layers import Layer, grouped, named, units, weighs


class _Enough(BaseException):
    """All that was asked for has been seen."""


def features(
    model: nn.Module, names: Iterable[str], call: Callable[[], Any], side: str = "output", stop: bool = True
) -> dict[str, Tensor]:
    """What the modules of these names give ("output") or are given ("input") while `call()` runs the model.

    Of several values the first tensor counts, and of several calls the first. With `stop` the model is left as soon
    as all are there, so that what comes after costs nothing. Raises `RavineError` for a module that the model does not
    run, or that deals in no tensors.
    """
    wanted = {name: named(model, name) if name else model for name in names}
    found: dict[str, Tensor] = {}

    def see(name: str, value: Any) -> None:
        if name not in found:
            found[name] = first_tensor(value, f"the {side} of '{name}'")
        if stop and len(found) == len(wanted):
            raise _Enough

    with ExitStack() as stack:
        for name, module in wanted.items():
            if side == "input":
                hook = module.register_forward_pre_hook(
                    lambda _, args, kwargs, name=name: see(name, (args, kwargs)), with_kwargs=True
                )
            else:
                hook = module.register_forward_hook(lambda _, args, value, name=name: see(name, value))
            stack.callback(hook.remove)
        with suppress(_Enough):
            call()
    if missing := [name for name in wanted if name not in found]:
        raise RavineError(f"the model has a module '{missing[0]}' but does not run it: name one that takes part")
    return found


def first_tensor(value: Any, what: str = "this") -> Tensor:
    """The first tensor in nested tuples, lists and dicts: of an LSTM's output, all hidden states."""
    queue = [value]
    while queue:
        value = queue.pop(0)
        if isinstance(value, Tensor):
            return value
        if isinstance(value, dict):
            queue = [*value.values(), *queue]
        elif isinstance(value, tuple | list):
            queue = [*value, *queue]
    raise RavineError(f"{what} holds no tensor")


def executed(model: nn.Module, call: Callable[[], Any]) -> list[Layer]:
    """The layers of `model` in the order in which `call()` runs them; those it does not run are left out."""
    order: dict[str, nn.Module] = {}

    def note(name: str, module: nn.Module) -> None:
        order.setdefault(name, module)

    with ExitStack() as stack:
        for name, module in units(model):
            hook = module.register_forward_pre_hook(lambda m, _, name=name: note(name, m))
            stack.callback(hook.remove)
        call()
    return grouped(order.items())


def in_running_order(model: nn.Module, call: Callable[[nn.Module], Any]) -> list[Layer]:
    """The layers of `model` in the order in which `call(model)` runs them, on a copy in evaluation mode.

    A module whose weights are used without calling it, such as a table of positions, has its place before the first
    layer that is given what was made of them.
    """
    probe = copy.deepcopy(model).eval()
    for p in probe.parameters():
        p.requires_grad_(p.is_floating_point() or p.is_complex())
    with torch.enable_grad(), GlobalStream(derive(0, "order")):
        found = executed(probe, lambda: call(probe))
        seen = {name for layer in found for name in layer.names}
        aside = [name for name, unit in units(probe) if weighs(unit) and name not in seen]
        if not aside:
            return found
        firsts = [layer.names[0] for layer in found]
        given = features(probe, firsts, lambda: call(probe), "input", stop=False)
        fed = [reached(probe, given[name]) if given[name].is_floating_point() else set() for name in firsts]
    for name in reversed(aside):
        own = {f"{name}.{inner}" for inner, _ in probe.get_submodule(name).named_parameters()}
        place = next((i for i, parameters in enumerate(fed) if own & parameters), None)
        if place is not None:
            found.insert(place, Layer((name,)))
            fed.insert(place, set())
    return found


def reached(model: nn.Module, value: Tensor) -> set[str]:
    """The names of the trainable parameters that `value` was computed from."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not value.requires_grad or not trainable:
        return set()
    total = value.float().sum()
    found = torch.autograd.grad(total, list(trainable.values()), retain_graph=True, allow_unused=True)
    return {name for name, grad in zip(trainable, found, strict=True) if grad is not None}


def example_batch(task: Task) -> Batch:
    """A batch of the task, always the same, to see which shapes a model makes of it."""
    with GlobalStream(derive(0, "example")):
        return next(batches(task.train, task.batch_size, generator(0, "example")))


def run_on(task: Task, batch: Batch) -> Callable[[nn.Module], Any]:
    """The function that runs a model on `batch` as the task does."""
    run = task.forward or task.loss
    return lambda model: run(model, batch)
