"""Graphs of a rule's arithmetic: what is made of numbers alone apart from what is made of tensors, and compiled."""

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._guards import TracingContext, tracing
from torch.fx.experimental.proxy_tensor import make_fx

EXAMPLE = 1 << 22  # elements to trace with: inductor decides by the example whether a kernel gets threads
# Rounding to bf16 and back is what Kahan's summation looks at: it must happen, where inductor would leave it out.
_EXACT = {"emulate_precision_casts": True}
# One kernel is compiled, not a network: headers made ready for later (10 s), a trial build for each kind of vector
# instruction (1 s) and a pool of processes take longer than they save.
_HASTE = _EXACT | {"cpp_cache_precompile_headers": False, "cpp.vec_isa_ok": True, "compile_threads": 1}

Copies = dict[fx.Node, fx.Node]
End = Callable[[fx.Graph, Copies], Sequence[fx.Node]]
"""From a graph and the copies in it to what it returns; it may write in place before."""


def traced(function: Callable[..., Any], *arguments: Any) -> fx.GraphModule:
    """The function as a graph of torch operations, for any size of the tensors."""
    trace = make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True)
    with torch.no_grad():
        module = trace(*arguments)
    module.graph.eliminate_dead_code()
    return module


def results(module: fx.GraphModule) -> list[fx.Node]:
    """What the function returns."""
    (last,) = (node for node in module.graph.nodes if node.op == "output")
    return list(last.args[0])


def numeric_nodes(module: fx.GraphModule) -> set[fx.Node]:
    """The nodes that are made of numbers alone."""
    found: set[fx.Node] = set()
    for node in module.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and value.ndim == 0 and found.issuperset(node.all_input_nodes):
            found.add(node)
    return found


def crossing(module: fx.GraphModule, numeric: Collection[fx.Node], tensors: set[fx.Node]) -> list[fx.Node]:
    """The numbers that the nodes `tensors` take."""
    return [node for node in module.graph.nodes if node in numeric and tensors & set(node.users)]


def numeric_part(
    module: fx.GraphModule, numeric: Collection[fx.Node], wanted: Iterable[fx.Node], more: Sequence[fx.Node] = ()
) -> fx.Graph:
    """From the numbers, and `more` of them that the tensors made, to those that are wanted."""
    graph = fx.Graph()
    copied: Copies = {}
    for node in module.graph.nodes:
        if node in numeric and node.op == "placeholder":
            copied[node] = graph.node_copy(node)
    for node in more:
        copied[node] = graph.placeholder(node.name)
        copied[node].meta = dict(node.meta)
    for node in module.graph.nodes:
        if node in numeric and node not in copied:
            copied[node] = graph.node_copy(node, copied.__getitem__)
    graph.output([copied[node] for node in wanted])
    graph.eliminate_dead_code()
    return graph


def tensor_part(
    module: fx.GraphModule, numeric: Collection[fx.Node], crossed: Sequence[fx.Node], dtype: torch.dtype, end: End
) -> fx.GraphModule:
    """From the weights, the gradient, the vector of numbers that cross, and the rest, to what `end` makes of them."""
    graph = fx.Graph()
    copied: Copies = {}
    inputs = [node for node in module.graph.nodes if node.op == "placeholder" and node not in numeric]
    for node in inputs[:2]:
        copied[node] = graph.node_copy(node)
    vector = graph.placeholder("vector")
    with inputs[0].meta["val"].fake_mode:
        vector.meta["val"] = torch.empty(max(1, len(crossed)), dtype=dtype, device=inputs[0].meta["val"].device)
    for node in inputs[2:]:
        copied[node] = graph.node_copy(node)
    for i, node in enumerate(crossed):
        copied[node] = graph.call_function(torch.ops.aten.select.int, (vector, 0, i))
        if node.meta["val"].dtype is torch.bool:
            copied[node] = graph.call_function(torch.ops.aten.ne.Scalar, (copied[node], 0))
    for node in module.graph.nodes:
        if node.op == "call_function" and node not in numeric:
            copied[node] = graph.node_copy(node, copied.__getitem__)
    graph.output(list(end(graph, copied)))
    return fx.GraphModule({}, graph)


def compiled(module: fx.GraphModule) -> Callable[[list[Tensor]], Any]:
    """A kernel that takes what the graph takes, as one list."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own, at itself
        from torch import _inductor  # late: it takes a second
        from torch._inductor.compile_fx import compile_fx_inner
        from torch._inductor.decomposition import select_decomp_table

    # Traced again with sizes of its own: those of before remember the numbers, which inductor would take for inputs.
    inputs = [node.meta["val"] for node in module.graph.nodes if node.op == "placeholder"]
    real = [torch.empty([int(size) for size in x.shape], dtype=x.dtype, device=x.device) for x in inputs]

    def attempt(options: dict[str, Any]) -> Callable[[list[Tensor]], Any]:
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
            return attempt(_HASTE)
        except Exception:  # perhaps a compiler that does not know this processor's vectors: let inductor try each
            return attempt(_EXACT)
