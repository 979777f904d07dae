"""Slide 42: how wrong the learning rate may be: Adam beside SGD and momentum."""

import math
from itertools import islice, pairwise, product

import torch
from torch import Tensor

from ravine.claims._small_net import Net, batches, digits
from ravine.claims._walk import walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, Estimate, at_least
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


def _width(losses: Tensor, best: float) -> float:
    """Decades about the rule's best rate in which the loss is at most twice `best`; between rates, by its logarithm."""
    logs = (losses / best).log2().tolist()
    place = logs.index(min(logs))
    if logs[place] > 1:
        return 0.0
    width = 0.0
    for side in (logs[place:], logs[place::-1]):
        for near, far in pairwise(side):
            width += STEP if far <= 1 else STEP * (1 - near) / (far - near)
            if far > 1:
                break
    return width


def _widths(losses: dict[str, Tensor], common: bool) -> dict[str, list[float]]:
    """By rule and seed, about the best loss of all rules or of the rule's own."""
    all_best = torch.stack([one.amin(1) for one in losses.values()]).amin(0)
    best = {name: all_best if common else one.amin(1) for name, one in losses.items()}
    return {
        name: [_width(row, float(low)) for row, low in zip(one, best[name], strict=True)]
        for name, one in losses.items()
    }


def _measure(trial: Trial) -> Findings:
    seeds = trial.seeds(trial.pick(quick=3, normal=5, full=20))
    marks = trial.pick(quick=(50, 150), normal=(100, 400))
    checks: list[Check] = []
    rows, series = [], []
    for scale, inputs in ((1.0, "pixels in [0, 1]"), (16.0, "pixels in [0, 16]")):
        found = {name: _losses(rule, scale, seeds, marks) for name, rule in RULES.items()}
        for mark, kind, common in product((0, 1), (0, 1), (True, False)):
            losses = {name: one[mark][kind] for name, one in found.items()}
            widths = _widths(losses, common)
            what = (inputs, marks[mark], ("training", "validation")[kind], "all rules" if common else "own")
            rows.append((*what, *(str(mean(width)) for width in widths.values())))
            decides = scale == 1 and kind == 0 and not common
            if decides or mark == 1:
                text = f"{what[2]} loss, {what[1]} steps, {inputs}, best of {what[3]}"
                checks.append(
                    at_least(
                        f"decades, Adam less SGD: {text}", _gap(widths), 0, role="claim" if decides else "condition"
                    )
                )
        if scale == 1:
            series = [Series(name, RATES.tolist(), losses[-1][0].mean(0).tolist(), kind="both")
                      for name, losses in found.items()]  # fmt: skip
    caption = "The training loss after the last step by learning rate: how wide the valley is, on a logarithmic scale."
    figure = Figure(caption, [Panel("learning rate", "training loss / nats (mean)", series, log="xy")])
    columns = ("inputs", "steps", "loss", "best loss of", *RULES)
    table = Table("Decades of learning rates within twice the best loss", columns, rows)
    return Findings(checks, [figure], [table], NOTES)


def _gap(widths: dict[str, list[float]]) -> Estimate:
    return mean([a - b for a, b in zip(widths["Adam"], widths["SGD"], strict=True)])


NOTES = (
    "After 400 steps Adam's best training loss is so low that fewer rates come within twice of it than of SGD's best. "
    "By validation loss, or early in training, Adam's valley is the wider one.",
    "A rule that does badly looks tolerant: where SGD's best loss is not below half of guessing, every rate is within "
    "twice of it. Measured against the best loss of all rules the same valleys are much narrower for SGD; but that "
    "measures speed as well.",
    "By its own best loss, momentum's valley is about as wide as Adam's.",
)

claim = Claim(
    slide=(42,),
    kind="ARCH",
    statement="Adam is fairly robust to the choice of its hyperparameters, though the learning rate may need to be "
    "changed from its default.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.5.3",
    claimed="The learning rates that end within twice the best loss span at least as many decades for Adam as for SGD",
    setting="One hidden layer of 16 rectified units on scikit-learn's digits, batches of 64, 27 rates from 1e-5 to 32, "
    "5 seeds, 100 and 400 steps, pixels in [0, 1], twice the best training loss of each rule. Conditions: validation "
    "loss, pixels in [0, 16], twice the best loss of all rules.",
    measure=_measure,
    seconds=12,
)
