"""From a rule's pure `update` to one compiled kernel that makes a step in a single pass over memory.

The rule is traced once, on flat tensors of unknown size, with every number as a 0-d float64 tensor. What depends on
numbers only (bias corrections, `beta ** t`) is split off and computed eagerly in float64, once a step; the rest, which
is all arithmetic on tensors, is compiled by TorchInductor and is handed those results as one vector. So lr, step, betas
and sizes change without a new kernel, and no power is taken inside the loop over elements.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, fx

from ravine.core.rule import Rule, Totals
from ravine.engine import rounding
from ravine.engine.graphs import (
    EXAMPLE,
    Copies,
    compiled,
    crossing,
    numeric_nodes,
    numeric_part,
    results,
    tensor_part,
    traced,
)
from ravine.engine.numbers import Numbers
from ravine.engine.rounding import is_low, widened

_STEP_NUMBERS = ("t", "lr", "sign")


@dataclass(frozen=True)
class Kind:
    """What a kernel is compiled for; everything else may change from call to call.

    flat: the state that has an element per weight, with its type; single: the state that is one number;
    totals: what is summed over all parameters, by link and name.
    """

    links: tuple[type[Rule], ...]  # a class that was defined anew is another one
    structure: str
    weight: torch.dtype
    gradient: torch.dtype
    device: torch.device
    flat: tuple[tuple[str, torch.dtype], ...]
    single: tuple[str, ...]
    totals: tuple[tuple[int, str], ...]
    rounding: str

    @property
    def computed_in(self) -> torch.dtype:
        return torch.float32 if is_low(self.weight) else self.weight

    def numbers(
        self, rule: Rule, t: int, lr: float, maximize: bool, single: Mapping[str, Tensor], totals: Totals
    ) -> list[float]:
        """All numbers of a step, in the order in which kernels are traced."""
        given = [float(t), lr, -1.0 if maximize else 1.0, *rule.numbers().values()]
        given += [single[name].item() for name in self.single]
        return given + [totals[i][name].item() for i, name in self.totals]

    def vector(self, found: Sequence[float]) -> Tensor:
        """Numbers as the tensors of a kernel take them."""
        return torch.tensor(found or [0.0], dtype=self.computed_in, device=self.device)

    def examples(self, rule: Rule) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Weights, gradient, numbers and flat state to trace with."""
        count = len(_STEP_NUMBERS) + len(rule.numbers()) + len(self.single) + len(self.totals)
        numbers = [torch.full((), 0.5, dtype=torch.float64) for _ in range(count)]
        return self.line(self.weight), self.line(self.gradient), numbers, [self.line(dtype) for _, dtype in self.flat]

    def line(self, dtype: torch.dtype) -> Tensor:
        return torch.empty(EXAMPLE, dtype=dtype, device=self.device)


class Bound(NamedTuple):
    """What `Rule.move` and `Rule.summed` take beside gradient and weights, with numbers as 0-d tensors."""

    rule: Rule
    sign: Tensor
    t: Tensor
    kept: dict[str, Tensor]
    lr: Tensor
    totals: dict[int, dict[str, Tensor]]


def bound(kind: Kind, rule: Rule, numbers: Sequence[Tensor], flat: Sequence[Tensor]) -> Bound:
    """The numbers and the state, each in its place."""
    t, lr, sign, *values = numbers
    names = list(rule.numbers())
    single = values[len(names) :]
    kept = dict(zip((name for name, _ in kind.flat), flat, strict=True))
    kept |= dict(zip(kind.single, single, strict=False))
    totals: dict[int, dict[str, Tensor]] = {}
    for (i, name), value in zip(kind.totals, single[len(kind.single) :], strict=True):
        totals.setdefault(i, {})[name] = value
    return Bound(rule.bound(dict(zip(names, values, strict=False))), sign, t, kept, lr, totals)


class Kernel:
    """One step of a rule on flat tensors: weights and state are written in place, gradients only read."""

    built = 0  # how many were compiled in this process, those of sums too

    def __init__(self, kind: Kind, rule: Rule) -> None:
        self.kind = kind
        step = _trace(kind, rule)
        numeric = numeric_nodes(step)
        elsewhere = {node for node in step.graph.nodes if node not in numeric and node.op != "output"}
        crossed = crossing(step, numeric, elsewhere)
        self._crossing = len(crossed)
        self._numbers = Numbers(numeric_part(step, numeric, [*crossed, *results(step)[1 + len(kind.flat) :]]))
        self._tensors = compiled(_tensor_part(step, numeric, crossed, kind))
        Kernel.built += 1

    def numbers(
        self, rule: Rule, t: int, lr: float, maximize: bool, single: Mapping[str, Tensor], totals: Totals
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What a step needs of numbers, as a vector, and the new state of those that are one number."""
        found = self._numbers(self.kind.numbers(rule, t, lr, maximize, single, totals))
        news = zip(self.kind.single, found[self._crossing :], strict=True)
        return self.kind.vector(found[: self._crossing]), {
            name: torch.full_like(single[name], value) for name, value in news
        }

    def __call__(self, p: Tensor, g: Tensor, vector: Tensor, rest: Sequence[Tensor]) -> None:
        """`rest` is the flat state in the kind's order, and the noise where it rounds by chance."""
        self._tensors([p, g, vector, *rest])


_kernels: dict[Kind, Kernel] = {}
ONE_AT_A_TIME = threading.Lock()  # inductor's options are the process's


def kernel(kind: Kind, rule: Rule) -> Kernel:
    """The kernel of that kind, compiled at its first use in this process and shared by all optimizers."""
    with ONE_AT_A_TIME:
        if kind not in _kernels:
            _kernels[kind] = Kernel(kind, rule)
        return _kernels[kind]


def _trace(kind: Kind, rule: Rule) -> fx.GraphModule:
    """A whole step as a graph: placeholders p, g, the numbers, the state and noise; outputs the new p and the state."""

    def step(p: Tensor, g: Tensor, numbers: list[Tensor], flat: list[Tensor], noise: list[Tensor]) -> list[Tensor]:
        own, sign, t, kept, lr, totals = bound(kind, rule, numbers, flat)
        lost = kept.pop(rounding.COMPENSATION, None)
        u, scale, new = own.move(widened(g) * sign, widened(p), t, kept, lr, totals, refresh=False)
        if lost is not None:
            moved, new[rounding.COMPENSATION] = rounding.compensated(p, u, scale, lost)
        elif noise:
            moved = rounding.by_chance(p, u, scale, noise[0])
        else:
            moved = (rounding.to_nearest if is_low(kind.weight) else rounding.stepped)(p, u, scale)
        new = kept | new
        return [moved, *(new[name] for name, _ in kind.flat), *(new[name] for name in kind.single)]

    noise = [kind.line(torch.int32)] if is_low(kind.weight) and kind.rounding == "stochastic" else []
    return traced(step, *kind.examples(rule), noise)


def _tensor_part(step: fx.GraphModule, numeric: set[fx.Node], crossed: list[fx.Node], kind: Kind) -> fx.GraphModule:
    """From p, g, the vector of numbers, state and noise to the same, written in place."""
    inputs = [node for node in step.graph.nodes if node.op == "placeholder" and node not in numeric]
    written = [inputs[0], *inputs[2 : 2 + len(kind.flat)]]

    def end(graph: fx.Graph, copied: Copies) -> list[fx.Node]:
        for place, value in zip(written, results(step), strict=False):
            if place is not value:  # else it is state that the rule only reads
                graph.call_function(torch.ops.aten.copy_.default, (copied[place], copied[value]))
        return []

    return tensor_part(step, numeric, crossed, kind.computed_in, end)
