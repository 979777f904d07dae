"""Slide 36: a bias of 0.1 for rectified units: how many are active at the start, how many dead at the end."""

import math

import numpy as np
import torch
from torch import Tensor

from ravine.claims._deep import passes, widened
from ravine.claims._stacked import cross_entropy, digits, networks, outputs
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_least, reported, within
from ravine.core.figure import Figure, Panel, Series
from ravine.init import RandomWalk

BIAS, WIDTHS, RATES = 0.1, (64, 100, 100, 10), (0.03, 0.1, 0.3)
RATE = 0.1  # at which the deaths are compared
SPREADS = (0.03, 0.1, 0.3, 1.0)


def _active(std: float, bias: float, chance: torch.Generator) -> float:
    """Share of (unit, input) pairs with w·x + b > 0 for pre-activations of that standard deviation."""
    w = torch.randn(1000, 100, generator=chance, dtype=torch.float64) * std / 10
    return float((w @ torch.randn(100, 400, generator=chance, dtype=torch.float64) + bias > 0).double().mean())


def _dead(trial: Trial, bias: float, seeds: int, epochs: int) -> np.ndarray:
    """Share of hidden units (%) that no training image activates after training: (seeds, rates)."""
    ((x, y),) = digits(trial.torch("data"), 1000)
    parts = widened(networks(WIDTHS, seeds, trial.torch("init")), len(RATES))
    with torch.no_grad():
        for offset in parts[1:-1:2]:
            offset += bias
    lr = torch.tensor(RATES).repeat(seeds)
    for _ in passes(
        parts,
        lambda p, a, b: cross_entropy(outputs(p, a), b),
        (x.float(), y),
        lr,
        batch=20,
        epochs=epochs,
        chance=trial.torch("order"),
        orders=seeds,
    ):
        pass
    with torch.no_grad():
        first = torch.relu(x.float() @ parts[0] + parts[1])
        second = torch.relu(first @ parts[2] + parts[3])
        shares = torch.cat([~(h > 0).any(1) for h in (first, second)], 1).double().mean(1)
    return np.asarray(100 * shares.view(seeds, -1))


def _drift(bias: float, chance: torch.Generator) -> Tensor:
    """log10 of the pre-activations' mean square through 200 layers of 100 units with the random-walk gain, 20 nets."""
    std = RandomWalk("relu").spread((100, 100))
    h, found = torch.randn(20, 100, 1, generator=chance), []
    for _ in range(200):
        a = std * torch.randn(20, 100, 100, generator=chance) @ h + bias
        h = a.relu()
        found.append(a.square().mean((1, 2)).log10().mean())
    return torch.stack(found)


def _measure(trial: Trial) -> Findings:
    checks: list[Check] = []
    for std in SPREADS:
        foretold = 0.5 * (1 + math.erf(BIAS / std / math.sqrt(2)))
        checks.append(
            within(
                f"active share at the start, bias 0.1, pre-activations of std {std}",
                _active(std, BIAS, trial.torch("w")),
                foretold,
                tol=0.02,
            )
        )
    checks.append(within("active share at the start, bias 0", _active(0.1, 0.0, trial.torch("w")), 0.5, tol=0.02))
    seeds, epochs = trial.pick(quick=5, normal=10), trial.pick(quick=5, normal=15)
    without, with_ = (_dead(trial, bias, seeds, epochs) for bias in (0.0, BIAS))
    rows = []
    for i, rate in enumerate(RATES):
        rows.append(
            (
                f"{rate:g}",
                f"{without[:, i].mean():.3g}",
                f"{with_[:, i].mean():.3g}",
                f"{int((with_[:, i] < without[:, i]).sum())} of {seeds}",
            )
        )
        fewer = float((with_[:, i] < without[:, i]).mean())
        what = f"share of seeds with fewer dead units after training from 0.1, learning rate {rate:g}"
        checks.append(at_least(what, fewer, 0.8, role="claim" if rate == RATE else "condition"))
    for bias in (0.0, BIAS):
        what = f"random walk, 200 layers, bias {bias:g}: log10 of the mean square of the sums, last over first layer"
        drift = _drift(bias, trial.torch("deep"))
        checks.append(reported(what, float(drift[-1] - drift[0])))
    table = Table(
        "Dead hidden units after training (%), means", ("learning rate", "bias 0", "bias 0.1", "fewer with 0.1"), rows
    )
    return Findings(checks, [_figure(trial)], [table], NOTES)


def _figure(trial: Trial) -> Figure:
    stds = np.geomspace(0.01, 3, 25).tolist()
    law = [0.5 * (1 + math.erf(BIAS / std / math.sqrt(2))) for std in stds]
    seen = [_active(std, BIAS, trial.torch("w")) for std in stds[::3]]
    series = [Series("measured", stds[::3], seen, kind="points"), Series("Φ(0.1/σ)", stds, law, kind="reference")]
    caption = "Share of inputs for which a rectified unit with bias 0.1 is active at the start."
    return Figure(caption, [Panel("std σ of the unit's input without bias", "active share", series, log="x")])


NOTES = (
    "The bias helps where it is large beside what the inputs bring: for sums of std 1 it opens 4 units in 100 more.",
    "A unit is called dead if none of the training images activates it. Few die here at moderate learning rates, with "
    "either bias.",
    "With random-walk weights, whose gain is chosen such that norms do not drift, the bias adds to the sum in every "
    "layer: the last two rows show by how much the sums have grown after 200 layers.",
)

claim = Claim(
    slide=(36,),
    kind="STAT",
    statement="The bias of a rectified hidden unit may be set to 0.1 rather than 0, to avoid saturating it at "
    "initialization; not with random-walk initialization.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.4, p. 305",
    equation="P(active) = Φ(b/σ)",
    claimed="Φ(0.1/σ) of the units active at the start: 0.841 for σ = 0.1, and half with a bias of 0; fewer dead units "
    "after training in 4 of 5 seeds",
    setting="1,000 units, 400 normal inputs; MLP 64-100-100-10 (ReLU, He weights, float32) on 1,000 digits, SGD with "
    "batches of 20 at three learning rates, 15 passes (quick: 5), 10 seeds (quick: 5).",
    measure=_measure,
    seconds=8,
)
