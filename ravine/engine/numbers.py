"""The part of a step that is made of numbers alone: a graph of torch operations on 0-d tensors, run on plain floats.

torch takes two microseconds to multiply two numbers, NumPy's float64 a tenth of it, with the same rounding and the same
infinities. An operation that is not in the table is left to torch.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

aten = torch.ops.aten

_TYPES: dict[Any, type] = {
    None: np.float64, torch.float64: np.float64, torch.float32: np.float32, torch.bool: np.bool_,
}  # fmt: skip
_PLAIN: dict[Any, Callable[..., Any]] = {
    aten.add.Tensor: operator.add,
    aten.sub.Tensor: operator.sub,
    aten.rsub.Scalar: lambda a, b: b - a,
    aten.mul.Tensor: operator.mul,
    aten.div.Tensor: operator.truediv,
    aten.neg.default: operator.neg,
    aten.reciprocal.default: lambda a: 1.0 / a,
    aten.sqrt.default: np.sqrt,
    aten.pow.Tensor_Tensor: operator.pow,
    aten.pow.Tensor_Scalar: operator.pow,
    aten.pow.Scalar: lambda a, b: np.float64(a) ** b,
    aten.gt.Scalar: operator.gt,
    aten.gt.Tensor: operator.gt,
    aten.lt.Scalar: operator.lt,
    aten.lt.Tensor: operator.lt,
    aten.where.self: lambda condition, a, b: a if condition else b,
    aten.scalar_tensor.default: lambda value, **_: np.float64(value),
    aten.clamp.default: lambda a, low=None, high=None: np.clip(a, low, high),
    aten.abs.default: np.abs,
    aten.log.default: np.log,
    aten.exp.default: np.exp,
    aten.maximum.default: np.maximum,
    aten.minimum.default: np.minimum,
    aten.remainder.Scalar: np.remainder,
    aten.remainder.Tensor: np.remainder,
    aten.floor_divide.default: np.floor_divide,
    aten.bitwise_and.Tensor: np.logical_and,  # where both are conditions
    aten._to_copy.default: lambda a, dtype=None, **_: _TYPES[dtype](a),
}


class Numbers:
    """A graph of numbers as a function from floats to floats; `is_plain`: it runs without torch."""

    def __init__(self, graph: fx.Graph) -> None:
        self._module = fx.GraphModule({}, graph)
        place: dict[fx.Node, int] = {}
        self._steps: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self.is_plain = True
        for node in graph.nodes:
            if node.op == "output":
                self._last = [place[x] for x in node.args[0]]
                continue
            place[node] = len(place)
            if node.op == "placeholder":
                self._inputs = len(place)
                continue
            self.is_plain &= _is_plain(node)
            if self.is_plain:
                args = tuple(_At(place[x]) if isinstance(x, fx.Node) else x for x in node.args)
                self._steps.append((_PLAIN[node.target], args, dict(node.kwargs)))

    def __call__(self, given: Sequence[float]) -> list[float]:
        assert len(given) == self._inputs
        if not self.is_plain:
            found = self._module(*torch.tensor(given, dtype=torch.float64).unbind())
            return [float(x) for x in found]
        values: list[Any] = [np.float64(x) for x in given]
        with np.errstate(all="ignore"):
            for function, args, options in self._steps:
                values.append(function(*[values[x] if type(x) is _At else x for x in args], **options))
        return [float(values[i]) for i in self._last]


def _is_plain(node: fx.Node) -> bool:
    if node.target not in _PLAIN or node.kwargs.keys() - {"dtype", "layout", "device"}:
        return False
    if node.target is aten.bitwise_and.Tensor:
        return all(isinstance(x, fx.Node) and x.meta["val"].dtype is torch.bool for x in node.args)
    return node.target is not aten._to_copy.default or node.kwargs.get("dtype") in _TYPES


class _At(int):
    """Where among the values an argument stands; a plain number stands for itself."""
