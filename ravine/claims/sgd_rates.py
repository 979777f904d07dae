"""Slide 23: how fast stochastic descent converges, on a strongly convex function and on one that is only convex."""

from collections.abc import Callable

import torch
from torch import Tensor

from ravine.claims._descent import exponent, spread, walk
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import between, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.rules import SGD
from ravine.schedules import Schedule, inverse, inverse_root


def _places(trial: Trial, name: str, slope: Callable[[Tensor], Tensor], schedule: Schedule) -> tuple[list[int], Tensor]:
    """Steps, and the last iterate after each of them; the mean of all iterates so far stands in a second layer."""
    steps = spread(100, trial.pick(quick=4000, normal=20_000))
    chance = trial.torch("noise", name)
    start = torch.ones(trial.pick(quick=1000, normal=4000, full=20_000))

    def noisy(x: Tensor) -> Tensor:
        return slope(x) + torch.randn(x.shape, generator=chance, dtype=x.dtype)

    total, found = torch.zeros(start.shape, dtype=torch.float64), []
    for k, x in zip(range(steps[-1] + 1), walk(SGD(), 1.0, start, noisy, schedule), strict=False):
        total += x if k else 0.0
        if k in steps:
            found.append(torch.stack([x, total / k]))
    return steps, torch.stack(found)


def _measure(trial: Trial) -> Findings:
    steps, bowl = _places(trial, "strongly convex", torch.clone, inverse(1))
    _, ridge = _places(trial, "convex", torch.sign, inverse_root(1))
    strongly, last, mean = 0.5 * bowl[:, 0].square(), ridge[:, 0].abs(), ridge[:, 1].abs()
    checks = [
        between("exponent on ½x², ε = 1/k, last iterate", exponent(steps, strongly), -1.1, -0.9, claimed=-1.0),
        between("exponent on |x|, ε = 1/√k, last iterate", exponent(steps, last), -0.6, -0.4, claimed=-0.5),
        reported("exponent on |x| of the mean of all iterates", exponent(steps, mean)),
    ]
    curves = [
        Series("½x², ε = 1/k", steps, strongly.mean(1).tolist()),
        Series("|x|, ε = 1/√k", steps, last.mean(1).tolist()),
        Series("|x|, mean of iterates", steps, mean.mean(1).tolist()),
        Series("1/(2k)", steps, [0.5 / k for k in steps], kind="reference"),
        Series("½k^-½", steps, [0.5 * k**-0.5 for k in steps], kind="reference"),
    ]
    caption = "Excess error of stochastic descent: 1/k on a strongly convex function, 1/√k on a convex one."
    notes = [
        "The mean of the iterates falls faster on |x| than the 1/√k of the theory: in one dimension the walk goes to "
        "and fro about the minimum, and errors of opposite sign cancel. The theory speaks of the worst convex "
        "function, which this is not.",
        "Rates are bounds for the worst function of a class; the lower bounds that make them sharp (Nemirovski & "
        "Yudin 1983; Agarwal et al. 2012) are theorems and are not tested here.",
    ]
    return Findings(checks, [Figure(caption, [Panel("step k", "mean excess error", curves, log="xy")])], notes=notes)


claim = Claim(
    slide=(23,),
    kind="RATE",
    statement="After k steps of stochastic gradient descent the excess error is O(1/√k) on a convex problem and O(1/k) "
    "on a strongly convex one.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.3.1, p. 295",
    equation="J(θ_k) - min J = O(k^-½) convex,   O(1/k) strongly convex",
    claimed="exponents -½ and -1",
    setting="½x² and |x| in one dimension with unit Gaussian noise on the (sub)gradient, from x = 1, 4,000 replicas, "
    "k from 100 to 20,000; exponents with intervals over 20 groups of 200.",
    measure=_measure,
    seconds=9,
)
