"""Slide 9: the error of a gradient estimated from n examples falls as 1/√n: 100 times the work for a tenth of it."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ravine.claims._stacked import cross_entropy, descend, digits, minibatch, networks, outputs, shuffled
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import Check, between, within
from ravine.core.figure import Figure, Panel, Series
from ravine.optimizer import Optimizer
from ravine.racing.estimate import mean, slope
from ravine.rules import SGD

EXAMPLES, BATCH = 1797, 64
SIZES = (10, 30, 100, 300, 1000, 3000, 10000)
PART = 1000  # examples of a minibatch drawn without replacement
STAGES = {"first weights": 0, "20 epochs": 20}


def _stages(trial: Trial, replicas: int, x: Tensor, y: Tensor) -> dict[str, list[list[Tensor]]]:
    """The networks' parameters at each stage of training."""
    parameters = networks((64, 32, 10), replicas, trial.torch("init"))
    optimizer, chance = Optimizer(parameters, SGD(), lr=0.1), trial.torch("order")
    found, done = {}, 0
    for name, epochs in STAGES.items():
        for _ in range(epochs - done):
            order = shuffled(replicas, EXAMPLES, chance)
            for step in range(EXAMPLES // BATCH):
                rows = minibatch(order, step, BATCH)
                descend(optimizer, cross_entropy(outputs(parameters, x[rows]), y[rows]))
        done = epochs
        found[name] = [[p[i].detach().clone() for p in parameters] for i in range(replicas)]
    return found


def _each_gradient(parameters: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """The gradient at each example, one a row."""

    def loss(parameters: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs(parameters, x[None])[0], y)

    rows = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
    return torch.cat([row.flatten(1) for row in rows], 1)


def _errors(gradients: Tensor, draws: int, chance: np.random.Generator) -> list[float]:
    """The root mean square of ‖ĝ - g‖ for each size, drawn with replacement, and last for a part drawn without."""
    even = np.full(EXAMPLES, 1 / EXAMPLES)
    weights = [chance.multinomial(n, even, size=draws) / n for n in SIZES]
    weights.append((chance.random((draws, EXAMPLES)).argsort(1) < PART) / PART)
    off = torch.from_numpy(np.stack(weights) - even) @ gradients
    return [rms.item() for rms in (off**2).sum(-1).mean(-1).sqrt()]


def _measure(trial: Trial) -> Findings:
    replicas, draws = trial.pick(quick=3, normal=8), trial.pick(quick=100, normal=200)
    ((x, y),) = digits(trial.torch("digits"), EXAMPLES)
    checks: list[Check] = []
    series = []
    for name, nets in _stages(trial, replicas, x, y).items():
        found, spreads = [], []
        for i, parameters in enumerate(nets):
            gradients = _each_gradient(parameters, x, y)
            spreads.append(((gradients - gradients.mean(0)) ** 2).sum(1).mean().sqrt().item())
            found.append(_errors(gradients, draws, trial.numpy(name, i)))
        curves = [row[:-1] for row in found]
        at = [SIZES.index(n) for n in (100, 10000)]
        exponent = mean([slope(SIZES, curve).value for curve in curves])
        part = mean([row[-1] / (s / PART**0.5) for row, s in zip(found, spreads, strict=True)])
        left = ((EXAMPLES - PART) / (EXAMPLES - 1)) ** 0.5
        checks += [
            between(f"exponent of n, {name}", exponent, -0.55, -0.45, claimed=-0.5),
            within(
                f"error at n = 100 over that at 10,000, {name}", mean([c[at[0]] / c[at[1]] for c in curves]), 10, tol=1
            ),
            within(f"1,000 of 1,797 without replacement, error over σ/√n, {name}", part, left, rel=0.05),
        ]
        series.append(Series(name, SIZES, [float(v) for v in np.mean(curves, 0)], kind="points"))
        series.append(Series(f"σ/√n, {name}", SIZES, [np.mean(spreads) / n**0.5 for n in SIZES], kind="reference"))
    caption = "The distance of a minibatch's gradient from the full one, drawn with replacement: a slope of -1/2."
    return Findings(checks, [Figure(caption, [Panel("examples n", "root mean square of ‖ĝ - g‖", series, log="xy")])])


claim = Claim(
    slide=(9,),
    kind="RATE",
    statement="The standard error of a gradient estimated from n examples is σ/√n: 10,000 examples cost 100 times the "
    "work of 100 and reduce the error only 10 times.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.1.3, eq. 5.46",
    equation="SE(ĝ) = σ/√n;   without replacement times √((N - n)/(N - 1))",
    claimed="exponent -0.5; error at n = 100 ten times that at n = 10,000",
    setting="Gradients of each of 1,797 digits for an MLP 64-32-10 (ReLU), at its first weights and after 20 epochs of "
    "SGD; 200 minibatches of each of 7 sizes, with replacement; 8 networks.",
    measure=_measure,
    seconds=10,
)
