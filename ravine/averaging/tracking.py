"""An average of a model's weights, kept beside them whatever moves them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ravine.averaging import lines
from ravine.averaging.recalibration import recalibrate, statistics
from ravine.core.errors import RavineError, unknown
from ravine.core.roles import named_parameters, plain, unwrapped
from ravine.engine.execution import EXECUTIONS
from ravine.engine.rounding import is_low, widened
from ravine.rules.averages import Average

BUFFERS = ("last", "average")
Forward = Callable[[nn.Module, Any], Any]


class Averaging:
    """The average that `rule` describes of a model's weights, for any optimizer; see `EMA`, `Polyak` and `SWA`.

    model: whose weights are averaged: those that can be trained, a tied weight once. One that is frozen is left out,
        and counts its own iterates from the first update at which it is not.
    rule: which average: a rule such as `ravine.rules.EMA(0.99)`.
    buffers: "last" leaves buffers, such as running statistics, as the last step left them; "average" averages those
        of floating point as the weights are.
    execution: for weights of 16 bits: "loop" makes a widened copy of each, "compiled" has a kernel that widens as it
        reads, and "auto" takes that where they are many. Others are averaged in one pass over memory in any case.

    `update()` after every step of the optimizer; the weights that count are the model's inside `swapped()`. Averages
    are kept in the weights' type, those of bf16 and fp16 in float32.
    """

    def __init__(self, model: nn.Module, rule: Average, buffers: str = "last", execution: str = "auto") -> None:
        if not isinstance(model, nn.Module):
            raise RavineError(f"an average is kept of a model, an nn.Module; got {type(model).__name__}")
        if not isinstance(rule, Average):
            raise RavineError(f"rule must be an average such as ravine.rules.EMA(), got {rule!r}")
        for name, given, allowed in (("buffers", buffers, BUFFERS), ("execution", execution, EXECUTIONS)):
            if given not in allowed:
                raise unknown(f"choice of {name}=", str(given), allowed)
        lines.check(execution)
        self.model, self.rule, self.buffers, self.execution = model, rule, buffers, execution
        self.averages: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}  # of iterates, for each weight
        self.statistics: dict[str, Tensor] = {}  # of batch normalization at the averages, until the next update
        self._swapped = False

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights, as they are now, into the average: once after every step of the optimizer."""
        self._refuse_inside("update()")
        due: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
        counts: dict[str, int] = {}
        begun: list[tuple[str, Tensor]] = []
        shares: dict[int, float] = {}
        for name, value in self._values():
            counts[name] = t = self.counts.get(name, 0) + 1
            if t not in shares:
                shares[t] = 0.0 if t < self.rule.first else float(self.rule.share(t))
            share, average = shares[t], self.averages.get(name)
            if average is None:
                begun += [(name, value)] if share else []
            elif share:
                average = self._fitting(name, average, value)
                pair = due.setdefault((share, value.dtype, value.device), ([], []))
                pair[0].append(average)
                pair[1].append(value)
        self.averages |= {name: widened(value.detach()).clone() for name, value in begun}
        for (share, *_), (averages, values) in due.items():
            lines.move(averages, values, share, self.execution)
        self.counts |= counts
        self.statistics = {}

    def _values(self) -> Iterator[tuple[str, Tensor]]:
        """What is averaged, by name, as it is now."""
        for name, p in named_parameters(self.model).items():
            if p.requires_grad or name in self.counts:
                yield name, p
        if self.buffers == "average":
            for name, buffer in unwrapped(self.model).named_buffers():
                if buffer.is_floating_point() or buffer.is_complex():
                    yield plain(name), buffer

    def _fitting(self, name: str, average: Tensor, value: Tensor) -> Tensor:
        """The average where the weight is, which the user may have moved to another device."""
        if average.shape != value.shape:
            was, now = tuple(average.shape), tuple(value.shape)
            raise RavineError(f"'{name}' has shape {now}, but what was averaged so far has {was}: begin a new average")
        dtype = torch.float32 if is_low(value.dtype) else value.dtype
        if average.device != value.device or average.dtype != dtype:
            self.averages[name] = average = average.to(value.device, dtype)
        return average

    # ---------------------------------------------------------------- the averages in the weights' place

    @contextmanager
    def swapped(self, data: Any = None, forward: Forward | None = None, exact: bool = False) -> Iterator[nn.Module]:
        """Inside, the model's weights are the averages; outside, to the bit what they were, also where it raises.

        data: from which the running statistics of batch normalization are computed anew, as `recalibrate` does it, and
            which the last step's are outside again.
        Before there is an average the weights stay as they are. A step of an optimizer of these weights is refused
        inside, and so are an update, and a second `swapped()`.

        >>> import torch, ravine
        >>> model = torch.nn.Linear(2, 1)
        >>> avg = ravine.averaging.Polyak(model)
        >>> for value in (1.0, 2.0, 6.0):
        ...     _ = torch.nn.init.constant_(model.bias, value)
        ...     avg.update()
        >>> with avg.swapped():
        ...     model.bias.item()
        3.0
        >>> model.bias.item()
        6.0
        """
        if data is not None:
            self.recalibrate(data, forward, exact)
        self._refuse_inside("a second swapped()")
        with self._exchanged({**self.averages, **self.statistics}):
            yield self.model

    def recalibrate(self, data: Any, forward: Forward | None = None, exact: bool = False) -> list[str]:
        """The running statistics of batch normalization at the averages, which `swapped()` shows until the next update.

        As `ravine.averaging.recalibrate`; returns the names of the layers.
        """
        self._refuse_inside("recalibrate()")
        own = statistics(self.model)
        with self._exchanged({**self.averages, **{name: x.clone() for name, x in own.items()}}):
            done = recalibrate(self.model, data, forward, exact=exact)
            found = {name: x.clone() for name, x in statistics(self.model).items()}
        self.statistics = found
        return done

    def copy_to(self, model: nn.Module | None = None) -> None:
        """Write the averages into `model`, this one's own unless given, for good."""
        self._refuse_inside("copy_to()")
        places = _places(self.model if model is None else model)
        values = self.averages | self.statistics
        _refuse_misfits(values, places, "the model")
        with torch.no_grad():
            for name, value in values.items():
                places[name].copy_(value)

    @contextmanager
    def _exchanged(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        places = _places(self.model)
        _refuse_misfits(values, places, "the model")
        resting: list[tuple[Tensor, Tensor]] = []
        hook = register_optimizer_step_pre_hook(self._refuse_step)
        self._swapped = True
        try:
            with torch.no_grad():
                for name, value in values.items():
                    resting.append((places[name], places[name].clone()))
                    places[name].copy_(value)
            yield
        finally:
            with torch.no_grad():
                for place, value in resting:
                    place.copy_(value)
            self._swapped = False
            hook.remove()

    def _refuse_inside(self, what: str) -> None:
        if self._swapped:
            raise RavineError(f"{what} inside swapped(), where the weights are the averages already: do it outside")

    def _refuse_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        own = {id(p) for p in self.model.parameters()}
        if any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            raise RavineError("a step inside swapped() would be undone at its end: step outside")

    # ---------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """All of it, in tensors, numbers and text, so that `torch.load(..., weights_only=True)` takes it."""
        tensors = {"averages": self.averages, "statistics": self.statistics}
        copies = {key: {name: x.clone() for name, x in found.items()} for key, found in tensors.items()}
        own = {"rule": str(self.rule), "buffers": self.buffers, "model": list(named_parameters(self.model))}
        return own | {"counts": dict(self.counts)} | copies

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state, to the bit; one of another average or another model is refused, before anything."""
        self._refuse_inside("load_state_dict()")
        own = self.state_dict().keys()
        if not isinstance(state, Mapping):
            raise RavineError(f"load_state_dict takes what state_dict() gave, got {type(state).__name__}")
        if missing := sorted(own - state.keys()):
            raise RavineError(f"the saved average lacks '{missing[0]}': is it one of ravine.averaging's?")
        for name in ("rule", "buffers"):
            if state[name] != (mine := str(getattr(self, name))):
                raise RavineError(f"the saved average has {name} '{state[name]}', but this one has '{mine}'")
        for name in ("counts", "averages", "statistics"):
            if not isinstance(state[name], Mapping):
                raise RavineError(f"the saved average holds no {name} by name, but {type(state[name]).__name__}")
        counts, places = dict(state["counts"]), _places(self.model)
        for name, count in counts.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise RavineError(f"the saved count of '{name}' must be a whole number from 0, got {count!r}")
        loaded: dict[str, dict[str, Tensor]] = {}
        for key in ("averages", "statistics"):
            _refuse_misfits(state[key], places, "this model")
            loaded[key] = {name: _kept(x, places[name], key) for name, x in state[key].items()}
        if lost := sorted(set(loaded["averages"]) - counts.keys()):
            raise RavineError(f"the saved average has no count for '{lost[0]}'")
        if new := [name for name in named_parameters(self.model) if name not in state["model"]]:
            raise RavineError(
                f"the saved average is of a model without the weight '{new[0]}', which this model has: averages belong "
                "to a model of the same layers"
            )
        self.counts, self.averages, self.statistics = counts, loaded["averages"], loaded["statistics"]


def _kept(saved: Tensor, place: Tensor, key: str) -> Tensor:
    wide = key == "averages" and is_low(place.dtype)
    return saved.detach().clone().to(place.device, torch.float32 if wide else place.dtype)


def _places(model: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers by the names that they have whatever the model is wrapped in."""
    buffers = {plain(name): x for name, x in unwrapped(model).named_buffers()}
    return {name: p.detach() for name, p in named_parameters(model).items()} | buffers


def _refuse_misfits(values: Mapping[str, Any], places: Mapping[str, Tensor], owner: str) -> None:
    for name, value in values.items():
        if name not in places:
            raise unknown(f"weight of {owner}", name, places, "Averages belong to a model of the same layers.")
        if not isinstance(value, Tensor) or value.shape != places[name].shape:
            found = tuple(value.shape) if isinstance(value, Tensor) else value
            raise RavineError(f"the average of '{name}' has shape {found}, but {owner} has {tuple(places[name].shape)}")
