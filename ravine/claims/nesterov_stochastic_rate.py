"""Slide 27: with noisy gradients Nesterov momentum does not converge at a better rate than plain descent."""

import torch
from torch import Tensor

from ravine.claims._descent import GROUPS, exponent, seen, spread, walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, Estimate, between, inside, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.racing import estimate
from ravine.rules import SGD, Nesterov
from ravine.schedules import inverse, inverse_root

CURVATURE = torch.logspace(-1, 0, 10, dtype=torch.float64)
CONSTANTS = torch.tensor([5.0, 7, 10, 14], dtype=torch.float64)
OFFSET = 30
METHODS: dict[str, tuple[Rule, float]] = {
    "SGD": (SGD(), 1.0),
    "Nesterov 0.5": (Nesterov(0.5, form="book"), 0.5),
    "Nesterov 0.9": (Nesterov(0.9, form="book"), 0.1),
}
"""Rule, and its 1 - α, by which its rates are multiplied so that its terminal steps are as long as those of SGD."""


def _bowl(trial: Trial, name: str, steps: list[int]) -> tuple[Tensor, float]:
    """Excess on a strongly convex bowl, (steps, replicas), at the best c of ε = c/(k + OFFSET); and that c."""
    rule, share = METHODS[name]
    chance = trial.torch("bowl")  # every method meets the same noise
    replicas = trial.pick(quick=60, normal=100, full=1000)

    def noisy(x: Tensor) -> Tensor:
        noise = torch.randn(replicas, 10, generator=chance, dtype=torch.float64)
        return CONSTANTS[:, None, None] * (CURVATURE * x + noise)  # a gradient times c moves as at a rate times c

    start = torch.ones(len(CONSTANTS), replicas, 10)
    excess = 0.5 * seen(walk(rule, share / OFFSET, start, noisy, inverse(OFFSET)), steps).square() @ CURVATURE
    best = int(excess[-1].mean(1).argmin())
    return excess[:, best], float(CONSTANTS[best])


def _ridge(trial: Trial, name: str, steps: list[int]) -> Tensor:
    """Excess on |x|, which is convex and no more, at ε = 1/√k: (steps, replicas)."""
    rule, share = METHODS[name]
    chance = trial.torch("ridge")
    start = torch.ones(trial.pick(quick=1000, normal=1000, full=10_000))

    def noisy(x: Tensor) -> Tensor:
        return x.sign() + torch.randn(x.shape, generator=chance, dtype=x.dtype)

    return seen(walk(rule, share, start, noisy, inverse_root(1)), steps).abs()


def _times(excess: Tensor, plain: Tensor) -> Estimate:
    """How many times the error of SGD is left at the last step."""
    ends = [e[-1].reshape(GROUPS, -1).mean(1) for e in (excess, plain)]
    return estimate.ratio((ends[0] / ends[1]).tolist())


def _measure(trial: Trial) -> Findings:
    steps = spread(500, trial.pick(quick=4000, normal=20_000))
    bowls = {name: _bowl(trial, name, steps) for name in METHODS}
    ridges = {name: _ridge(trial, name, steps) for name in METHODS}
    checks: list[Check] = []
    rows = []
    for name in sorted(METHODS, key="SGD".__eq__):  # what decides first; stable, so that Nesterov keeps its order
        (bowl, constant), ridge = bowls[name], ridges[name]
        fits = exponent(steps, bowl), exponent(steps, ridge)
        times = _times(bowl, bowls["SGD"][0]), _times(ridge, ridges["SGD"])
        if name != "SGD":
            checks.append(inside(f"error left on the bowl over that of SGD, {name}", times[0], 0.9, 1.1, claimed=1))
        checks.append(between(f"exponent on the bowl, {name}", fits[0], -1.1, -0.9, claimed=-1))
        checks.append(between(f"exponent on |x|, {name}", fits[1], -0.6, -0.4, claimed=-0.5))
        rows.append([name, f"{constant:g}", str(fits[0]), str(fits[1]), str(times[0]), str(times[1])])
    bound = float((1 / CURVATURE).sum()) / (2 * steps[-1])
    left = estimate.mean((bowls["SGD"][0][-1] / bound).tolist())
    checks.append(reported("error left by SGD on the bowl over the Cramér-Rao bound Σ(1/λ)/2k", left))
    said = Table(
        "What Nesterov momentum does to the rate",
        ["", "exact gradients", "stochastic gradients"],
        [
            ["deck, slide 27", "O(1/k²)", "O(1/k)"],
            ["book, p. 300", "from O(1/k) to O(1/k²)", "no improvement"],
            ["measured", "see nesterov-doubles-the-exponent", "the exponents below: none"],
        ],
    )
    columns = [
        "method",
        "best c",
        "exponent, bowl",
        "exponent, |x|",
        "error left / SGD's, bowl",
        "error left / SGD's, |x|",
    ]
    panels = []
    for title, found in (("strongly convex", {n: e for n, (e, _) in bowls.items()}), ("convex: |x|", ridges)):
        curves = [Series(name, steps, excess.mean(1).tolist()) for name, excess in found.items()]
        power, end = (-1.0 if title.startswith("strongly") else -0.5), float(found["SGD"][-1].mean())
        theory = [2 * end * (k / steps[-1]) ** power for k in steps]
        curves.append(Series("1/k" if power == -1 else "1/√k", steps, theory, kind="reference"))
        panels.append(Panel("step k", "mean excess error", curves, title=title, log="xy"))
    caption = (
        "Under noise Nesterov momentum does not get steeper than plain descent: on the strongly convex function the "
        "three curves lie on one another, on |x| they are parallel."
    )
    return Findings(checks, [Figure(caption, panels)], [said, Table("Measured", columns, rows)], NOTES)


NOTES = [
    "The deck lists O(1/k) for stochastic gradients among the things that Nesterov momentum brings. That is the rate "
    "of plain SGD on a strongly convex function, with momentum or without; on |x| both stay at 1/√k.",
    "There is little left to gain: no estimator without bias gets more out of k noisy gradients of a quadratic than "
    "the Cramér-Rao bound allows, and the last row says how near to it SGD at ε ~ 1/k comes.",
    "Rates of Nesterov are multiplied by 1 - α, since its steps are 1/(1 - α) times as long. On the bowl the constant "
    "c is the best of four for every method.",
    "On |x| Nesterov's error is smaller by a constant factor, since the velocity smooths the noise. So does a smaller "
    "rate: there the error of every method is proportional to c in ε = c/√k. The exponent is what it was.",
]

claim = Claim(
    slide=(27,),
    kind="RATE",
    statement="Nesterov momentum brings the convergence of stochastic gradient descent to O(1/k).",
    source="Kan Ren's slide 27, against Goodfellow, Bengio & Courville 2016, sec. 8.3.3, p. 300, which says that it "
    "does not improve the rate in the stochastic case",
    equation="E[J(θ_k)] - J* = O(1/k) strongly convex,   O(1/√k) convex: with momentum and without",
    claimed="The deck's gain would be a steeper exponent than that of SGD; the book's words are borne out by the same "
    "one",
    setting="A quadratic with ten curvatures from 0.1 to 1 and ε = c/(k + 30), 100 replicas, and |x| with ε = 1/√k, "
    "1,000 replicas; unit Gaussian noise on the gradient, the same for all methods; k from 500 to 20,000; 20 groups.",
    measure=_measure,
    seconds=24,
    changed="The design does not say from where the exponents are fitted. The first fit began at k = 100, where the "
    "offset 30 in ε = c/(k + 30) still flattens the line: on the bowl -0.947 for SGD and -0.958 for Nesterov 0.9 up to "
    "20,000 steps, -0.886 and -0.902 up to the 2,000 of the quick scale, outside the interval for SGD itself.",
    disagreement="D5",
    holds="DECK MISQUOTES BOOK",
    because='The deck lists "stochastic gradient descent O(1/k)" among the gains of Nesterov momentum; the book says '
    'that in the stochastic case it "does not improve the rate" (p. 300).',
)
