"""From a rule's pure `summarize` to one compiled kernel that sums over the weights in a single pass over memory.

It is traced with the links before it, as a step is. Sums over weights are taken in float64, numbers and what is done to
a sum afterwards on floats. A kernel sums over several tensors as if they were one, so each result must be a number,
which counts once for every tensor, or linear in sums over single weights; everything else is left to the loop.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from ravine.core.rule import Rule
from ravine.engine import rounding
from ravine.engine.graphs import Copies, compiled, crossing, numeric_nodes, numeric_part, results, tensor_part, traced
from ravine.engine.kernel import ONE_AT_A_TIME, Kernel, Kind, bound
from ravine.engine.numbers import Numbers
from ravine.engine.rounding import widened

aten = torch.ops.aten
Nodes = set[fx.Node]


class SumKernel:
    """What one link of a rule wants summed, over flat tensors.

    reads: those of weights, gradient and flat state, in this order, that it looks at.
    """

    def __init__(self, kind: Kind, rule: Rule, link: int) -> None:
        self.kind = kind
        module, self._names = _trace(kind, rule, link)
        numeric = numeric_nodes(module)
        sums, after = _parted(module, numeric)
        tensors = {node for node in module.graph.nodes if node.op != "output"} - numeric - after
        crossed = crossing(module, numeric, tensors)
        self._counted = [node in numeric for node in results(module)]
        self._before = Numbers(numeric_part(module, numeric, crossed))
        self._after = Numbers(numeric_part(module, numeric | after, results(module), sums))

        def end(graph: fx.Graph, copied: Copies) -> list[fx.Node]:
            for node in sums:
                copied[node].kwargs = {"dtype": torch.float64}
            return [copied[node] for node in sums]

        part = tensor_part(module, numeric | after, crossed, kind.computed_in, end)
        self.reads = _without_unread(part)
        self._tensors: Callable[[list[Tensor]], Any] = compiled(part) if sums else lambda _: []
        Kernel.built += 1

    def vector(self, numbers: Sequence[float]) -> Tensor:
        """What the kernel needs of numbers."""
        return self.kind.vector(self._before(numbers))

    def __call__(self, lines: Sequence[Tensor], vector: Tensor) -> Sequence[Tensor]:
        """The sums over the weights: 0-d float64 tensors. `lines` are what the kernel reads."""
        head = len([i for i in self.reads if i < 2])  # the numbers come before the state
        found: Sequence[Tensor] = self._tensors([*lines[:head], vector, *lines[head:]])
        return found

    def totals(self, numbers: Sequence[float], sums: Sequence[float], count: int) -> dict[str, float]:
        """What the link wants, for `count` tensors over whose weights the sums were taken."""
        found = zip(self._names, self._after([*numbers, *sums]), self._counted, strict=True)
        return {name: value * count if counted else value for name, value, counted in found}


_kernels: dict[tuple[Kind, int], SumKernel | None] = {}


def sum_kernel(kind: Kind, rule: Rule, link: int) -> SumKernel | None:
    """The kernel for the sums of a link, compiled at its first use in this process; None where there can be none."""
    kind = replace(kind, rounding="nearest")
    with ONE_AT_A_TIME:
        if (kind, link) not in _kernels:
            try:
                _kernels[kind, link] = SumKernel(kind, rule, link)
            except Exception:  # the loop sums as well; where nothing compiles, the kernel of the step says so
                _kernels[kind, link] = None
        return _kernels[kind, link]


class NotAdditive(Exception):
    """The sums over two tensors cannot be had from those over both as one."""


def _trace(kind: Kind, rule: Rule, link: int) -> tuple[fx.GraphModule, list[str]]:
    """What is summed as a graph, and its names: placeholders p, g, the numbers and the state."""
    names: list[str] = []

    def summed(p: Tensor, g: Tensor, numbers: list[Tensor], flat: list[Tensor]) -> list[Tensor]:
        own, sign, t, kept, lr, totals = bound(kind, rule, numbers, flat)
        kept.pop(rounding.COMPENSATION, None)
        found = own.summed(link, widened(g) * sign, widened(p), t, kept, lr, totals, refresh=False)
        names[:] = found
        return list(found.values())

    return traced(summed, *kind.examples(rule)), names


def _parted(module: fx.GraphModule, numeric: Nodes) -> tuple[list[fx.Node], Nodes]:
    """The sums over weights, and what is made of them afterwards; raises where a result is not additive."""
    sums: list[fx.Node] = []
    after: Nodes = set()
    size: Any = next(node.meta["val"].shape for node in module.graph.nodes if node.op == "placeholder")
    for node in module.graph.nodes:
        if node in numeric or node.op != "call_function":
            continue
        value, reduced = node.meta["val"], {*sums, *after} & set(node.all_input_nodes)
        if node.target is aten.sum.default and not reduced:
            sums.append(node)
        elif isinstance(value, Tensor) and not value.ndim and _is_linear(node, reduced):
            after.add(node)
        elif reduced or not isinstance(value, Tensor) or value.shape != size:
            raise NotAdditive(str(node))
    for node in results(module):
        if node not in numeric and node not in after and node not in sums:
            raise NotAdditive(str(node))
    return sums, after


def _is_linear(node: fx.Node, reduced: Nodes) -> bool:
    """Whether a number is linear in those of its arguments that are sums."""
    of_sums = [x in reduced for x in node.args]
    if node.target in (aten.add.Tensor, aten.sub.Tensor):
        return all(of_sums)
    if node.target is aten.mul.Tensor:
        return sum(of_sums) == 1
    if node.target is aten._to_copy.default:
        return bool(node.meta["val"].is_floating_point())
    return node.target in (aten.div.Tensor, aten.neg.default) and of_sums[0] and not any(of_sums[1:])


def _without_unread(part: fx.GraphModule) -> tuple[int, ...]:
    """Take those of weights, gradient and state out of which nothing is made; the places of the others."""
    p, g, _, *flat = (node for node in part.graph.nodes if node.op == "placeholder")
    lines = [p, g, *flat]
    reads = tuple(i for i, node in enumerate(lines) if node.users)
    for node in [node for node in lines if not node.users]:
        part.graph.erase_node(node)
    part.recompile()
    return reads
