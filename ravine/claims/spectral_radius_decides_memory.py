"""Slide 18: what a plain recurrent net is to remember over 30 steps, by the spectral radius of W at the start."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ravine.claims._adding import TOLERANCE, sequences, wrong
from ravine.claims._plain_rnn import answers, clipped, gradient, start
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, above, at_most, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.init import identity, sparse
from ravine.racing.estimate import mean
from ravine.rules import Nesterov

UNITS, LENGTH, BATCH, LOOKS = 50, 30, 32, 20
RATES = (0.003, 0.01, 0.03)
RULE = Nesterov(0.98)
VARIANCE = 1 / 6  # of the sum of two numbers from [0, 1]: the error of saying its mean


def _radius(rho: float) -> Callable[[torch.Generator], Tensor]:
    """15 incoming weights a unit, scaled to the spectral radius."""

    def drawn(chance: torch.Generator) -> Tensor:
        w = sparse((UNITS, UNITS), k=15, generator=chance)
        largest: Tensor = torch.linalg.eigvals(w).abs().max()
        return w * (rho / largest)

    return drawn


STARTS: dict[str, Callable[[torch.Generator], Tensor]] = {
    "radius 1.1": _radius(1.1),
    "identity": lambda chance: identity((UNITS, UNITS), generator=chance),
    "radius 0.5": _radius(0.5),
}


class _Row(NamedTuple):
    """One copy; copies of one seed have the same random numbers and see the same sequences."""

    name: str
    lr: float
    seed: int


def _train(trial: Trial, rows: Sequence[_Row], steps: int) -> tuple[Tensor, Tensor]:
    """Share of wrong answers and mean squared error on 1,000 sequences, (LOOKS + 1, rows); rates fall to 0 linearly."""
    seeds = sorted({row.seed for row in rows})
    who = torch.tensor([seeds.index(row.seed) for row in rows])
    p = torch.stack(
        [start(STARTS[row.name](trial.torch("W", row.seed)), trial.torch("rest", row.seed)) for row in rows]
    )
    lr = torch.tensor([row.lr for row in rows])[:, None]
    chance = trial.torch("sequences", *seeds)
    x, y = sequences(1, 1000, LENGTH, trial.torch("judged"))
    x, y = x.expand(len(rows), -1, -1, -1), y.expand(len(rows), -1)
    state, found = RULE.start(p), []
    for t in range(steps + 1):
        if t % (steps // LOOKS) == 0:
            said = answers(p, x, UNITS).nan_to_num(nan=math.inf)  # of a net that diverged
            found.append(torch.stack([wrong(said, y), (said - y).square().mean(1).double()]))
        a, b = sequences(len(seeds), BATCH, LENGTH, chance)
        slope = clipped(gradient(p, a[who], b[who], UNITS), 1.0)
        u, scale, state = RULE.move(slope, p, t + 1, state, lr * (1 - t / steps))
        p = p - scale * u
    shares, squares = torch.stack(found, 1)
    return shares, squares


def _measure(trial: Trial) -> Findings:
    seeds, steps = trial.pick(quick=2, normal=3, full=8), trial.pick(quick=20, normal=7000, full=20000)
    rates = trial.pick(quick=RATES[:1], normal=RATES)
    rows = [_Row(name, lr, seed) for name in STARTS for lr in rates for seed in range(seeds)]
    curves = [part.view(LOOKS + 1, len(STARTS), len(rates), seeds).numpy() for part in _train(trial, rows, steps)]
    shares, left = curves[0], curves[1][-1] / VARIANCE
    best = np.median(left, 2).argmin(1)
    ends = {name: mean(shares[-1, i, best[i]].tolist()) for i, name in enumerate(STARTS)}
    what = f"share of answers off by more than {TOLERANCE}, W of"
    checks: list[Check] = [
        at_most(f"{what} spectral radius 1.1", ends["radius 1.1"], 0.1),
        at_most(f"{what} the identity", ends["identity"], 0.1),
        above(f"{what} spectral radius 0.5", ends["radius 0.5"], 0.1),
    ]
    lines, series, at = [], [], np.linspace(0, steps, LOOKS + 1).tolist()
    for i, name in enumerate(STARTS):
        learnt = int((left[i, best[i]] < 0.1).sum())
        checks.append(reported(f"seeds with less than a tenth of the variance left, of {seeds}, {name}", learnt))
        for j, lr in enumerate(rates):
            cells = (f"{shares[-1, i, j].mean():.3g}", "  ".join(f"{end:.3g}" for end in sorted(left[i, j])))
            lines.append((name, f"{lr:g}" + (" (best)" if j == best[i] else ""), *cells))
        runs = shares[:, i, best[i]]
        series.append(Series(name, at, runs.mean(1), runs.min(1), runs.max(1)))
    series.append(Series("solved", (0, steps), (0.1, 0.1), kind="reference"))
    columns = ("W at the start", "learning rate", "share of wrong answers", "squared error / variance, each seed")
    table = Table(f"After {steps} updates, {seeds} seeds", columns, lines)
    caption = "Share of wrong answers to the adding problem over 30 steps, at the best learning rate of each start: "
    panel = Panel("update", "share of wrong answers", series)
    return Findings(checks, [Figure(caption + "mean of the seeds, and their range.", [panel])], [table], NOTES)


NOTES = (
    "Sutskever et al. (2013, Table 5) report such shares for 80 steps, 100 units, spectral radius 1.1, 50,000 updates "
    "with batches of 100, and 4 seeds: 0.00025 with Nesterov momentum 0.995, 0.02 with 0.9, 0.39 without momentum, and "
    "0.82 where only biases are learnt. Here sequences, nets, batches and training are all smaller.",
    "A net that says the mean has a share of 0.92; one that is right about one of the two numbers, half of the "
    "variance left. The share asks for more than that the two marks be remembered: off by less than 0.04 in sums of "
    "standard deviation 0.41.",
    "No start comes to a share of 0.1 in 7,000 updates; the identity comes nearest. At the chosen rates the order is "
    "the claimed one: no net from 0.5 leaves the mean, all from the identity do, and two of three from 1.1.",
    "The radius is that of W at the start, and W is learnt: at the largest rate one net of three from 0.5 got to a "
    "tenth of the variance, so that 0.5 delays learning and does not forbid it.",
    "From 1.1 the best rate is the largest of the grid, so that a better one may lie beyond it. The settings were "
    "tried out on nets that begin near 1, not on 0.5.",
)

claim = Claim(
    slide=(18,),
    kind="ARCH",
    statement="A recurrent net multiplies by the same W at each step, so that what is 30 steps back can be learnt "
    "where W begins near a spectral radius of 1, given momentum, and not where it begins at 0.5.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.2.5; Sutskever, Martens, Dahl & Hinton 2013, sec. 4, Table 5",
    equation="dh_T/dh_0 = Π diag(φ'(a_t)) W;   ρ^30 = 17 (ρ = 1.1), 1 (1), 9e-10 (0.5)",
    claimed="from the identity and from a spectral radius of 1.1 fewer than 10 % of the answers are off by more than "
    "0.04; from 0.5 more",
    setting="Adding problem over 30 steps; 50 tanh units, 15 random weights into each scaled to the radius, or the "
    "identity; Nesterov momentum 0.98, gradients clipped to norm 1, batches of 32, 7,000 updates (quick: 20; full: "
    "20,000), learning rate falling to 0, from the best of three; 3 seeds (quick: 2; full: 8).",
    measure=_measure,
    seconds=120,
    changed="The same criteria; the learning rate was at first the best of 0.001, 0.003 and 0.01 on one seed, and "
    "judged on 5 others: shares of 0.67 [0.23, 1.12] from 1.1, 0.51 [0.25, 0.77] from the identity, 0.93 from 0.5. The "
    "first two chose 0.01, the grid's end, with which nets of other seeds stayed at the mean. So the grid goes on to "
    "0.03, and all seeds choose.",
)
