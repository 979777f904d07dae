"""Slide 14: the norm of the gradient can grow all through a training that goes well."""

import numpy as np
import torch
from numpy.typing import NDArray

from ravine.claims._stacked import cross_entropy, digits, errors, minibatch, networks, outputs, shuffled
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import Role, above, at_most, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.optimizer import Optimizer
from ravine.racing.estimate import mean, ratio
from ravine.rules import SGD

TRAIN, TEST, BATCH, LR, NOISE = 1000, 700, 50, 0.1, 0.15
Array = NDArray[np.float64]


def _course(trial: Trial, noise: float, copies: int, epochs: int) -> tuple[Array, Array, Array]:
    """After every epoch of each network: the mean norm of the minibatches' gradients, the training error as a share of
    that before training, and the test error.
    """
    parts = [digits(trial.torch("digits", i), TRAIN, TEST) for i in range(copies)]
    (x, y), (x_test, y_test) = ([torch.stack(t) for t in zip(*part, strict=True)] for part in zip(*parts, strict=True))
    chance = trial.torch("noise")
    wrong = torch.rand(y.shape, generator=chance) < noise
    y = torch.where(wrong, torch.randint(10, y.shape, generator=chance), y)
    parameters = networks((64, 64, 10), copies, trial.torch("init"))
    optimizer, order = Optimizer(parameters, SGD(), lr=LR), trial.torch("order")
    which, found = torch.arange(copies)[:, None], []
    with torch.no_grad():
        first = errors(outputs(parameters, x), y).numpy()
    for _ in range(epochs):
        shuffle, norms = shuffled(copies, TRAIN, order), []
        for step in range(TRAIN // BATCH):
            rows = minibatch(shuffle, step, BATCH)
            loss = cross_entropy(outputs(parameters, x[which, rows]), y[which, rows]).sum()
            for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                p.grad = gradient
            norms.append(sum(p.grad.square().flatten(1).sum(1) for p in parameters if p.grad is not None) ** 0.5)
            optimizer.step()
        with torch.no_grad():
            row = [torch.stack(norms).mean(0)]
            row += [errors(outputs(parameters, a), b) for a, b in ((x, y), (x_test, y_test))]
        found.append(torch.stack(row))
    norm, train, test = torch.stack(found, 1).numpy()
    return norm, train / first, test


def _growth(norms: Array) -> Array:
    """The median of the last fifth over that of the first tenth of the epochs."""
    size = len(norms)
    return np.median(norms[-size // 5 :], axis=0) / np.median(norms[: size // 10], axis=0)


def _measure(trial: Trial) -> Findings:
    copies, epochs = trial.pick(quick=3, normal=10), 250
    found = {
        f"{NOISE:.0%} of labels drawn anew": _course(trial, NOISE, copies, epochs),
        "clean labels": _course(trial, 0.0, copies, epochs),
    }
    checks, panels = [], []
    for i, (name, (norms, train, test)) in enumerate(found.items()):
        role: Role = "condition" if i else "claim"
        checks += [
            above(f"‖g‖, last fifth / first tenth, {name}", ratio(_growth(norms).tolist()), 1, role=role),
            at_most(f"training error in the end / at first, largest, {name}", float(train[-1].max()), 0.2, role=role),
            reported(f"highest ‖g‖ / ‖g‖ in the first tenth, {name}",
                     ratio((norms.max(0) / np.median(norms[: epochs // 10], axis=0)).tolist())),
            reported(f"test error in the end, {name}", mean(test[-1].tolist())),
        ]  # fmt: skip
        curves = {"‖g‖": norms, "training error / that at first": train, "test error": test}
        series = [_band(label, rows) for label, rows in curves.items()]
        panels.append(Panel("epoch", "norm, or share of wrong answers", series, title=name))
    caption = "The mean norm of minibatch gradients beside the errors; means of the networks with their 95 % intervals."
    return Findings(checks, [Figure(caption, panels)], notes=NOTES)


def _band(label: str, rows: Array) -> Series:
    thin = range(0, len(rows), max(1, len(rows) // 125))
    means = [mean(rows[k].tolist()) for k in thin]
    low, high = [m.low for m in means], [m.high for m in means]
    return Series(label, [k + 1 for k in thin], [m.value for m in means], low, high)


NOTES = (
    "With wrong labels, the test error is lowest early and rises while they are learnt: it is training that goes well "
    "to the end, not what it is for.",
    "It holds while the network cannot yet fit all of its labels. Once it can, as with clean labels here, every "
    "gradient tends to 0, and the norm falls from the first epoch on.",
    "The norm does not grow from the start: it falls for some 20 epochs and grows from then on.",
    "Figure 8.1 of the book shows one convolutional network without a scale that could be compared; what is tested is "
    "what its text says, that the gradient grows while training succeeds.",
)

claim = Claim(
    slide=(14,),
    kind="ARCH",
    statement="The norm of the gradient does not shrink, and may grow, throughout a training that goes well: learning "
    "becomes slow though the gradient is strong.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.2.1 and fig. 8.1",
    claimed="the median norm of the last fifth of the epochs is above that of the first tenth, while the training "
    "error "
    "falls to a fifth of that of the first weights, or less",
    setting=f"MLP 64-64-10 (ReLU) on {TRAIN:,} digits, {NOISE:.0%} of the labels drawn anew from all classes; clean "
    "labels "
    f"as a condition; SGD at {LR}, minibatches of {BATCH}, 250 epochs; 10 networks, each with its own digits; float64.",
    changed="First, a fifth of the training error after the first epoch. It falls to a quarter of that, since half of "
    "the fall is in the first epoch; the book's figure begins before it, near an error of 1, and so does this now.",
    measure=_measure,
    seconds=25,
)
