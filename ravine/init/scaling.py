"""Layer-sequential scaling: every layer is given its own factor the moment the batch reaches it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.errors import RavineError
from ravine.init.observed import Part
from ravine.init.untouched import untouched


@dataclass
class Moments:
    """The standard deviation of numbers that come in pieces, computed in float64."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    calls: int = 0

    def add(self, values: Tensor) -> None:
        """One more piece."""
        wide = values.double()
        self.count, self.calls = self.count + wide.numel(), self.calls + 1
        self.total, self.squares = self.total + float(wide.sum()), self.squares + float(wide.square().sum())

    @property
    def std(self) -> float:
        """Over all numbers there were, around their one mean."""
        mean = self.total / self.count
        return math.sqrt(max(self.squares / self.count - mean * mean, 0.0))


Seen = dict[str, Moments]


def stds(model: nn.Module, parts: Mapping[str, Part], call: Callable[[], Any]) -> Seen:
    """The moments of every part that is called, in the order of the first call."""
    found: Seen = {}

    def hook(module: nn.Module, arguments: Any, keywords: Any, output: Any) -> None:
        for part in of(module):
            found.setdefault(part.name, Moments()).add(part.see(arguments, keywords, output))

    of = _grouped(parts)
    with untouched(model) as stack, torch.no_grad():
        for module in {id(part.module): part.module for part in parts.values()}.values():
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        call()
    return found


@dataclass
class Pass:
    """One pass: each part is scaled at its first call so that its numbers have the standard deviation `target`.

    share: how much of each unit's mean over the batch is taken out through the bias. known: parts called several times
    are scaled by what all calls together had before, since the first alone says nothing of the rest.
    """

    parts: Mapping[str, Part]
    target: float
    share: float
    known: Seen
    factors: dict[str, float] = field(default_factory=dict)

    def run(self, model: nn.Module, call: Callable[[], Any]) -> None:
        """Scale all parts that are called."""
        for name, part in self.parts.items():
            if name in self.known and self.known[name].calls > 1:
                factor = self.target / _alive(name, self.known[name].std)
                part.weights().mul_(factor)
                self.factors[name] = factor
        self._of = _grouped(self.parts)
        with untouched(model) as stack, torch.no_grad():
            for module in {id(part.module): part.module for part in self.parts.values()}.values():
                stack.callback(module.register_forward_hook(self._hook, with_kwargs=True).remove)
            call()

    def _hook(self, module: nn.Module, arguments: Any, keywords: Any, output: Any) -> Any:
        for part in self._of(module):
            if part.name not in self.factors:
                self.factors[part.name] = scale(part, part.see(arguments, keywords, output), self.target, self.share)
                # later layers, and later parts of this one, see what the new weights give
                output = module.forward(*arguments, **keywords)
        return output


def scale(part: Part, z: Tensor, target: float, share: float) -> float:
    """Change the part so that z = W x + b becomes c W x + b' with standard deviation `target`; c is returned.

        b' = (1 - share) b - share c mean(W x),    sd(c (W x - share mean(W x)) + (1 - share) b) = target

    The mean is each unit's over the batch. c is the positive root of a quadratic equation, so that a bias that stays
    costs no further pass. Raises `RavineError` where there is none.
    """
    bias = part.biases()
    linear = z.double()
    if bias is not None:
        linear = linear - part.spread(bias.double(), z)
    if not torch.isfinite(linear).all():
        raise RavineError(
            f"{part.name} gives numbers that are not finite: look at what comes before it, or start at a smaller scale"
        )
    others = [d for d in range(z.ndim) if d != part.unit_dim % z.ndim]
    mean = linear.mean(others) if others else linear
    kept = linear
    rest = torch.zeros((), dtype=linear.dtype, device=linear.device).expand(z.shape)
    if bias is not None:
        kept = linear - share * part.spread(mean, z)
        rest = ((1 - share) * part.spread(bias.double(), z)).expand(z.shape)
    factor = _root(part.name, kept - kept.mean(), rest - rest.mean(), target)
    if bias is not None and share:
        bias.copy_((1 - share) * bias.double() - share * factor * mean)
    weights = part.weights()
    weights.copy_(weights.double() * factor)
    return factor


def _root(name: str, kept: Tensor, rest: Tensor, target: float) -> float:
    """c > 0 with mean((c kept + rest)^2) = target^2."""
    a, b, c = (float((x * y).mean()) for x, y in ((kept, kept), (kept, rest), (rest, rest)))
    _alive(name, math.sqrt(a))
    inside = b * b - a * (c - target * target)
    root = (-b + math.sqrt(inside)) / a if inside >= 0 else 0.0
    if not 0 < root < math.inf:
        raise RavineError(
            f"the biases of {name} alone have the standard deviation {math.sqrt(c):.3g}, so that no scale of its "
            f"weights gives {target:g}: set them to zero, or take centre=True"
        )
    return root


def _alive(name: str, std: float) -> float:
    if std == 0.0 or not math.isfinite(std):
        raise RavineError(
            f"{name} is dead: its outputs have the standard deviation {std} over the batch. Its weights are all zero, "
            f"or what goes into it does not vary; initialize it anew, or leave it alone by skip=['{name}']"
        )
    return std


def _grouped(parts: Mapping[str, Part]) -> Callable[[nn.Module], list[Part]]:
    groups: dict[int, list[Part]] = {}
    for part in parts.values():
        groups.setdefault(id(part.module), []).append(part)
    return lambda module: groups[id(module)]
