"""Slide 27: along a direction of curvature λ, Nesterov's momentum μ is classical momentum μ(1 - ελ)."""

import math

import torch
from torch import Tensor

from ravine.claims._descent import seen, walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_most, reported, within
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.optimizer import Optimizer
from ravine.rules import Momentum, Nesterov

MOMENTUM, STEPS = 0.9, 200
STIFFNESS = (0.001, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
"""ελ of the directions; at ε = 1 their curvatures."""


def _rotated(basis: Tensor) -> Tensor:
    """Nesterov on a quadratic in another basis, seen along its eigenvectors: (steps, directions)."""
    curvature = torch.tensor(STIFFNESS, dtype=torch.float64)
    hessian = basis * curvature @ basis.T
    start = basis @ torch.ones(len(STIFFNESS), dtype=torch.float64)
    path = walk(Nesterov(MOMENTUM, form="book"), 1.0, start, lambda x: hessian @ x)
    return seen(path, range(STEPS + 1)) @ basis


def _classical() -> Tensor:
    """Classical momentum along every direction by itself, each at its own μ(1 - ελ): (steps, directions)."""
    xs = [torch.ones((), dtype=torch.float64, requires_grad=True) for _ in STIFFNESS]
    groups = [
        {"params": [x], "rule": Momentum(MOMENTUM * (1 - stiff), form="book")}
        for x, stiff in zip(xs, STIFFNESS, strict=True)
    ]
    optimizer = Optimizer(groups, lr=1.0)
    places = [torch.ones(len(xs), dtype=torch.float64)]
    for _ in range(STEPS):
        for x, stiff in zip(xs, STIFFNESS, strict=True):
            x.grad = stiff * x.detach()
        optimizer.step()
        places.append(torch.stack([x.detach() for x in xs]))
    return torch.stack(places)


def _rate(momentum: float, stiff: float) -> float:
    """The larger root of z² - (1 - ελ + μ)z + μ in modulus: the share of the error that a step leaves in the end."""
    b = 1 - stiff + momentum
    root = complex(b * b - 4 * momentum) ** 0.5
    return max(abs(b + root), abs(b - root)) / 2


def _measured(places: Tensor) -> float:
    """The share of the error that a step leaves, by its largest value among steps 1-40 and among 81-120."""
    early, late = (float(places[a:b].abs().max()) for a, b in ((1, 41), (81, 121)))
    return math.exp(math.log(late / early) / 80)


def _largest(rule: Rule) -> float:
    """The largest ελ on a grid of hundredths along which 2,000 steps come nearer to the minimum."""
    grid = torch.arange(100, 500, dtype=torch.float64) / 100
    (end,) = seen(walk(rule, 1.0, torch.ones(len(grid)), lambda x: grid * x), [2000])
    return float(grid[end.abs() < 1].max())


def _measure(trial: Trial) -> Findings:
    size = len(STIFFNESS)
    basis = torch.linalg.qr(torch.randn(size, size, generator=trial.torch("basis"), dtype=torch.float64)).Q
    nesterov, classical = _rotated(basis), _classical()
    plain = seen(walk(Momentum(MOMENTUM, form="book"), 1.0, torch.ones(size),
                      lambda x: torch.tensor(STIFFNESS, dtype=torch.float64) * x), range(STEPS + 1))  # fmt: skip
    stiff = STIFFNESS.index(0.5)
    along = float((nesterov - classical).abs().max())
    rates = {name: _measured(places[:, stiff]) for name, places in (("Nesterov", classical), ("classical", plain))}
    checks = [
        at_most("largest distance of NAG(μ) from CM(μ(1 - ελ)), ten directions", along, 1e-12, claimed=0),
        within(
            "share of the error left by a step at ελ = ½, classical μ", rates["classical"], math.sqrt(0.9), rel=0.01
        ),
        within("the same, Nesterov", rates["Nesterov"], math.sqrt(0.45), rel=0.01),
        reported(
            "largest ελ at which Nesterov converges",
            _largest(Nesterov(MOMENTUM, form="book")),
            claimed=1 + 1 / (1 + 2 * MOMENTUM),
        ),
        reported(
            "largest ελ at which classical momentum converges",
            _largest(Momentum(MOMENTUM, form="book")),
            claimed=2 * (1 + MOMENTUM),
        ),
    ]
    rows = [
        [f"{s:g}", f"{MOMENTUM * (1 - s):.4g}", f"{_rate(MOMENTUM, s):.4f}", f"{_rate(MOMENTUM * (1 - s), s):.4f}"]
        for s in STIFFNESS
    ]
    columns = ["ελ", "Nesterov's effective momentum", "left by a step, classical", "left by a step, Nesterov"]
    table = Table("Along one direction, μ = 0.9 (theory)", columns, rows)
    panels = []
    for i in (STIFFNESS.index(0.01), stiff):
        curves = [Series(n, range(61), p[:61, i].tolist()) for n, p in (("classical", plain), ("Nesterov", nesterov))]
        panels.append(Panel("step", "place, minimum at 0", curves, title=f"ελ = {STIFFNESS[i]:g}"))
    caption = (
        "Along a gentle direction (left) both momentums move alike; along a stiff one (right) Nesterov's stops "
        "swinging."
    )
    notes = [
        "Sutskever et al. conclude that Nesterov tolerates larger μ, since it takes momentum away exactly where the "
        "curvature makes it swing.",
        "It does not tolerate a larger ε: it diverges from ελ = 1 + 1/(1 + 2μ), 1.36 at μ = 0.9, where classical "
        "momentum holds on to 2(1 + μ) = 3.8. The theorem is for exact gradients of a quadratic.",
    ]
    return Findings(checks, [Figure(caption, panels)], [table], notes)


claim = Claim(
    slide=(27,),
    kind="EXACT",
    statement="On a quadratic, Nesterov momentum μ acts along a direction of curvature λ as classical momentum with "
    "μ(1 - ελ): it damps the stiff directions and leaves the gentle ones their speed.",
    source="Sutskever, Martens, Dahl & Hinton 2013, theorem 2.1",
    equation="NAG(μ) on ½λx²  =  CM(μ(1 - ελ))",
    claimed="The same walk to rounding; at ελ = ½ a step leaves √(μ/2) of the error where classical momentum leaves √μ",
    setting="A ten-dimensional quadratic in a random basis, ελ from 0.001 to 1, μ = 0.9, 200 steps, float64, seen "
    "along its eigenvectors.",
    measure=_measure,
    seconds=2,
)
