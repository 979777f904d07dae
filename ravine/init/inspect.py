"""Inspect a model at its start: every layer forwards and backwards on one batch, with verdicts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.errors import RavineError
from ravine.init import judging
from ravine.init.acting import Act, Acting
from ravine.init.chance import chance
from ravine.init.limits import Finding, worst
from ravine.init.measuring import Gradients, Heard, Listening, Signal, gradients, listening, signal
from ravine.init.observed import checked, parts
from ravine.init.through_time import ThroughTime, through_time
from ravine.init.untouched import Loss, attempt, caller, untouched

_TWINS = 1e-6


@dataclass(frozen=True)
class Findings(Sequence[Finding]):
    """What an inspection found: a sequence of findings, with the measurements they were made of.

    signals: layer by layer in the order of execution. acts: activation functions as they were called. time: recurrent
    layers step by step.
    """

    lines: tuple[Finding, ...]
    signals: tuple[Signal, ...]
    acts: tuple[Act, ...]
    time: tuple[ThroughTime, ...]
    loss: float

    @property
    def verdict(self) -> str:
        """The worst of all: "pass", "warn" or "fail"."""
        return worst(line.verdict for line in self.lines)

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """What does not pass, failures first."""
        found = [line for line in self.lines if line.verdict != "pass"]
        return tuple(sorted(found, key=lambda line: line.verdict != "fail"))

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: Any) -> Any:
        return self.lines[index]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.lines)

    def __str__(self) -> str:
        told = [f"{one.verdict}: {one.name}{f' of {one.layer}' if one.layer else ''}: {one.reason}; {one.fix}"
                for one in self.wrong]  # fmt: skip
        return "\n".join([*told, f"{len(self)} lines, verdict: {self.verdict}"])

    def content(self) -> dict[str, Any]:
        """All of it as numbers and words."""
        return {
            "verdict": self.verdict,
            "loss": self.loss,
            "findings": [asdict(one) for one in self.lines],
            "layers": [asdict(one) for one in self.signals],
            "activations": [asdict(one) for one in self.acts],
            "through_time": [asdict(one) | {"ratio": one.ratio, "per_step": one.per_step} for one in self.time],
        }


@torch.inference_mode(False)
def inspect(model: nn.Module, batch: Any, loss: Loss) -> Findings:
    """Look at a model on one batch, and judge its start; `ravine.init.limits.LIMITS` has the limits and their reasons.

    Per layer: the standard deviation of outputs and of the loss's gradient in them, the share of units that are dead or
    of numbers that are saturated in the activation that follows, the effective rank (participation ratio) of the
    outputs and the likeness of examples in them, units that are identical. Of the whole: the ratio of the weights'
    gradients, first layer over last, and the loss beside chance. Of recurrent layers: the gradient and the state
    through time. Dimension 0 of outputs is taken to count examples.

    loss: of model and batch, or a criterion for a batch (inputs, targets); of an `nn.CrossEntropyLoss` the ignored
    label, weights and smoothing count in the chance level. The model runs in the modes that it is in
    and is left exactly as it was: weights, buffers, gradients, modes, hooks, random states, on any error too. Raises
    `RavineError` for lazy and meta models, and for a batch that does not fit.
    """
    model = checked(model)
    if loss is None:
        raise RavineError(
            "inspect needs a loss for the gradients: a function of model and batch, or a criterion such as "
            "nn.CrossEntropyLoss() for a batch (inputs, targets); got None"
        )
    call = caller(model, batch, loss)
    found = parts(model)
    outputs: list[Any] = []
    with untouched(model) as stack, torch.enable_grad():
        stack.callback(model.register_forward_hook(lambda module, given, output: outputs.append(output)).remove)
        with listening(found) as heard:
            acting = Acting(lambda: heard.last)
            value = attempt(lambda: _with(acting, call), batch, True)
            heard.closed = True
            if not isinstance(value, Tensor) or value.numel() != 1:
                said = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise RavineError(f"the loss must be a scalar tensor, the mean over the batch; got {said}")
            seen = outputs[-1:]  # of the loss's own call, and not of what is run anew for gradients
            grads = gradients(value.reshape(()), heard.heard)
        time = through_time(model, heard.inputs)
    number, broken = value.item(), _broken(model)
    signals = tuple(signal(one, grads) for one in heard.heard.values())
    level = chance(number, seen[0], batch, loss) if seen else None
    lines = _judged(signals, heard, grads, acting.found, time, judging.loss_at_start(number, level, broken), broken)
    return Findings(tuple(lines), signals, tuple(acting.found), time, number)


def _with(mode: Acting, call: Callable[[], Any]) -> Any:
    with mode:
        return call()


def _judged(
    signals: Sequence[Signal], heard: Listening, grads: Gradients, acts: Sequence[Act], time: Sequence[ThroughTime],
    loss: Finding, broken: str,
) -> Iterator[Finding]:  # fmt: skip
    yield loss
    if not signals:
        yield Finding("layers", "", 0.0, "warn", "the model has no layer that is known, so only the loss was looked at",
                      "layers are linear, convolutional, attention and recurrent modules")  # fmt: skip
    silent = bool(signals) and bool(signals[-1].slope) and not heard.heard[signals[-1].name].part.weights().any()
    yield from judging.ratio(signals, silent)
    for layer in time:
        yield from judging.of_time(layer)
    arrived = False  # whether a layer before this one has a gradient: it has come by another way
    for number, one in enumerate(signals):
        last = number == len(signals) - 1
        yield from judging.of_signal(one, signals[-1], acts, silent, arrived, broken)
        arrived = arrived or bool(one.slope)
        # outputs are told apart by their targets
        if not last and (count := twins(heard.heard[one.name], grads)) is not None:
            slopes = grads.weights[one.name]
            waits = silent and slopes is not None and not slopes.any()
            yield judging.identical(one.name, count, one.units, waits)


def _broken(model: nn.Module) -> str:
    """The names of parameters with numbers that are not finite, the first three."""
    names = [name for name, p in model.named_parameters() if not torch.isfinite(p).all()]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def twins(heard: Heard, grads: Gradients) -> int | None:
    """How many units have the weights and the gradients of another that stands before them; None without gradients.

    Equal weights alone are no symmetry: where what comes after tells the units apart, their gradients differ.
    """
    part = heard.part
    weights, slopes = part.weights(), grads.weights[part.name]
    if slopes is None or weights.ndim < 2:
        return None
    if isinstance(part.module, nn.modules.conv._ConvTransposeNd):
        weights, slopes = weights.transpose(0, 1), slopes.transpose(0, 1)
    columns = [_scaled(weights), _scaled(slopes)]
    bias, bias_slope = part.biases(), grads.biases[part.name]
    if bias is not None and len(bias) == len(weights):
        columns += [_scaled(bias[:, None])] + ([_scaled(bias_slope[:, None])] if bias_slope is not None else [])
    rows = torch.cat(columns, 1)
    if not torch.isfinite(rows).all():
        return None
    # equal rows have equal sums, so that they are neighbours in the order of these
    order = (rows @ torch.linspace(1, 2, rows.shape[1], dtype=rows.dtype, device=rows.device)).argsort()
    return int(((rows[order][1:] - rows[order][:-1]).abs().amax(1) <= _TWINS).sum())


def _scaled(rows: Tensor) -> Tensor:
    """Rows as multiples of the largest number among them."""
    flat = rows.detach().reshape(len(rows), -1).double()
    largest = flat.abs().max()
    return flat / largest if largest > 0 else flat
