"""The signal through time in recurrent layers: how large states are, and how much of a gradient arrives."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ravine.init.observed import RECURRENT

State = tuple[Tensor, ...]
_PROBES = 4


@dataclass(frozen=True)
class ThroughTime:
    """One recurrent layer, step by step from the first to the last.

    std: of the state h_t. arrives: ||d s_T / d s_t||_F / ||d s_T / d s_T||_F, root mean square over the batch, where s
    is the whole state (h, and c of an LSTM): 1 keeps gradients, 0 loses them.
    """

    name: str
    std: tuple[float, ...]
    arrives: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """What arrives at the first step."""
        return self.arrives[0]

    @property
    def per_step(self) -> float:
        """The factor of one step, on average."""
        steps = len(self.arrives) - 1
        return self.ratio ** (1 / steps) if steps and self.ratio > 0 else self.ratio


def through_time(model: nn.Module, inputs: Mapping[int, list[tuple[Any, Any]]]) -> tuple[ThroughTime, ...]:
    """Every recurrent layer that was called, replayed step by step on its inputs of the first call.

    A cell's own calls are its steps, and are replayed too. Of a layer that goes both ways the way forward is looked at,
    of layers on top of such a one none.
    """
    found = []
    for name, module in model.named_modules():
        if isinstance(module, RECURRENT) and id(module) in inputs:
            calls = inputs[id(module)]
            if isinstance(module, nn.RNNCellBase):
                given = [_argument(call, 0, "input").detach() for call in calls]
                first = _argument(calls[0], 1, "hx")
                found.append(_replay(name or "cell", module, given, _state(first)))
            else:
                found += _stack(name or "rnn", module, calls[0])
    return tuple(one for one in found if one is not None)


def _argument(call: tuple[Any, Any], at: int, name: str) -> Any:
    arguments, keywords = call
    return keywords.get(name, arguments[at] if len(arguments) > at else None)


def _state(given: Any) -> State | None:
    if given is None:
        return None
    return tuple(t.detach() for t in given) if isinstance(given, tuple) else (given.detach(),)


def _stack(name: str, module: nn.RNNBase, call: tuple[Any, Any]) -> list[ThroughTime | None]:
    given, start = _argument(call, 0, "input"), _state(_argument(call, 1, "hx"))
    if isinstance(given, nn.utils.rnn.PackedSequence):
        given, _ = nn.utils.rnn.pad_packed_sequence(given, module.batch_first)
    given = given.detach() if given.ndim == 3 else given.detach().unsqueeze(0 if module.batch_first else 1)
    steps = list(given.unbind(1 if module.batch_first else 0))
    found: list[ThroughTime | None] = []
    for layer in range(1 if module.bidirectional else module.num_layers):
        cell = _One(module, layer)
        ways = 1 + module.bidirectional
        first = None if start is None or start[0].ndim != 3 else tuple(t[layer * ways] for t in start)
        states: list[State] = []
        found.append(_replay(f"{name}.l{layer}", cell, steps, first, states))
        steps = [state[0].detach() for state in states]
    return found


class _One(nn.Module):
    """One layer of a recurrent module as a cell, with the module's own weights; projections are left out."""

    def __init__(self, module: nn.RNNBase, layer: int) -> None:
        super().__init__()
        names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
        self.weights = [getattr(module, f"{name}_l{layer}").detach() for name in names]
        self.hidden_size, self.kind = module.hidden_size, module
        self.project = getattr(module, f"weight_hr_l{layer}").detach() if getattr(module, "proj_size", 0) else None

    def forward(self, x: Tensor, state: State) -> State:
        if isinstance(self.kind, nn.LSTM):
            h, c = self._lstm(x, state)
            return (h if self.project is None else h @ self.project.T), c
        if isinstance(self.kind, nn.GRU):
            return (torch.gru_cell(x, state[0], *self.weights),)
        tanh = getattr(self.kind, "nonlinearity", "tanh") == "tanh"
        return ((torch.rnn_tanh_cell if tanh else torch.rnn_relu_cell)(x, state[0], *self.weights),)

    def _lstm(self, x: Tensor, state: State) -> State:
        w, u, *biases = self.weights
        i, f, g, o = (x @ w.T + state[0] @ u.T + sum(biases)).chunk(4, -1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


def _replay(
    name: str, cell: nn.Module, steps: list[Tensor], first: State | None, states: list[State] | None = None
) -> ThroughTime | None:
    """The states of one layer, each a function of the one before, and a random direction of the last pulled back."""
    if len(steps) < 2:
        return None
    width = cell.hidden_size if isinstance(cell.hidden_size, int) else 0
    state = first if first is not None else _zeros(cell, steps[0], width)
    trail: list[State] = []
    with torch.enable_grad():
        for x in steps:
            made = _step(cell, x, state)
            state = tuple(t if t.requires_grad else t.requires_grad_() for t in made)
            trail.append(state)
        arrives = _pulled(trail)
    if states is not None:
        states += trail
    stds = tuple(float(state[0].detach().double().std(correction=0)) for state in trail)
    return ThroughTime(name, stds, arrives)


def _zeros(cell: nn.Module, x: Tensor, width: int) -> State:
    narrow = cell.project.shape[0] if isinstance(cell, _One) and cell.project is not None else width
    h = x.new_zeros(*x.shape[:-1], narrow)
    two = isinstance(cell, nn.LSTMCell) or (isinstance(cell, _One) and isinstance(cell.kind, nn.LSTM))
    return (h, x.new_zeros(*x.shape[:-1], width)) if two else (h,)


def _step(cell: nn.Module, x: Tensor, state: State) -> State:
    if isinstance(cell, _One):
        found: State = cell(x, state)
        return found
    made = cell.forward(x, state if isinstance(cell, nn.LSTMCell) else state[0])  # past the hooks
    return tuple(made) if isinstance(made, tuple) else (made,)


def _pulled(trail: list[State]) -> tuple[float, ...]:
    """Root mean squares of v' d s_T / d s_t over random v ~ N(0, I), whose expectation is that of the matrix."""
    generator = torch.Generator().manual_seed(0)
    totals = [0.0] * len(trail)
    flat = [t for state in trail for t in state]
    for _ in range(_PROBES):
        v = [torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t) for t in trail[-1]]
        grads = torch.autograd.grad(trail[-1], flat, v, retain_graph=True, allow_unused=True)
        each = len(trail[0])
        for t in range(len(trail)):
            parts = [g for g in grads[t * each : (t + 1) * each] if g is not None]
            totals[t] += sum(float(g.double().square().sum()) for g in parts)
    return tuple(math.sqrt(total / totals[-1]) if math.isfinite(total) else math.inf for total in totals)
