"""Search over the scale of every layer, on the standard deviation of activations and gradients on one minibatch."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.declared import check_value
from ravine.core.errors import RavineError, unknown
from ravine.init.balance import Balance, Trial, balance, best_of
from ravine.init.observed import Part, checked, chosen
from ravine.init.redraw import KINDS, redraw
from ravine.init.scaling import Pass, Seen, stds
from ravine.init.untouched import Loss, attempt, caller, untouched, write


@dataclass(frozen=True)
class Scaled:
    """One layer: the standard deviation of its outputs before and after, and what its weights were multiplied by."""

    name: str
    before: float
    after: float
    factor: float


@dataclass(frozen=True)
class SearchReport:
    """What the search did.

    layers: in the order of execution. passes: how many were needed. level: the standard deviation that was aimed at;
    share: how much of each unit's mean was taken out by its bias. gradient: the ratio of the weights' gradients and
    across: that of the activations' standard deviation across examples, first layer over last, before and after, where
    a loss was given. tried: the levels and shares that were looked at. left: what was not scaled, and why.
    """

    layers: tuple[Scaled, ...]
    passes: int
    level: float
    share: float
    draw: str | None = None
    before: Balance | None = None
    after: Balance | None = None
    tried: tuple[Trial, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        width = max(len(one.name) for one in self.layers)
        lines = [f"{'layer':{width}}  {'before':>9}  {'after':>9}  {'factor':>9}"]
        lines += [f"{o.name:{width}}  {o.before:9.3g}  {o.after:9.3g}  {o.factor:9.3g}" for o in self.layers]
        lines.append(f"{self.passes} passes, level {self.level:g}, means taken out {100 * self.share:.3g} %")
        if self.before is not None and self.after is not None:
            lines.append(f"before: {self.before}")
            lines.append(f"after:  {self.after}")
        lines += [f"left alone: {name} ({why})" for name, why in self.left.items()]
        return "\n".join(lines)


@torch.inference_mode(False)
def search(
    model: nn.Module,
    inputs: Any,
    loss: Loss | None = None,
    *,
    generator: torch.Generator | None = None,
    target: float | None = None,
    tolerance: float = 0.1,
    passes: int = 3,
    centre: bool = False,
    draw: str | None = None,
    skip: Sequence[str] = (),
) -> SearchReport:
    """Scale every layer's weights so that its outputs have standard deviation 1 on one minibatch.

    Without `loss` this is LSUV (Mishkin & Matas 2016, arXiv 1511.06422, algorithm 1): when the batch reaches a layer
    its weights are multiplied by its own factor, and the batch goes on through the scaled layer, so that one pass
    scales all, whatever the depth. Passes are repeated, at most `passes`, until |std - target| <= tolerance * target
    for every layer. Unlike the paper's, the weights are those the model has: orthogonal ones with draw="dense".

    With `loss` (of model and batch; `inputs` is then the batch) gradients are looked at too, as Goodfellow et al. 2016,
    section 8.4, p. 304 advises: unless `target` is given, the level of all layers and the share of the means that the
    biases take out are searched, until the gradients of first and last layer are alike and the examples are still told
    apart. target: the level, 1 unless searched. centre: take out each unit's mean by its bias. draw: "dense" draws
    orthogonal weights, "sparse" 15 incoming ones a unit (Martens 2010), "either" takes the better of the two by the
    loss's gradients; from `generator`. skip: names of modules left alone.

    Scaled are linear, bilinear and convolutional layers, attention's q, k, v and output, and of RNN, LSTM, GRU and
    their cells the input weights, so that W_ih x has the level; recurrent weights, embeddings and norms stay. Nothing
    else changes: buffers, modes, gradients, random states. On any failure the weights are as they were, bit for bit.
    Raises `RavineError` for a batch that does not fit, dead layers, numbers that are not finite, lazy or meta models,
    shared, frozen or computed weights that are not in `skip`, and when `passes` are not enough.
    """
    model = checked(model)
    _check(target, tolerance, passes, draw, loss)
    found = chosen(model, skip)
    call = caller(model, inputs, loss)
    with untouched(model), torch.no_grad():
        attempt(call, inputs, loss is not None)
    kept = remembered(found)
    try:
        work = _Search(model, found, call, tolerance, passes, loss is not None)
        return work.run(draw, target, centre, generator)
    except BaseException:
        write(kept)
        raise


def remembered(parts: Mapping[str, Part]) -> list[tuple[Tensor, Tensor]]:
    """All that a search may change, with copies."""
    named = [(part.owner, key) for part in parts.values() for key in (part.weight, part.bias) if key is not None]
    held = {id(p): p for owner, key in named if (p := getattr(owner, key)) is not None}
    return [(p, p.detach().clone()) for p in held.values()]


def _check(target: float | None, tolerance: float, passes: int, draw: str | None, loss: Loss | None) -> None:
    check_value("target", target, float | None, "(0, inf)")
    check_value("tolerance", tolerance, float, "(0, 1)")
    check_value("passes", passes, int, "[1, inf)")
    if draw is not None and draw not in (*KINDS, "either"):
        raise unknown("draw", str(draw), (*KINDS, "either"))
    if draw == "either" and loss is None:
        raise RavineError("draw='either' compares dense and sparse weights by the loss's gradients: give loss=")


@dataclass
class _Search:
    model: nn.Module
    parts: Mapping[str, Part]
    call: Callable[[], Any]
    tolerance: float
    passes: int
    has_loss: bool
    several: bool = False  # whether a part is called more than once

    def run(
        self, draw: str | None, target: float | None, centre: bool, generator: torch.Generator | None
    ) -> SearchReport:
        start = remembered(self.parts)
        before = stds(self.model, self.parts, self.call)
        self.several = any(one.calls > 1 for one in before.values())
        first = balance(self.model, self.parts, self.call) if self.has_loss else None
        kinds = [None] if draw is None else list(KINDS) if draw == "either" else [draw]
        best: tuple[Trial, str | None, list[tuple[Tensor, Tensor]]] | None = None
        tried: list[Trial] = []
        for kind in kinds:
            write(start)
            if kind is not None:
                redraw(self.parts, kind, generator)
            one = self._searched(target, centre, tried)
            if best is None or one.cost < best[0].cost:
                now = [(p, p.detach().clone()) for p, _ in start]
                best = one, kind, now
        assert best is not None
        chosen_one, kind, weights = best
        write(weights)
        return self._report(before, first, chosen_one, kind, start, tried)

    def _searched(self, target: float | None, centre: bool, tried: list[Trial]) -> Trial:
        """Leaves the weights at the best trial there is."""
        begin = remembered(self.parts)
        known: dict[tuple[float, float], Trial] = {}

        def at(level: float, share: float) -> Trial:
            if (level, share) not in known:
                write(begin)
                count = self._scale(level, share)
                seen = balance(self.model, self.parts, self.call) if self.has_loss else None
                known[level, share] = Trial(level, share, count, seen)
                tried.append(known[level, share])
            return known[level, share]

        least = 1.0 if centre else 0.0
        if target is not None or not self.has_loss:
            return at(1.0 if target is None else target, least)
        biased = any(part.bias is not None for part in self.parts.values())
        best = best_of(at, centre, biased)
        write(begin)
        self._scale(best.level, best.share)
        return best

    def _scale(self, level: float, share: float) -> int:
        """Passes until all are within the tolerance; how many there were."""
        known = stds(self.model, self.parts, self.call) if self.several else {}
        for count in range(1, self.passes + 1):
            Pass(self.parts, level, share, known).run(self.model, self.call)
            known = stds(self.model, self.parts, self.call)
            off = {name: one.std for name, one in known.items() if not abs(one.std / level - 1) <= self.tolerance}
            if not off:
                return count
        name, std = max(off.items(), key=lambda item: abs(math.log(item[1] / level)) if item[1] > 0 else math.inf)
        raise RavineError(
            f"after {self.passes} passes {len(off)} layers are not within {self.tolerance:g} of {level:g}, {name} is "
            f"at {std:.4g}: give more passes=, a larger tolerance=, or leave it alone by skip=['{name}']; nothing has "
            "changed"
        )

    def _report(
        self, before: Seen, first: Balance | None, one: Trial, kind: str | None,
        start: list[tuple[Tensor, Tensor]], tried: list[Trial],
    ) -> SearchReport:  # fmt: skip
        after = stds(self.model, self.parts, self.call)
        old = {id(p): value for p, value in start}
        layers = []
        for name in after:
            part = self.parts[name]
            then = old[id(getattr(part.owner, part.weight))][slice(*part.rows)].double().norm()
            factor = float(part.weights().double().norm() / then) if then > 0 else math.inf
            layers.append(Scaled(name, before[name].std, after[name].std, factor))
        left = {name: "it was never called" for name in self.parts if name not in after}
        return SearchReport(tuple(layers), one.passes, one.level, one.share, kind, first, one.seen, tuple(tried), left)
