"""The longest chain in a model, found by running it: modules each fed by the one before and by nothing else."""

import copy
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.errors import RavineError
from ravine.nn.layers import Layer, grouped, is_chain, weighs


@dataclass
class Call:
    """A module called once: with what, and what came of it."""

    name: str
    module: nn.Module
    given: Any
    inside: list["Call"] = field(default_factory=list)
    made: Any = None
    feeding: str = ""


@dataclass(frozen=True)
class Chain:
    """Calls in a row, their layers, whether the last makes the model's output, and why the chain is not longer."""

    calls: tuple[Call, ...]
    layers: tuple[Layer, ...]
    to_the_end: bool
    breaks: tuple[str, ...]
    times: Counter[str]

    def call(self, name: str) -> Call:
        """The call of that module."""
        return next(call for call in self.calls if call.name == name)


def arguments(model: nn.Module, example: Any) -> tuple[Any, ...]:
    """What to call the model with: the example, or zeros where the first layer says how wide they have to be."""
    if example is not None:
        return example if isinstance(example, tuple) else (example,)
    for module in model.modules() if is_chain(model) else ():
        if isinstance(module, nn.Linear):
            return (torch.zeros(2, module.in_features, dtype=module.weight.dtype, device=module.weight.device),)
        if isinstance(module, nn.Embedding):
            return (torch.zeros(2, 3, dtype=torch.long, device=module.weight.device),)
        if weighs(module) and not module._modules:
            break
    raise RavineError(
        f"the shapes inside the {type(model).__name__} are found by running it: give example=, a batch of its inputs "
        "(a tuple for several arguments)"
    )


def longest_chain(model: nn.Module, example: tuple[Any, ...], within: str | None = None) -> Chain:
    """The chain with the most layers in what `model(*example)` runs, the outermost of equals.

    within: only modules below this name count.
    """
    probe = copy.deepcopy(model).eval()
    root = _trace(probe, example)
    best: list[Call] = []
    breaks: list[str] = []
    for row in _rows(root):
        among = [call for call in row if within is None or call.name.startswith(f"{within}.")]
        runs, gaps = _runs(among)
        breaks += gaps
        best = max([best, *runs], key=_weight)  # the first of equals is the outermost
    names = dict(model.named_modules())
    calls = tuple(Call(c.name, names[c.name], c.given, [], c.made) for c in best)
    layers = tuple(grouped((call.name, call.module) for call in calls))
    times = Counter(call.name for row in _rows(root) for call in row)
    return Chain(calls, layers, bool(best) and best[-1].made is root.made, tuple(breaks), times)


def _weight(run: list[Call]) -> int:
    return sum(weighs(call.module) for call in run)


def _trace(model: nn.Module, example: tuple[Any, ...]) -> Call:
    """Every call of a module while the model runs, nested as they happen."""
    root = Call("", model, example)
    stack = [root]

    def enter(name: str, module: nn.Module, given: Any) -> None:
        call = Call(name, module, given)
        stack[-1].inside.append(call)
        stack.append(call)

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if name:
                hook = module.register_forward_pre_hook(
                    lambda m, args, kwargs, name=name: enter(name, m, (*args, *kwargs.values())), with_kwargs=True
                )
                hooks.callback(hook.remove)
                hooks.callback(module.register_forward_hook(lambda m, args, out: _leave(stack, out)).remove)
        with torch.enable_grad():
            root.made = model(*example)
    return root


def _leave(stack: list[Call], out: Any) -> None:
    stack.pop().made = out


def _rows(call: Call) -> list[list[Call]]:
    """What each module calls, outermost first; chains are opened into what they call."""
    row: list[Call] = []
    for inner in call.inside:
        row += _opened(inner)
    return [row] + [rows for inner in row for rows in _rows(inner) if inner.inside]


def _opened(call: Call) -> list[Call]:
    if is_chain(call.module) and call.inside:
        return [deeper for inner in call.inside for deeper in _opened(inner)]
    return [call]


def _runs(row: list[Call]) -> tuple[list[list[Call]], list[str]]:
    """The calls as runs that are chains, and what stands between one run and the next.

    What is fed whole numbers begins none: they cannot be added to anything.
    """
    runs: list[list[Call]] = []
    gaps: list[str] = []
    for call in row:
        single = isinstance(call.made, Tensor) and len(call.given) == 1 and isinstance(call.given[0], Tensor)
        if not single or not call.given[0].is_floating_point():
            what = "is fed whole numbers" if single else "takes or gives something beside one tensor"
            gaps.append(f"'{call.name}' ({type(call.module).__name__}) {what}")
            runs.append([])
        elif runs and runs[-1] and runs[-1][-1].made is call.given[0]:
            runs[-1].append(call)
        else:
            if runs and runs[-1]:
                gaps.append(f"between '{runs[-1][-1].name}' and '{call.name}' {_what(call.given[0])}")
            runs.append([call])
    return [run for run in runs if run], gaps


def _what(value: Tensor) -> str:
    made_by = type(value.grad_fn).__name__.removesuffix("Backward0").removesuffix("Backward1")
    if value.grad_fn is None:
        return "something else feeds in"
    return f"'{made_by.lower()}' happens outside any module"
