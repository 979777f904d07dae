"""Slide 31: whether initial weights are Gaussian or uniform does not matter much, at the same variance."""

import numpy as np
import torch
from torch import Tensor

from ravine.claims._deep import passes, widened
from ravine.claims._stacked import cross_entropy, digits, errors, networks, outputs
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, inside, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean

WIDTHS, LR, BATCH, POINT = (64, 64, 64, 10), 0.1, 50, 1.0


def _uniform(parts: list[Tensor], chance: torch.Generator) -> list[Tensor]:
    """Weights of the same shapes and variances, uniform."""
    found = []
    for i, part in enumerate(parts):
        if i % 2:
            found.append(part)
            continue
        bound = (3 * 2 / part.shape[1]) ** 0.5
        found.append(torch.empty(part.shape, dtype=part.dtype).uniform_(-bound, bound, generator=chance))
    return found


def _accuracies(trial: Trial, uniform: bool, seeds: int, epochs: int) -> np.ndarray:
    """Test accuracy in per cent after each pass: (epochs, seeds). Data and orders are the same for both kinds."""
    (x, y), (a, b) = digits(trial.torch("data"), 1000, 797)
    parts = networks(WIDTHS, seeds, trial.torch("init"))
    parts = widened(_uniform(parts, trial.torch("uniform")) if uniform else parts, 1)
    found = []
    for _ in passes(
        parts,
        lambda p, u, v: cross_entropy(outputs(p, u), v),
        (x.float(), y),
        torch.full((seeds,), LR),
        batch=BATCH,
        epochs=epochs,
        chance=trial.torch("order"),
        orders=seeds,
    ):
        with torch.no_grad():
            found.append(100 * (1 - errors(outputs(parts, a.float()), b)))
    return torch.stack(found).numpy()


def _measure(trial: Trial) -> Findings:
    seeds, epochs = trial.pick(quick=10, normal=20), trial.pick(quick=10, normal=20)
    normal, uniform = (_accuracies(trial, kind, seeds, epochs) for kind in (False, True))
    apart = mean((normal[-1] - uniform[-1]).tolist(), confidence=0.9)
    checks: list[Check] = [
        inside(f"test accuracy after {epochs} passes, Gaussian - uniform (points)", apart, -POINT, POINT),
        reported("the same after the first pass", mean((normal[0] - uniform[0]).tolist())),
        reported("seed to seed standard deviation of the accuracy (points)", float(normal[-1].std(ddof=1))),
    ]
    curves = []
    for name, runs in (("Gaussian", normal), ("uniform", uniform)):
        means = [mean(row.tolist()) for row in runs]
        curves.append(
            Series(
                name, range(1, epochs + 1), [m.value for m in means], [m.low for m in means], [m.high for m in means]
            )
        )
    ends = [(name, str(mean(runs[-1].tolist()))) for name, runs in (("Gaussian", normal), ("uniform", uniform))]
    table = Table("Test accuracy (%), mean with 95 % interval", ("weights", f"after {epochs} passes"), ends)
    caption = "Test accuracy from Gaussian and from uniform weights of the same variance: means with 95 % intervals."
    figure = Figure(caption, [Panel("pass over the data", "test accuracy (%)", curves)])
    return Findings(checks, [figure], [table], NOTES)


NOTES = (
    "An equivalence is asked for: the interval of 90 % must lie within 1 point, which is the test by two one-sided "
    "tests at 5 %. Finding no difference would be no evidence that there is none.",
    "What goes into a unit is a sum of many weights, and of the weights' distribution it keeps little but the variance "
    "(the central limit theorem).",
)

claim = Claim(
    slide=(31,),
    kind="STAT",
    statement="The choice between a Gaussian and a uniform distribution for the initial weights does not seem to "
    "matter much.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.4",
    claimed="test accuracies within 1 point at the same variance",
    setting="MLP 64-64-64-10 (ReLU, float32) on 1,000 digits, tested on 797; weights of variance 2/fan-in of either "
    "distribution, SGD at 0.1, batches of 50, 20 passes (quick: 10), 20 seeds each (quick: 10), the "
    "same orders of data.",
    measure=_measure,
    seconds=3,
)
