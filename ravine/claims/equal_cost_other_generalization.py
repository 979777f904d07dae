"""Slide 29: nets that reach the same training loss from starts of different scale are not equally good on new data."""

import numpy as np
import torch

from ravine.claims._deep import descend, scaled, widened
from ravine.claims._stacked import cross_entropy, digits, errors, networks, outputs
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, above, at_least, within
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean

SCALES = (0.1, 0.3, 1.0, 3.0, 10.0)
TRAIN, TEST, WIDTH, LOSS = 200, 1000, 100, 1e-3


def _run(trial: Trial, i: int, scale: float, most: int) -> tuple[float, float]:
    """Training loss and test accuracy where the loss first is at most LOSS, by full-batch gradient descent.

    The learning rate is made smaller where the loss rose, and a little larger where it fell.
    """
    (x, y), (a, b) = digits(trial.torch("data", i), TRAIN, TEST)
    x, a = x.float(), a.float()
    parts = widened(scaled(networks((64, WIDTH, 10), 1, trial.torch("init", i), gain=1.0), scale), 1)
    lr = torch.tensor([0.5 / max(1.0, scale) ** 2])
    loss = cross_entropy(outputs(parts, x, torch.tanh), y)
    for _ in range(most):
        if loss.item() <= LOSS:
            break
        before, old = [part.detach().clone() for part in parts], loss.item()
        descend(parts, loss, lr)
        loss = cross_entropy(outputs(parts, x, torch.tanh), y)
        if loss.item() <= old:
            lr = lr * 1.05
        else:
            parts = [part.requires_grad_() for part in before]
            loss, lr = cross_entropy(outputs(parts, x, torch.tanh), y), lr / 2
    wrong = errors(outputs(parts, a, torch.tanh).detach(), b)
    return loss.item(), 100 * (1 - wrong.item())


def _measure(trial: Trial) -> Findings:
    seeds, most = trial.pick(quick=5, normal=10), 20000
    found = np.array([[_run(trial, i, scale, most) for i in range(seeds)] for scale in SCALES])
    losses, accuracy = found[..., 0], found[..., 1]
    means = [mean(row.tolist()) for row in accuracy]
    order = accuracy.mean(1)
    best, worst = int(order.argmax()), int(order.argmin())
    apart = mean((accuracy[SCALES.index(1.0)] - accuracy[-1]).tolist())
    checks: list[Check] = [
        within("runs that reached the training loss of 0.001", float((losses <= LOSS).sum()), losses.size, tol=0),
        at_least(
            f"mean test accuracy, scale {SCALES[best]:g} - scale {SCALES[worst]:g} (points)",
            order[best] - order[worst],
            10,
        ),
        above("test accuracy, scale 1 - scale 10, seed by seed (points)", apart),
    ]
    rows = [[f"{s:g}", f"{loss.mean():.2g}", str(m)] for s, loss, m in zip(SCALES, losses, means, strict=True)]
    table = Table(
        "Test accuracy where the training loss has just reached 0.001",
        ("scale of the weights", "training loss", "test accuracy (%), mean with 95 % interval"),
        rows,
    )
    series = [
        Series("mean, 95 %", SCALES, [m.value for m in means], [m.low for m in means], [m.high for m in means], "both")
    ]
    caption = "The same training loss, reached from starts of different scale, is worth less the larger the start."
    figure = Figure(caption, [Panel("scale of the initial weights", "test accuracy (%)", series, log="x")])
    return Findings(checks, [figure], [table], NOTES)


NOTES = (
    "From large weights the net fits the examples by moving little (the lazy regime: Chizat, Oyallon & Bach 2019), and "
    "keeps the random function that it began with between them.",
    "The learning rate is raised and lowered along the way, so that every scale has steps that fit it; the test "
    "accuracy is taken where the loss first is at most 0.001.",
)

claim = Claim(
    slide=(29,),
    kind="STAT",
    statement="Points of comparable cost can have wildly varying generalization error, and the initialization affects "
    "it as well.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.4",
    claimed="test accuracies 10 points and more apart at the same training loss",
    setting="MLP 64-100-10 (tanh, float32) on 200 digits, full-batch gradient descent to a training loss of 0.001, "
    "tested on 1,000; five scales times the standard deviation 1/√fan-in, 10 seeds (quick: 5).",
    measure=_measure,
    seconds=11,
)
