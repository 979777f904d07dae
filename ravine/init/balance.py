"""How even the signal is from the first layer to the last: forwards across examples, and backwards in gradients."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.errors import RavineError
from ravine.init.measuring import between, gradients, listening
from ravine.init.observed import Part
from ravine.init.untouched import untouched

LEVELS = (1.0, 2.0, 0.5, 4.0, 0.25, 8.0, 0.125)
EVEN, ENOUGH, TOLD_APART = 3.0, 5.0, 0.02


@dataclass(frozen=True)
class Balance:
    """Ratios first layer over last: the norms of the gradients in the weights, and in the layers' outputs (up to
    the last hidden layer); and last over first: the activations across examples.
    """

    weights: float
    outputs: float
    across: float

    def __str__(self) -> str:
        return (
            f"gradients first / last layer {self.weights:.3g} (weights), {self.outputs:.3g} (outputs); activations "
            f"across examples last / first {self.across:.3g}"
        )


@dataclass(frozen=True)
class Trial:
    """A level and a share of centring, and the balance there."""

    level: float
    share: float
    passes: int
    seen: Balance | None

    @property
    def tilt(self) -> float:
        """The mean logarithm of both gradient ratios: above zero they grow on the way back."""
        if self.seen is None:
            return 0.0
        return (_log(self.seen.weights) + _log(self.seen.outputs)) / 2

    @property
    def cost(self) -> float:
        """The larger logarithm of the two gradient ratios, and what is lost of the differences between examples."""
        if self.seen is None:
            return 0.0
        lost = max(0.0, math.log(TOLD_APART) - _log(self.seen.across))
        return max(abs(_log(self.seen.weights)), abs(_log(self.seen.outputs))) + lost

    def within(self, factor: float) -> bool:
        """Whether both ratios of gradients are within this factor, and examples told apart."""
        return self.cost <= math.log(factor)


def _log(value: float) -> float:
    return math.log(min(max(value, 1e-300), 1e300)) if not math.isnan(value) else -690.0


def balance(model: nn.Module, parts: Mapping[str, Part], call: Callable[[], Any]) -> Balance:
    """The balance of the model as it is."""
    with untouched(model), torch.enable_grad(), listening(parts) as found:
        loss = call()
        found.closed = True
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise RavineError("the loss must be a scalar tensor that depends on the model's weights")
        grads = gradients(loss.reshape(()), found.heard)
    slopes = [float(g.double().norm()) for g in grads.weights.values() if g is not None]
    hidden = list(found.heard)[:-1] or list(found.heard)
    outputs = [float(g.double().norm()) for name in hidden if (g := grads.outputs[name]) is not None]
    across = [between(found.heard[name].values[-1])[0] for name in (hidden[0], hidden[-1])]
    return Balance(_over(slopes), _over(outputs), _over(across[::-1]))


def _over(values: list[float]) -> float:
    """The first over the last."""
    if not values or values[0] == values[-1]:
        return 1.0
    return values[0] / values[-1] if values[-1] > 0 else math.inf


def best_of(at: Callable[[float, float], Trial], centred: bool, biased: bool) -> Trial:
    """The first even trial, levels nearest to 1 first, or the one of least cost.

    Level 1 as it stands is given up only where a ratio leaves [0.2, 5]. At each level the gradients' ratio rises with
    the share of the means that the biases take out, and falls where they add to it (a share below zero, down to -1):
    where the ratio is 1 somewhere between, bisection finds the share.
    """
    start = at(LEVELS[0], float(centred))
    if start.within(ENOUGH):
        return start
    trials = [start]
    for level in LEVELS:
        trials.append(at(level, float(centred)))
        if biased and not centred:
            other = at(level, -1.0 if trials[-1].tilt > 0 else 1.0)
            ends = sorted((trials[-1], other), key=lambda one: one.share)
            trials.append(other)
            if ends[0].tilt < 0 < ends[1].tilt:
                trials += _bisected(at, level, ends[0].share, ends[1].share)
        if found := [one for one in trials if one.within(EVEN)]:
            return min(found, key=lambda one: one.cost)
    return min(trials, key=lambda one: one.cost)


def _bisected(at: Callable[[float, float], Trial], level: float, low: float, high: float) -> list[Trial]:
    found: list[Trial] = []
    for _ in range(12):
        found.append(at(level, (low + high) / 2))
        if found[-1].within(EVEN):
            break
        low, high = (found[-1].share, high) if found[-1].tilt < 0 else (low, found[-1].share)
    return found
