"""Slide 42: how wrong the learning rate may be: Adam beside SGD and momentum."""

import math
from itertools import islice

import torch
from torch import Tensor

from ravine.claims._small_net import Net, batches, digits
from ravine.claims._walk import walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_least
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.racing.estimate import mean
from ravine.rules import SGD, Adam, Momentum

RULES: dict[str, Rule] = {"SGD": SGD(), "momentum": Momentum(0.9), "Adam": Adam()}
RATES = torch.logspace(-5, 1.5, 27)
STEP = 0.25  # decades from one rate to the next
GUESSING = math.log(10)


def _losses(rule: Rule, scale: float, seeds: list[int], marks: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    """Training and validation losses after the marked steps, by seed and rate; that of guessing where it is worse."""
    net = Net(16)
    x, y, a, b = digits()
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    start = net.start(generators).repeat_interleave(len(RATES), 0)
    drawn = batches(generators, 64, repeat=len(RATES))

    def batch() -> tuple[Tensor, Tensor]:
        images, labels = drawn()
        return scale * images, labels

    points = walk(rule, net.gradient(batch), start, RATES.repeat(len(seeds))[:, None])
    found = []
    for k, p in enumerate(islice(points, marks[-1] + 1)):
        if k in marks:
            pair = (net.loss(p, scale * x, y), net.loss(p, scale * a, b))
            found.append(tuple(loss.nan_to_num(nan=GUESSING).clamp(max=GUESSING).view(-1, len(RATES)) for loss in pair))
    return found  # type: ignore[return-value]


def _width(losses: Tensor) -> float:
    """Decades about the best rate in which the loss is at most twice the best one; between rates, by its logarithm."""
    logs = (losses / losses.min()).log2().tolist()
    best = logs.index(0.0)
    width = 0.0
    for side in (logs[best:], logs[best::-1]):
        for near, far in zip(side, side[1:], strict=False):
            width += STEP if far <= 1 else STEP * (1 - near) / (far - near)
            if far > 1:
                break
    return width


def _measure(trial: Trial) -> Findings:
    seeds = trial.seeds(trial.pick(quick=3, normal=5, full=20))
    marks = trial.pick(quick=(50, 150), normal=(100, 400))
    checks: list[Check] = []
    rows, series = [], []
    for scale, what in ((1.0, "pixels in [0, 1]"), (16.0, "pixels in [0, 16]")):
        found = {name: _losses(rule, scale, seeds, marks) for name, rule in RULES.items()}
        for mark, steps in enumerate(marks):
            for kind, judged in enumerate(("training", "validation")):
                widths = {name: [_width(one) for one in losses[mark][kind]] for name, losses in found.items()}
                rows.append((what, steps, judged, *(str(mean(w)) for w in widths.values())))
                for other in ("SGD", "momentum"):
                    gaps = mean([a - b for a, b in zip(widths["Adam"], widths[other], strict=True)])
                    text = f"decades, Adam less {other}: {judged} loss, {steps} steps, {what}"
                    deciding = scale == 1 and judged == "training" and other == "SGD"
                    checks.append(at_least(text, gaps, 0, role="claim" if deciding else "condition"))
        if scale == 1:
            series = [Series(name, RATES.tolist(), losses[-1][0].mean(0).tolist(), kind="both")
                      for name, losses in found.items()]  # fmt: skip
    caption = "The training loss after the last step by learning rate: how wide the valley is, on a logarithmic scale."
    figure = Figure(caption, [Panel("learning rate", "training loss / nats (mean)", series, log="xy")])
    table = Table("Decades of learning rates within twice the best loss", ("inputs", "steps", "loss", *RULES), rows)
    return Findings(checks, [figure], [table], NOTES)


NOTES = (
    "A width is that of the valley on a logarithmic scale; where the valley lies is another matter. Adam's stays near "
    "0.01 whatever the scale of inputs, and that of SGD moves with it.",
)

claim = Claim(
    slide=(42,),
    kind="ARCH",
    statement="Adam is fairly robust to the choice of its hyperparameters, though the learning rate may need to be "
    "changed from its default.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.5.3",
    claimed="The learning rates that end within twice the best loss span at least as many decades for Adam as for SGD",
    setting="One hidden layer of 16 rectified units on scikit-learn's digits, batches of 64, 27 rates from 1e-5 to 32, "
    "5 seeds, 100 and 400 steps, pixels in [0, 1]. Conditions: validation loss, momentum 0.9 for SGD, pixels in [0, "
    "16].",
    measure=_measure,
    seconds=60,
)
