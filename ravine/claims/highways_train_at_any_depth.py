"""Slide 60: plain networks and highway networks of 10 to 100 layers."""

from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from ravine.claims._deep_nets import CHANCE, Deep, batches, best, entropies, gradient
from ravine.claims._stacked import Data, digits
from ravine.claims._walk import walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_least, at_most, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean, ratio
from ravine.rules import Momentum

BATCH = 32
# Pairs of a gate's first bias and a learning rate; plain networks have no gate.
ARMS = {
    "plain": tuple((0.0, lr) for lr in (0.001, 0.003, 0.01, 0.03)),
    "highway": tuple((bias, lr) for bias in (-2.0, -4.0) for lr in (0.03, 0.1)),
}
WIDTHS = {"plain": 28, "highway": 20}  # so that both have equally many weights


class _Result(NamedTuple):
    arm: tuple[float, float]
    loss: list[float]
    reach: list[float]
    """Before training: the gradient's norm at the first hidden layer that has the common shape, over the last's."""


def _net(kind: str, depth: int) -> Deep:
    return Deep(depth, WIDTHS[kind], skip="" if kind == "plain" else kind)


def _start(net: Deep, trial: Trial, copies: int, bias: float) -> Tensor:
    found = net.start([trial.torch("start", i) for i in range(copies)], "he")
    if net.skip:
        net.parts(found)["gate bias"].fill_(bias)
    return found


def _reach(net: Deep, start: Tensor, data: Data) -> list[float]:
    """In float64, since plain networks' gradients may be smaller than float32 has numbers."""
    x, y = data[0].double(), data[1]
    hidden = net.parts(gradient(lambda w: entropies(net.logits(w, x), y))(start.double()))["hidden"]
    norms = hidden.flatten(2).norm(dim=2)
    found: list[float] = (norms[:, 0] / norms[:, -1].clamp(min=1e-300)).tolist()
    return found


def _trained(trial: Trial, kind: str, depth: int, data: Data, copies: int, steps: int) -> _Result:
    net, arms = _net(kind, depth), trial.pick(quick=ARMS[kind][-2:], normal=ARMS[kind])
    starts = [_start(net, trial, copies, bias) for bias, _ in arms]
    lr = torch.tensor([lr for _, lr in arms]).repeat_interleave(copies)[:, None]
    draw = batches(*data, BATCH, [trial.torch("batches", i) for i in range(copies)], len(arms))

    def losses(w: Tensor) -> Tensor:
        x, y = draw()
        return entropies(net.logits(w, x), y)

    last = next(islice(walk(Momentum(0.9), gradient(losses), torch.cat(starts), lr), steps, None))
    with torch.no_grad():
        found = entropies(net.logits(last, data[0]), data[1])
    at = best(found, copies)
    reach = _reach(net, starts[at], (data[0][:64], data[1][:64]))
    return _Result(arms[at], found.view(-1, copies)[at].tolist(), reach)


def _measure(trial: Trial) -> Findings:
    copies, steps = trial.pick(quick=2, normal=3, full=10), trial.pick(quick=40, normal=600, full=2000)
    depths = trial.pick(quick=(10, 50), normal=(10, 20, 50, 100))
    images, labels = digits(trial.torch("digits"), 1297)[0]
    data = images.float(), labels
    found = {(kind, d): _trained(trial, kind, d, data, copies, steps) for kind in WIDTHS for d in depths}
    shallow, deep = found["highway", depths[0]], found["highway", depths[-1]]
    checks = [at_most(f"highway: loss of {depths[-1]} layers over that of {depths[0]}",
                      ratio([a / b for a, b in zip(deep.loss, shallow.loss, strict=True)]), 2)]  # fmt: skip
    over = {d: mean([v / CHANCE for v in found["plain", d].loss]) for d in depths if d >= 50}
    checks += [at_least(f"plain: loss of {d} layers over that of guessing", share, 0.9) for d, share in over.items()]
    checks += [reported(f"{kind}, {d} layers: gradient of the second hidden layer over the last's, before training",
                        ratio([max(v, 1e-300) for v in one.reach])) for (kind, d), one in found.items()]  # fmt: skip
    rows = [
        (kind, d, _net(kind, d).size, _said(found[kind, d].arm), str(mean(found[kind, d].loss)))
        for kind in WIDTHS
        for d in depths
    ]
    table = Table(f"Training loss after {steps} updates, means with 95 % intervals of {copies} copies",
                  ("kind", "layers", "weights", "learning rate (and bias)", "training loss"), rows)  # fmt: skip
    series = []
    for kind in WIDTHS:
        means = [mean(found[kind, d].loss) for d in depths]
        lows, highs = [min(found[kind, d].loss) for d in depths], [max(found[kind, d].loss) for d in depths]
        series.append(Series(kind, depths, [m.value for m in means], lows, highs, kind="both"))
    series.append(Series("guessing", (depths[0], depths[-1]), (CHANCE, CHANCE), kind="reference"))
    caption = f"Training loss by depth at equal numbers of weights; means of {copies} copies and their range."
    return Findings(
        checks, [Figure(caption, [Panel("hidden layers", "training loss / nats", series, log="xy")])], [table], NOTES
    )


def _said(arm: tuple[float, float]) -> str:
    bias, lr = arm
    return f"{lr:g} ({bias:g})" if bias else f"{lr:g}"


NOTES = (
    "A highway layer has a second matrix, its gate's; so it is narrower (20 units) than the plain one (28).",
    "Highway networks of 100 layers do train here, and plain ones hardly. What is not met is that they do so as well "
    "as those of 10 within 600 updates, with 3 copies whose interval is wide; and plain ones of 50 layers get some way "
    "down at a small learning rate.",
    "Before training the gradients of plain networks do not vanish, with weights of He et al. 2015; that is not why "
    "they stay behind.",
    "Srivastava et al. 2015 train with momentum and rectified or tanh units too, for far longer, at widths of 50 and "
    "more.",
)

claim = Claim(
    slide=(60,),
    kind="ARCH",
    statement="With gated connections that carry their input past each layer networks of a hundred layers train like "
    "those of ten, where plain ones of fifty do not train.",
    source="Kan Ren's slides, slide 60; Goodfellow, Bengio & Courville 2016, sec. 8.7.5; Srivastava, Greff & "
    "Schmidhuber 2015 (arXiv:1505.00387), eq. 3",
    equation="y = H(x) T(x) + x (1 - T(x)),   T(x) = sigmoid(W_T x + b_T),   b_T = -2 or -4 at first",
    claimed="the loss of 100 highway layers at most twice that of 10; plain ones of 50 and 100 at 0.9 of that of "
    "guessing or more",
    setting="Rectified units with weights of He et al. 2015 on 1,297 digits, 10 to 100 hidden layers at equal numbers "
    "of weights, SGD with momentum 0.9 at the best of 4 learning rates, of 2 and 2 first biases of the gate for "
    "highways; 600 minibatches of 32; 3 copies.",
    measure=_measure,
    seconds=61,
    changed="The same criteria; at first the gate's bias was -2 at all depths, with which highways of 50 and 100 "
    "layers did not train at any of the learning rates. A bias by depth is part of the source's search.",
)
