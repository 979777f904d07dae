"""Slide 7: minimizing the empirical risk overfits: a network learns by heart labels that mean nothing."""

from statistics import fmean

import torch
from torch import Tensor

from ravine.claims._stacked import Data, cross_entropy, descend, digits, errors, minibatch, networks, outputs, shuffled
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import at_least, at_most, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.optimizer import Optimizer
from ravine.racing.estimate import mean
from ravine.rules import Adam

BATCH = 100


def _accuracies(trial: Trial, name: str, x: Tensor, y: Tensor, test: Data, epochs: int) -> dict[str, list[list[float]]]:
    """Accuracy of each network after each epoch: on its training labels `y[replica]`, on the test set's true ones."""
    replicas, examples = y.shape
    parameters = [p.detach().float().requires_grad_() for p in networks((64, 256, 10), replicas, trial.torch(name))]
    optimizer, chance = Optimizer(parameters, Adam(), lr=3e-3), trial.torch(name, "order")
    which = torch.arange(replicas)[:, None]
    found: dict[str, list[list[float]]] = {"training": [], "test": []}
    for _ in range(epochs):
        order = shuffled(replicas, examples, chance)
        for step in range(examples // BATCH):
            rows = minibatch(order, step, BATCH)
            descend(optimizer, cross_entropy(outputs(parameters, x[rows]), y[which, rows]))
        with torch.no_grad():
            found["training"].append((1 - errors(outputs(parameters, x), y)).tolist())
            found["test"].append((1 - errors(outputs(parameters, test[0]), test[1])).tolist())
    return found


def _measure(trial: Trial) -> Findings:
    replicas, epochs = trial.pick(quick=4, normal=10), trial.pick(quick=200, normal=300)
    (x, true), test = [(x.float(), y) for x, y in digits(trial.torch("digits"), 1000, 797)]
    drawn = torch.randint(10, (replicas, 1000), generator=trial.torch("labels"))
    found = {
        "random": _accuracies(trial, "random", x, drawn, test, epochs),
        "true": _accuracies(trial, "true", x, true.expand(replicas, -1), test, trial.pick(quick=30, normal=60)),
    }
    last = {(a, b): mean(found[a][b][-1]) for a in found for b in ("training", "test")}
    checks = [
        at_least("training accuracy, random labels", last["random", "training"], 0.99),
        at_most("test accuracy, random labels", last["random", "test"], 0.15, claimed="chance is 0.1"),
        reported("training accuracy, true labels", last["true", "training"]),
        reported("test accuracy, true labels", last["true", "test"]),
    ]
    series = []
    for name, curves in found.items():
        for part, rows in curves.items():
            middle, low, high = ([f(row) for row in rows] for f in (fmean, min, max))
            series.append(Series(f"{name} labels, {part} set", range(1, len(rows) + 1), middle, low, high))
    caption = (
        f"Mean accuracy of {replicas} networks, and their range: what is learnt by heart says nothing of new images."
    )
    return Findings(checks, [Figure(caption, [Panel("epoch", "accuracy", series)])])


claim = Claim(
    slide=(7,),
    kind="STAT",
    statement="Minimizing the empirical risk is prone to overfitting: a model of enough capacity simply memorizes the "
    "training set, even one whose labels mean nothing.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.1.1; the experiment with random labels is that of Zhang et al. "
    "2017, at a small scale",
    claimed="random labels: training accuracy 0.99 or more, test accuracy 0.15 or less (chance is 0.1)",
    setting="MLP 64-256-10 (ReLU) on 1,000 digits with uniformly random labels, float32, Adam at 3e-3, batches of "
    "100, 300 epochs, no regularization; 797 test images with their true labels; 10 networks and labellings.",
    measure=_measure,
    seconds=27,
)
