"""From a rule's pure `update` to one compiled kernel that makes a step in a single pass over memory.

The rule is traced once, on flat tensors of unknown size, with every number as a 0-d float64 tensor. What depends on
numbers only (bias corrections, `beta ** t`) is split off and computed eagerly in float64, once a step; the rest, which
is all arithmetic on tensors, is compiled by TorchInductor and is handed those results as one vector. So lr, step, betas
and sizes change without a new kernel, and no power is taken inside the loop over elements.
"""

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._guards import TracingContext, tracing
from torch.fx.experimental.proxy_tensor import make_fx

from ravine.core.rule import Rule, Totals
from ravine.engine import rounding
from ravine.engine.numbers import Numbers
from ravine.engine.rounding import is_low, widened

_EXAMPLE = 1 << 22  # elements to trace with: inductor decides by the example whether a kernel gets threads
# Rounding to bf16 and back is what Kahan's summation looks at: it must happen, where inductor would leave it out.
_EXACT = {"emulate_precision_casts": True}
# One kernel is compiled, not a network: headers made ready for later (10 s), a trial build for each kind of vector
# instruction (1 s) and a pool of processes take longer than they save.
_HASTE = _EXACT | {"cpp_cache_precompile_headers": False, "cpp.vec_isa_ok": True, "compile_threads": 1}
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


class Kernel:
    """One step of a rule on flat tensors: weights and state are written in place, gradients only read."""

    built = 0  # how many were compiled in this process

    def __init__(self, kind: Kind, rule: Rule) -> None:
        self.kind = kind
        traced = _trace(kind, rule)
        numeric = _numeric_nodes(traced)
        elsewhere = {node for node in traced.graph.nodes if node not in numeric and node.op != "output"}
        crossing = [node for node in traced.graph.nodes if node in numeric and elsewhere & set(node.users)]
        self._crossing = len(crossing)
        self._numbers = _numeric_part(traced, numeric, crossing, kind)
        self._tensors = _compiled(_tensor_part(traced, numeric, crossing, kind))
        Kernel.built += 1

    def numbers(
        self, rule: Rule, t: int, lr: float, maximize: bool, single: Mapping[str, Tensor], totals: Totals
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What a step needs of numbers, as a vector, and the new state of those that are one number."""
        given = [float(t), lr, -1.0 if maximize else 1.0, *rule.numbers().values()]
        given += [single[name].item() for name in self.kind.single]
        given += [totals[i][name].item() for i, name in self.kind.totals]
        found = self._numbers(given)
        vector = torch.tensor(found[: self._crossing] or [0.0], dtype=self.kind.computed_in, device=self.kind.device)
        news = zip(self.kind.single, found[self._crossing :], strict=True)
        return vector, {name: torch.full_like(single[name], value) for name, value in news}

    def __call__(self, p: Tensor, g: Tensor, vector: Tensor, rest: Sequence[Tensor]) -> None:
        """`rest` is the flat state in the kind's order, and the noise where it rounds by chance."""
        self._tensors([p, g, vector, *rest])


_kernels: dict[Kind, Kernel] = {}
_one_at_a_time = threading.Lock()


def kernel(kind: Kind, rule: Rule) -> Kernel:
    """The kernel of that kind, compiled at its first use in this process and shared by all optimizers."""
    with _one_at_a_time:
        if kind not in _kernels:
            _kernels[kind] = Kernel(kind, rule)
        return _kernels[kind]


def _trace(kind: Kind, rule: Rule) -> fx.GraphModule:
    """A whole step as a graph: placeholders p, g, the numbers, the state and noise; outputs the new p and the state."""
    names = list(rule.numbers())

    def step(p: Tensor, g: Tensor, numbers: list[Tensor], flat: list[Tensor], noise: list[Tensor]) -> list[Tensor]:
        t, lr, sign, *values = numbers
        single = values[len(names) :]
        kept = dict(zip((name for name, _ in kind.flat), flat, strict=True))
        lost = kept.pop(rounding.COMPENSATION, None)
        kept |= dict(zip(kind.single, single, strict=False))
        totals: dict[int, dict[str, Tensor]] = {}
        for (i, name), value in zip(kind.totals, single[len(kind.single) :], strict=True):
            totals.setdefault(i, {})[name] = value
        bound = rule.bound(dict(zip(names, values, strict=False)))
        u, scale, new = bound.move(widened(g) * sign, widened(p), t, kept, lr, totals, refresh=False)
        if lost is not None:
            moved, new[rounding.COMPENSATION] = rounding.compensated(p, u, scale, lost)
        elif noise:
            moved = rounding.by_chance(p, u, scale, noise[0])
        else:
            moved = (rounding.to_nearest if is_low(kind.weight) else rounding.stepped)(p, u, scale)
        new = kept | new
        return [moved, *(new[name] for name, _ in kind.flat), *(new[name] for name in kind.single)]

    def flat(dtype: torch.dtype) -> Tensor:
        return torch.empty(_EXAMPLE, dtype=dtype, device=kind.device)

    count = len(_STEP_NUMBERS) + len(names) + len(kind.single) + len(kind.totals)
    numbers = [torch.full((), 0.5, dtype=torch.float64) for _ in range(count)]
    noise = [flat(torch.int32)] if is_low(kind.weight) and kind.rounding == "stochastic" else []
    states = [flat(dtype) for _, dtype in kind.flat]
    trace = make_fx(step, tracing_mode="symbolic", _allow_non_fake_inputs=True)
    with torch.no_grad():
        traced = trace(flat(kind.weight), flat(kind.gradient), numbers, states, noise)
    traced.graph.eliminate_dead_code()
    return traced


def _numeric_nodes(traced: fx.GraphModule) -> set[fx.Node]:
    """The nodes that are made of numbers alone."""
    found: set[fx.Node] = set()
    for node in traced.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and value.ndim == 0 and found.issuperset(node.all_input_nodes):
            found.add(node)
    return found


def _results(traced: fx.GraphModule) -> list[fx.Node]:
    """What the step returns."""
    (last,) = (node for node in traced.graph.nodes if node.op == "output")
    return list(last.args[0])


def _numeric_part(traced: fx.GraphModule, numeric: set[fx.Node], crossing: list[fx.Node], kind: Kind) -> Numbers:
    """From the numbers to those that the tensors need, and to the new state of those that are one number."""
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in traced.graph.nodes:
        if node in numeric:
            copied[node] = graph.node_copy(node, copied.__getitem__)
    singles = _results(traced)[1 + len(kind.flat) :]
    graph.output([copied[node] for node in (*crossing, *singles)])
    return Numbers(graph)


def _tensor_part(traced: fx.GraphModule, numeric: set[fx.Node], crossing: list[fx.Node], kind: Kind) -> fx.GraphModule:
    """From p, g, the vector of numbers, state and noise to the same, written in place."""
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder" and node not in numeric]
    for node in inputs[:2]:
        copied[node] = graph.node_copy(node)
    vector = graph.placeholder("vector")
    with inputs[0].meta["val"].fake_mode:
        vector.meta["val"] = torch.empty(max(1, len(crossing)), dtype=kind.computed_in, device=kind.device)
    for node in inputs[2:]:
        copied[node] = graph.node_copy(node)
    for i, node in enumerate(crossing):
        copied[node] = graph.call_function(torch.ops.aten.select.int, (vector, 0, i))
        if node.meta["val"].dtype is torch.bool:
            copied[node] = graph.call_function(torch.ops.aten.ne.Scalar, (copied[node], 0))
    for node in traced.graph.nodes:
        if node.op == "call_function" and node not in numeric:
            copied[node] = graph.node_copy(node, copied.__getitem__)
    written = [inputs[0], *inputs[2 : 2 + len(kind.flat)]]
    for place, value in zip(written, _results(traced), strict=False):
        if place is value:  # state that the rule only reads
            continue
        graph.call_function(torch.ops.aten.copy_.default, (copied[place], copied[value]))
    graph.output([])
    return fx.GraphModule({}, graph)


def _compiled(module: fx.GraphModule) -> Callable[[list[Tensor]], Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own, at itself
        from torch import _inductor  # late: it takes a second
        from torch._inductor.compile_fx import compile_fx_inner
        from torch._inductor.decomposition import select_decomp_table

    # Traced again with sizes of its own: those of before remember the numbers, which inductor would take for inputs.
    inputs = [node.meta["val"] for node in module.graph.nodes if node.op == "placeholder"]
    real = [torch.empty([int(size) for size in x.shape], dtype=x.dtype, device=x.device) for x in inputs]

    def compiled(options: dict[str, Any]) -> Callable[[list[Tensor]], Any]:
        with torch.no_grad(), _inductor.config.patch(options):
            again = make_fx(module, select_decomp_table(), tracing_mode="symbolic")(*real)
            examples = [node.meta["val"] for node in again.graph.nodes if node.op == "placeholder"]
            with tracing(TracingContext(examples[0].fake_mode)):
                made: Callable[[list[Tensor]], Any] = compile_fx_inner(again, examples)
        # What is inside takes half as long to call as the whole, which looks for profilers and caches.
        return getattr(made, "current_callable", None) or made

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own, at itself
        try:
            return compiled(_HASTE)
        except Exception:  # perhaps a compiler that does not know this processor's vectors: let inductor try each
            return compiled(_EXACT)
