"""Slide 19: training takes a long and winding way to a place that is near."""

import torch

from ravine.claims._paths import BATCH, WIDTHS, Net, Way, trained
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import above, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean
from ravine.rules import SGD


def _ways(trial: Trial) -> dict[float, Way]:
    copies, epochs = trial.pick(quick=5, normal=10), trial.pick(quick=20, normal=60)
    return {lr: trained(trial, f"{lr}", SGD(), lr, epochs, copies, Net()) for lr in (0.05, 0.2)}


def _so_far(way: Way) -> tuple[list[float], list[float]]:
    """After every epoch, mean over runs: the distance from the start, and the length of the polygon of epochs."""
    places = torch.stack(way.at)
    away = (places - places[0]).norm(dim=2).mean(1)
    gone = (places[1:] - places[:-1]).norm(dim=2).cumsum(0).mean(1)
    return away.tolist(), [0.0, *gone.tolist()]


def _measure(trial: Trial) -> Findings:
    checks, panels = [], []
    for lr, way in _ways(trial).items():
        ratios = (way.length / way.distance).tolist()
        places = torch.stack(way.at)
        smooth = (places[1:] - places[:-1]).norm(dim=2).sum(0) / way.distance
        relative = way.distance / way.at[0].norm(dim=1)
        checks += [
            above(f"length of the way / distance of its ends, ε = {lr}", mean(ratios), 2),
            reported(f"the same, by the places after each epoch alone, ε = {lr}", mean(smooth.tolist())),
            reported(f"distance / length of the first weights, ε = {lr}", mean(relative.tolist())),
        ]
        away, gone = _so_far(way)
        epochs = range(len(away))
        series = [Series("gone, epoch by epoch", epochs, gone), Series("away from the start", epochs, away)]
        panels.append(Panel("epoch", "length in the space of weights", series, title=f"ε = {lr}"))
    caption = (
        "How far training has gone, from epoch to epoch, and how far it is from where it began; means of the runs."
    )
    return Findings(checks, [Figure(caption, panels)], notes=NOTES)


NOTES = (
    "Most of the length is the zigzag of minibatches: joined epoch by epoch, the way is 1.4 to 1.6 times as long as "
    "the distance. That it is long, here, is the noise of steps more than a mountain that it has to go around.",
)

claim = Claim(
    slide=(19,),
    kind="ARCH",
    statement="Much of the time of training goes into the length of its way to the solution: local steps take a way "
    "far longer than the distance.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.2.7",
    equation="sum of ‖θ_{t+1} - θ_t‖ over ‖θ* - θ0‖",
    claimed="the way is more than twice as long as the distance of its ends",
    setting=f"scikit-learn's digits, MLP {'-'.join(map(str, WIDTHS))} (ReLU), SGD with minibatches of {BATCH} at 0.05 "
    "and 0.2, 60 epochs, float64, 10 runs each.",
    measure=_measure,
    seconds=6,
)
