"""Slide 60: how much of the training loss is due to the model, and how much to the optimizer."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch

from ravine.claims._deep_nets import CHANCE, Deep, arms, batches, best, entropies, gradient
from ravine.claims._stacked import Data, digits
from ravine.claims._walk import walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import above, at_least, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.racing.estimate import mean
from ravine.rules import SGD, Adam, Momentum, RMSProp

DEPTH, BATCH = 20, 32
FAMILIES = {
    "sigmoid, plain": (Deep(DEPTH, unit="sigmoid"), "classic"),
    "ReLU, plain": (Deep(DEPTH), "he"),
    "ReLU, skips": (Deep(DEPTH, skip="residual"), "he"),
}
OPTIMIZERS: dict[str, tuple[Rule, Sequence[float]]] = {
    "SGD": (SGD(), (0.01, 0.03, 0.1, 0.3)),
    "momentum": (Momentum(0.9), (0.003, 0.01, 0.03, 0.1)),
    "RMSProp": (RMSProp(), (3e-4, 1e-3, 3e-3, 1e-2)),
    "Adam": (Adam(), (3e-4, 1e-3, 3e-3, 1e-2)),
}


def _losses(
    trial: Trial, family: str, optimizer: str, data: Data, copies: int, steps: int
) -> tuple[list[float], float]:
    """The training loss of every copy in the end, at the learning rate of the smallest mean; and which that is."""
    net, how = FAMILIES[family]
    rule, lrs = OPTIMIZERS[optimizer]
    lrs = trial.pick(quick=lrs[2:], normal=lrs)
    weights, lr = arms(net.start([trial.torch("start", i) for i in range(copies)], how), lrs)
    draw = batches(*data, BATCH, [trial.torch("batches", i) for i in range(copies)], len(lrs))

    def losses(w: torch.Tensor) -> torch.Tensor:
        x, y = draw()
        return entropies(net.logits(w, x), y)

    last = next(islice(walk(rule, gradient(losses), weights, lr), steps, None))
    with torch.no_grad():
        found = entropies(net.logits(last, data[0]), data[1])
    at = best(found, copies)
    return found.view(-1, copies)[at].tolist(), lrs[at]


def _shares(losses: np.ndarray) -> tuple[list[float], list[float]]:
    """Of each copy: the shares of the sum of squares of log loss (families, optimizers, copies) due to either."""
    logs = np.log(losses)
    centred = logs - logs.mean((0, 1))
    total = (centred**2).sum((0, 1))
    family = losses.shape[1] * (centred.mean(1) ** 2).sum(0)
    optimizer = losses.shape[0] * (centred.mean(0) ** 2).sum(0)
    return list(family / total), list(optimizer / total)


def _measure(trial: Trial) -> Findings:
    copies, steps = trial.pick(quick=2, normal=5, full=10), trial.pick(quick=60, normal=500, full=1000)
    images, labels = digits(trial.torch("digits"), 1297)[0]
    data = images.float(), labels
    cells = {(f, o): _losses(trial, f, o, data, copies, steps) for f in FAMILIES for o in OPTIMIZERS}
    losses = np.array([[cells[f, o][0] for o in OPTIMIZERS] for f in FAMILIES])
    means = losses.mean(2)
    top, bottom = int(means.mean(1).argmin()), int(means.mean(1).argmax())
    worst, finest = int(means[top].argmax()), int(means[bottom].argmin())
    family, optimizer = _shares(losses)
    names, rules = list(FAMILIES), list(OPTIMIZERS)
    checks = [
        above(f"log loss of {rules[finest]}, the best on '{names[bottom]}', less that of {rules[worst]}, the worst on "
              f"'{names[top]}'", mean(np.log(losses[bottom, finest] / losses[top, worst]).tolist()), claimed="above 0"),
        at_least("share of the variance of log loss due to the family", mean(family), 0.6),
        reported("share due to the optimizer", mean(optimizer)),
    ]  # fmt: skip
    rows = [(f, o, cells[f, o][1], str(mean(cells[f, o][0]))) for f in FAMILIES for o in OPTIMIZERS]
    table = Table(f"Training loss after {steps} updates, means with 95 % intervals of {copies} copies; guessing is "
                  f"{CHANCE:.3f}", ("family", "optimizer", "learning rate", "training loss"), rows)  # fmt: skip
    series = []
    for o in OPTIMIZERS:
        found = [mean(cells[f, o][0]) for f in FAMILIES]
        series.append(Series(o, range(3), [m.value for m in found], kind="both"))
    at = {f: float(i) for i, f in enumerate(FAMILIES)}
    caption = "Training loss of 20 layers by the family of the model: what differs between optimizers is less."
    panel = Panel("family", "training loss / nats", series, log="y", at=at)
    return Findings(checks, [Figure(caption, [panel])], [table], NOTES)


NOTES = (
    "The share depends on what is put into the table: a family that no optimizer trains makes the family's large.",
    "Shares are of the sum of squares of a table of families and optimizers, for each copy; what is left is their "
    "interplay.",
)

claim = Claim(
    slide=(60,),
    kind="ARCH",
    statement="It is more important to choose a family of models that is easy to optimize than a powerful optimizer.",
    source="Kan Ren's slides, slide 60; Goodfellow, Bengio & Courville 2016, sec. 8.7.5",
    claimed="the worst optimizer on the best family beats the best on the worst; the family explains 60 % of the "
    "variance of log loss or more",
    setting="20 hidden layers of 24 units on 1,297 digits: sigmoid units (weights uniform within 1/sqrt(fan-in)), "
    "rectified ones (He et al. 2015), and these with skips that begin at 0; SGD, momentum, RMSProp and Adam, each at "
    "the best of 4 learning rates; 500 minibatches of 32; 5 copies.",
    measure=_measure,
    seconds=54,
)
