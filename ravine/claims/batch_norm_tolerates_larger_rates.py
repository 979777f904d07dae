"""Slide 52: the largest learning rate at which training is stable, with batch normalization and without."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ravine.claims._normalized import PASS, SIDES, arms, digits, network, steps
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_least, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import ratio

RATES = tuple(2.0**k for k in range(-4, 9))
GUESSING = math.log(10)
UNITS: dict[str, tuple[type[nn.Module], float]] = {"sigmoid": (nn.Sigmoid, 1.0), "rectified": (nn.ReLU, 2**0.5)}
DEFINITIONS = {
    "stable": "loss finite and below that at the start, in every pass of the second half",
    "finite": "loss finite in every pass",
    "learns": "loss of the last pass below half of that of guessing",
}


class _Runs(NamedTuple):
    losses: Tensor
    """The mean training loss of each pass: (passes, rates, seeds)."""
    start: Tensor
    """Of all training images, before the first step: (seeds,)."""

    def worst(self) -> Tensor:
        """The largest of the second half: (rates, seeds)."""
        return self.losses[len(self.losses) // 2 :].amax(0)

    def largest(self, definition: str) -> Tensor:
        """The largest rate (seeds,) before the first that is not stable, or not finite; the largest that learns."""
        if definition == "learns":
            at = torch.arange(len(RATES))[:, None] * (self.losses[-1] < GUESSING / 2)
            return torch.tensor(RATES)[at.amax(0)]
        good = self.losses.isfinite().all(0)
        if definition == "stable":
            good &= (self.losses[len(self.losses) // 2 :] < self.start).all(0)
        return torch.tensor(RATES)[good.long().cumprod(0).sum(0).clamp(min=1) - 1]


def _run(unit: str, norm: bool, seeds: list[int], passes: int) -> _Runs:
    kind, scale = UNITS[unit]
    data = digits(seeds)
    copies = arms([network(seed, norm, kind, scale, scale) for seed in seeds], RATES)
    start = copies.losses(data.train).detach()[: len(seeds)]
    losses = torch.stack(list(steps(copies, data, seeds, passes * PASS)))
    return _Runs(losses.view(passes, PASS, len(RATES), -1).mean(1), start)


def _measure(trial: Trial) -> Findings:
    seeds = trial.seeds(trial.pick(quick=2, normal=5, full=10))
    passes = trial.pick(quick={"sigmoid": 6, "rectified": 4}, normal={"sigmoid": 50, "rectified": 20})
    runs = {(unit, side): _run(unit, norm, seeds, passes[unit]) for unit in UNITS for side, norm in SIDES.items()}
    checks, rows = [], []
    for unit in UNITS:
        for definition, meaning in DEFINITIONS.items():
            found = {side: runs[unit, side].largest(definition) for side in SIDES}
            over = ratio((found["with"] / found["without"]).tolist())
            what = f"largest rate, with over without: {unit} units, {definition}"
            if definition == "stable":
                checks.append(at_least(what, over, 10, role="claim" if unit == "sigmoid" else "condition"))
            else:
                checks.append(reported(what, over))
            rows.append((unit, f"{definition}: {meaning}", *(_said(found[side]) for side in SIDES), str(over)))
    columns = ("units", "definition", *(f"{side}: smallest to largest of the seeds" for side in SIDES), "ratio")
    title = "The largest learning rate by each definition; + where it is the last of the grid"
    return Findings(checks, [_figure(runs)], [Table(title, columns, rows)], NOTES)


def _said(rates: Tensor) -> str:
    ends = [f"{rate:g}{'+' if rate == RATES[-1] else ''}" for rate in (float(rates.min()), float(rates.max()))]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _figure(runs: dict[tuple[str, str], _Runs]) -> Figure:
    panels = []
    for unit in UNITS:
        lines = []
        for side in SIDES:
            worst = runs[unit, side].worst()
            shown = worst.isfinite().all(1)
            middle = worst[shown].median(1).values
            lines.append(Series(side, torch.tensor(RATES)[shown].tolist(), middle.tolist(),
                                worst[shown].amin(1).tolist(), worst[shown].amax(1).tolist(), kind="both"))  # fmt: skip
        start = float(runs[unit, "without"].start.mean())
        lines.append(Series("at the start", (RATES[0], RATES[-1]), (start, start), kind="reference"))
        panels.append(Panel("learning rate", "largest training loss of a pass / nats", lines, f"{unit} units", "xy"))
    caption = (
        "The largest mean training loss of a pass in the second half of training; median and range of the seeds. A "
        "rate at which it was not finite for some seed has no point."
    )
    return Figure(caption, panels)


NOTES = (
    "A network of sigmoid units cannot go to infinity here: its hidden units stay within 0 and 1, and at too large a "
    "rate they saturate, the loss being large and finite. So being finite tells nothing about it: both sides are at "
    "the end of the grid. Stable in a user's sense is a loss that has gone down and stays there; by that the ratio is "
    "about 6, and 10 lies above its interval. By what learns at all it is about 8, and the interval holds 10.",
    "Rectified units without normalization do go to infinity, above rates of 1 or 2; with it too, above 32. There the "
    "ratio passes, with an interval from half of the bound to three times it.",
    "The source names no largest stable rate; 10 is a bound of this project. It has 5 times the rate, at which plain "
    "Inception's parameters went to the machine's infinity, and 30 times (Ioffe & Szegedy 2015, sec. 4.2.2).",
    "The grid of rates was written down after a trial of seven rates on two other seeds.",
    "Rates are a factor of 2 apart, and each largest rate is known up to that. The output layer, which is not "
    "normalized, may be what limits the rate with batch normalization; that was not measured.",
    "Why it helps is not measured here. Ioffe & Szegedy 2015 held that inputs of a layer shift less; Santurkar, "
    "Tsipras, Ilyas & Madry 2018 (arXiv:1805.11604) made them shift behind the normalization, saw training as good as "
    "before, and point to a smoother loss instead.",
)

claim = Claim(
    slide=(52,),
    kind="ARCH",
    statement="With batch normalization training is stable at far larger learning rates.",
    source="Kan Ren's slides, slide 52; Ioffe & Szegedy 2015 (arXiv:1502.03167), sec. 3.3 and 4.2",
    claimed="a largest stable learning rate at least 10 times as large",
    setting="MLP 64-100-100-100-10 on 960 of scikit-learn's digits, other ones for each of 5 seeds; SGD, minibatches "
    "of 60; 13 rates from 1/16 to 256. Stable: the mean training loss of every pass in the second half is finite and "
    "below that at the start, at this rate and all smaller ones of the grid. Sigmoid units, weights of variance "
    "1/fan-in, 50 passes; condition: rectified units, 2/fan-in, 20 passes. Two other definitions are reported.",
    measure=_measure,
    seconds=65,
)
