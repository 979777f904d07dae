"""Slide 29: where training of a deep net ends depends on where it starts, at the best learning rate of each start."""

import numpy as np
import torch

from ravine.claims._deep import passes, scaled, widened
from ravine.claims._stacked import cross_entropy, digits, networks, outputs
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, Estimate, above, at_least, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import ratio

WIDTHS = (64, 32, 32, 32, 32, 10)
SCALES = (0.01, 0.1, 1.0, 10.0)
RATES = (0.03, 0.1, 0.3, 1.0)


def _curves(trial: Trial, scale: float, starts: int, epochs: int) -> np.ndarray:
    """Training losses after each pass: (epochs + 1, starts, rates)."""
    data = digits(trial.torch("data"), 1000)[0]
    x, y = data[0].float(), data[1]
    parts = widened(scaled(networks(WIDTHS, starts, trial.torch("init"), gain=1.0), scale), len(RATES))
    lr, found = torch.tensor(RATES).repeat(starts), []

    def losses() -> np.ndarray:
        with torch.no_grad():
            now = cross_entropy(outputs(parts, x, torch.tanh), y).double()
        return np.asarray(now.nan_to_num(nan=np.inf).view(starts, -1))

    found.append(losses())
    for _ in passes(
        parts,
        lambda p, a, b: cross_entropy(outputs(p, a, torch.tanh), b),
        (x, y),
        lr,
        batch=50,
        epochs=epochs,
        chance=trial.torch("order"),
        orders=starts,
    ):
        found.append(losses())
    return np.array(found)


def _measure(trial: Trial) -> Findings:
    starts, epochs = trial.pick(quick=5, normal=20), trial.pick(quick=10, normal=20)
    curves, rows, finals = [], [], {}
    for scale in SCALES:
        runs = _curves(trial, scale, starts, epochs)
        best = int(runs[-1].mean(0).argmin())
        finals[scale] = runs[-1, :, best]
        rows.append(
            [
                f"{scale:g}",
                f"{RATES[best]:g}",
                f"{np.median(finals[scale]):.3g}",
                f"{finals[scale].min():.3g}",
                f"{finals[scale].max():.3g}",
            ]
        )
        middle, low, high = (np.quantile(runs[:, :, best], q, axis=1) for q in (0.5, 0.1, 0.9))
        curves.append(Series(f"scale {scale:g}", range(epochs + 1), middle, low, high))
    means: dict[float, Estimate] = {scale: ratio(found.tolist()) for scale, found in finals.items()}
    lowest = min(means, key=lambda scale: means[scale].value)
    highest = max(means, key=lambda scale: means[scale].value)
    everything = np.concatenate(list(finals.values()))
    checks: list[Check] = [
        at_least("largest over smallest final training loss, all starts", everything.max() / everything.min(), 10),
        above(f"scale {highest:g} over scale {lowest:g}", ratio((finals[highest] / finals[lowest]).tolist()), 10),
        reported(f"largest over smallest, of {starts} seeds at scale 1", finals[1.0].max() / finals[1.0].min()),
    ]
    table = Table(
        f"Training loss after {epochs} passes, {starts} starts each (chance: ln 10 = 2.303)",
        ("scale of the weights", "best learning rate", "median", "smallest", "largest"),
        rows,
    )
    caption = "Training loss (median, 10 to 90 % of the starts) at each scale's best learning rate."
    figure = Figure(caption, [Panel("pass over the data", "training loss (nats)", curves, log="y")])
    return Findings(checks, [figure], [table], NOTES)


NOTES = (
    "Everything else is equal: network, data, order of the data, number of steps; the learning rate is that of "
    "four which has the lowest mean loss for the scale.",
    "The scale decides far more than the seed does. At a hundredth of the usual scale the net has not moved from "
    "guessing: its gradients are products of five small matrices.",
)

claim = Claim(
    slide=(29,),
    kind="ARCH",
    statement="Training of deep models is strongly affected by the choice of initialization: it can decide whether "
    "learning converges at all, how fast, and to how high a cost.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.4",
    claimed="final training losses that differ by a factor of 10 and more",
    setting="MLP 64-32-32-32-32-10 (tanh, float32) on 1,000 digits, SGD with batches of 50, 20 passes (quick: 10); 20 "
    "starts (quick: 5) at four scales times the standard deviation 1/√fan-in, each at its best of four learning rates.",
    measure=_measure,
    seconds=20,
)
