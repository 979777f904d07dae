"""Slide 42: how much Adam's β1, β2 and δ matter, and beside SGD how wrong the learning rate may be."""

import math
from itertools import islice, pairwise, product

import torch
from torch import Tensor

from ravine.claims._small_net import Net, batches, digits
from ravine.claims._walk import walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, Estimate, above, below, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.racing.estimate import mean, ratio
from ravine.rules import SGD, Adam, Momentum

RULES: dict[str, Rule] = {"SGD": SGD(), "momentum": Momentum(0.9), "Adam": Adam()}
RATES = torch.logspace(-5, 1.5, 27)
STEP = 0.25  # decades from one rate to the next
BETAS1, BETAS2, DELTAS = (0.7, 0.9, 0.97), (0.99, 0.999, 0.9999), (1e-9, 1e-8, 1e-7)
STANDARD = (0.9, 0.999, 1e-8)
FACTOR = 2.0  # how many times the default's loss still counts as no harm
GUESSING = math.log(10)


def _losses(
    rule: Rule, scale: float, seeds: list[int], marks: tuple[int, ...], rates: Tensor = RATES
) -> list[tuple[Tensor, Tensor]]:
    """Training and validation losses after the marked steps, by seed and rate; that of guessing where it is worse."""
    net = Net(16)
    x, y, a, b = digits()
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    start = net.start(generators).repeat_interleave(len(rates), 0)
    drawn = batches(generators, 64, repeat=len(rates))

    def batch() -> tuple[Tensor, Tensor]:
        images, labels = drawn()
        return scale * images, labels

    points = walk(rule, net.gradient(batch), start, rates.repeat(len(seeds))[:, None])
    found = []
    for k, p in enumerate(islice(points, marks[-1] + 1)):
        if k in marks:
            pair = (net.loss(p, scale * x, y), net.loss(p, scale * a, b))
            found.append(tuple(loss.nan_to_num(nan=GUESSING).clamp(max=GUESSING).view(-1, len(rates)) for loss in pair))
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


def _others(
    default: list[tuple[Tensor, Tensor]], seeds: list[int], marks: tuple[int, ...]
) -> tuple[list[Check], Table]:
    """The loss with other β1, β2 and δ over the default's, at the one rate that is best for the default."""
    place = int(default[-1][0].log().mean(0).argmin())
    rate = RATES[place : place + 1]
    plain = [[losses[:, place] for losses in pair] for pair in default]
    found: dict[tuple[float, float, float], list[list[Estimate]]] = {}
    for setting in product(BETAS1, BETAS2, DELTAS):
        if setting != STANDARD:
            ends = _losses(Adam(*setting[:2], eps=setting[2]), 1.0, seeds, marks, rate)
            found[setting] = [
                [ratio((a[:, 0] / b).tolist()) for a, b in zip(*pairs, strict=True)]
                for pairs in zip(ends, plain, strict=True)
            ]
    checks = []
    for mark, kind in ((1, 0), (0, 0), (1, 1)):
        worst = max((one[mark][kind] for one in found.values()), key=lambda gap: gap.value)
        what = f"worst of {len(found)} settings of β1, β2, δ, over the default: "
        what += f"{('training', 'validation')[kind]} loss, {marks[mark]} steps"
        checks.append(below(what, worst, FACTOR, role="claim" if (mark, kind) == (1, 0) else "condition"))
    for i, name in enumerate(("β1", "β2", "δ")):
        alone = [one[1][0] for at, one in found.items() if all(at[j] == STANDARD[j] for j in range(3) if j != i)]
        checks.append(reported(f"worst of {name} alone: training loss", max(alone, key=lambda gap: gap.value)))
    for name, steps in (("a tenth", -4), ("ten times", 4)):
        beside = ratio((default[-1][0][:, place + steps] / plain[-1][0]).tolist())
        checks.append(reported(f"{name} of that learning rate: training loss over that of the best", beside))
    rows = [(*at, *(str(gap) for gap in (one[1][0], one[1][1]))) for at, one in found.items()]
    title = f"Loss after {marks[-1]} steps over that of the default, at its best rate of {float(rate):.3g}"
    return checks, Table(title, ("β1", "β2", "δ", "training", "validation"), rows)


def _measure(trial: Trial) -> Findings:
    seeds = trial.seeds(trial.pick(quick=3, normal=5, full=20))
    marks = trial.pick(quick=(50, 150), normal=(100, 400))
    checks: list[Check] = []
    tables: list[Table] = []
    rows, series = [], []
    for scale, inputs in ((1.0, "pixels in [0, 1]"), (16.0, "pixels in [0, 16]")):
        found = {name: _losses(rule, scale, seeds, marks) for name, rule in RULES.items()}
        if scale == 1:
            checks, table = _others(found["Adam"], seeds, marks)
            tables.append(table)
            series = [Series(name, RATES.tolist(), losses[-1][0].mean(0).tolist(), kind="both")
                      for name, losses in found.items()]  # fmt: skip
        for mark, kind, common in product((0, 1), (0, 1), (True, False)):
            losses = {name: one[mark][kind] for name, one in found.items()}
            widths = _widths(losses, common)
            what = (inputs, marks[mark], ("training", "validation")[kind], "all rules" if common else "own")
            rows.append((*what, *(str(mean(width)) for width in widths.values())))
            if mark == 1 or (scale == 1 and kind == 0 and not common):
                text = f"{what[2]} loss, {what[1]} steps, {inputs}, best of {what[3]}"
                checks.append(above(f"decades of rates, Adam less SGD: {text}", _gap(widths), 0, role="condition"))
    caption = "The training loss after the last step by learning rate: how wide the valley is, on a logarithmic scale."
    figure = Figure(caption, [Panel("learning rate", "training loss / nats (mean)", series, log="xy")])
    columns = ("inputs", "steps", "loss", "best loss of", *RULES)
    tables.append(Table("Decades of learning rates within twice the best loss", columns, rows))
    return Findings(checks, [figure], tables, NOTES)


def _gap(widths: dict[str, list[float]]) -> Estimate:
    return mean([a - b for a, b in zip(widths["Adam"], widths["SGD"], strict=True)])


NOTES = (
    "The sentence is about all hyperparameters, and makes an exception of the learning rate. So the claim is about β1, "
    "β2 and δ at one good learning rate: 1 - β1 and 1 - β2 by factors of 3 and 10, δ by 10, in all combinations. How "
    "wide the valley of learning rates is beside that of SGD is a condition, by its interval.",
    "The one rate is the default's best of 27 on the same seeds, which favours the default.",
    "Where the worst setting's mean is below twice the default's loss and its interval is not, as at 5 seeds, the "
    "claim is undecided rather than refuted; the full scale has 20. What a tenth or ten times of the learning rate "
    "costs is shown beside it, and is far more than any of these settings does.",
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
    statement="Adam is generally regarded as fairly robust to the choice of its hyperparameters, though the learning "
    "rate sometimes needs to be changed from the suggested default.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.5.3",
    claimed="With every other β1, β2 and δ of the grid the loss is less than twice that of the default. Condition: the "
    "learning rates that end within twice the best loss span more decades for Adam than for SGD",
    setting="One hidden layer of 16 rectified units on scikit-learn's digits, batches of 64, 5 seeds, 100 and 400 "
    "steps. β1 of 0.7, 0.9, 0.97, β2 of 0.99, 0.999, 0.9999, δ of 1e-9, 1e-8, 1e-7 at the default's best rate, pixels "
    "in [0, 1], training loss after 400 steps. Conditions: after 100 steps, validation loss; 27 rates from 1e-5 to "
    "32, with pixels in [0, 1] and [0, 16], about the best loss of each rule or of all.",
    changed="First the claim was the window of learning rates: at least as many decades for Adam as for SGD, judged "
    "by the mean. By training loss after 400 steps it was -0.17 [-0.35, 0.01], which leaves it open. But the sentence "
    "excepts the learning rate; so the other hyperparameters decide, within twice the default's loss (grid and factor "
    "written down before they were run), and the window is a condition judged by its interval.",
    measure=_measure,
    seconds=20,
)
