"""Slide 55: an exponential average of a network's weights; and why one does not average from the beginning."""

import torch
from torch import Tensor, nn

from ravine.claims._small_net import Net, batches, digits
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import Estimate, at_least, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.optimizer import Optimizer
from ravine.racing.estimate import ratio, share
from ravine.rules import EMA, SGD, chain

COPIES, STEPS, LR, BATCH, DECAY = 10, 2000, 0.5, 16, 0.99
WAY = torch.linspace(0, 1, 41)  # from one network to another


def _trained(trial: Trial, steps: int) -> tuple[Tensor, Tensor]:
    """The weights of all copies after training at a constant learning rate, and their exponential averages."""
    net = Net()
    weights = nn.Parameter(net.start([trial.torch("start", i) for i in range(COPIES)]))
    gradient = net.gradient(batches([trial.torch("batches", i) for i in range(COPIES)], BATCH))
    optimizer = Optimizer([weights], chain(SGD(), EMA(DECAY)), lr=LR, execution="loop")
    for _ in range(steps):
        weights.grad = gradient(weights)
        optimizer.step()
    with optimizer.swapped():
        averaged = weights.detach().clone()
    return weights.detach(), averaged


def _losses(weights: Tensor) -> list[float]:
    _, _, x, y = digits()
    return [loss.item() for loss in Net().loss(weights, x, y)]


def _over(a: list[float], b: list[float]) -> Estimate:
    return ratio([x / y for x, y in zip(a, b, strict=True)])


def _measure(trial: Trial) -> Findings:
    last, averaged = _trained(trial, trial.pick(quick=600, normal=STEPS))
    of_last, of_average = _losses(last), _losses(averaged)
    better = sum(b < a for a, b in zip(of_last, of_average, strict=True))
    pairs = [(averaged[i], averaged[i + 1]) for i in range(0, COPIES, 2)]
    ways = [_losses(torch.stack([torch.lerp(a, b, float(s)) for s in WAY])) for a, b in pairs]
    middle = [way[len(WAY) // 2] for way in ways]
    worse = [m > max(way[0], way[-1]) for m, way in zip(middle, ways, strict=True)]
    checks = [
        at_least("share of seeds in which the average's test loss is lower", share(better, COPIES), 0.9),
        reported("test loss of the average over the last iterate's", _over(of_average, of_last)),
        at_least("share of pairs of networks whose mean is worse than both", share(sum(worse), len(worse)), 1),
        reported("test loss of the mean of two over the worse one's",
                 ratio([m / max(way[0], way[-1]) for m, way in zip(middle, ways, strict=True)])),
    ]  # fmt: skip
    lines = [Series(f"pair {i}", WAY.tolist(), way) for i, way in enumerate(ways, 1)]
    lasts = list(range(1, COPIES + 1))
    panels = [
        Panel("seed", "test loss, nats", [Series("last iterate", lasts, of_last, kind="points"),
                                          Series("average", lasts, of_average, kind="points")], title="along one run"),
        Panel("share of the second network", "test loss, nats", lines, title="between two runs"),
    ]  # fmt: skip
    caption = "An average over the end of one run is better than its last iterate; one of two runs is worse than both."
    return Findings(checks, [Figure(caption, panels)], notes=NOTES)


NOTES = (
    "Two networks that are trained from different weights lie in different basins, if only since their hidden units "
    "stand in another order; between them the loss is high. So an average over a run whose beginning counts may be "
    "worse than the last iterate: that is why the book gives the past a weight that falls exponentially.",
)

claim = Claim(
    slide=(55,),
    kind="ARCH",
    statement="For networks one takes an exponential average of the weights, since the mean over the whole way, "
    "through regions that are far apart, would not be a good point.",
    source="Kan Ren's slides, slide 55; Goodfellow, Bengio & Courville 2016, sec. 8.7.3, eq. 8.39",
    equation="θ̂ ← αθ̂ + (1 - α)θ",
    claimed="at a constant learning rate the average has the lower test loss in 9 of 10 seeds; the mean of two "
    "networks that were trained by themselves is worse than both",
    setting=f"64-32-10 rectified network on scikit-learn's digits, SGD with ε = {LR}, minibatches of {BATCH}, "
    f"{STEPS:,} steps, α = {DECAY}; 10 seeds, 5 pairs.",
    measure=_measure,
    seconds=8,
)
