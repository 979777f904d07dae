"""Slide 54: where variables depend on one another, coordinate descent crawls: its rate on (x₁ - x₂)² + α(x₁² + x₂²)."""

import itertools
import math

import torch

from ravine.claims._solving import Function, Walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_most, between, within
from ravine.core.figure import Figure, Ground, Panel, Series, floats
from ravine.racing.estimate import slope

DISTANCE = 1e-6


def _function(alpha: float) -> Function:
    return lambda x: (x[0] - x[1]) ** 2 + alpha * (x[0] ** 2 + x[1] ** 2)


def _walk(alpha: float, spec: str = "coordinate") -> Walk:
    return Walk(_function(alpha), torch.ones(2, dtype=torch.float64), spec)


def _off(alpha: float) -> float:
    """How far x₂ after a sweep / before it is from 1/(1 + α)²: the largest of five sweeps."""
    points = [float(point.x[1]) for point, _ in zip(_walk(alpha), range(6), strict=False)]
    return max(abs(b / a - (1 + alpha) ** -2) for a, b in itertools.pairwise(points))


def _sweeps(alpha: float, spec: str = "coordinate") -> int:
    found = _walk(alpha, spec).until(lambda point: abs(float(point.x[1])) <= DISTANCE, 20_000)
    assert found is not None
    return found


def _measure(trial: Trial) -> Findings:
    alphas = trial.pick(quick=(1.0, 0.1, 0.03, 0.01), normal=(1.0, 0.1, 0.01, 0.001))
    sweeps = [_sweeps(alpha) for alpha in alphas]
    foretold = [math.ceil(-math.log(DISTANCE) / (2 * math.log1p(alpha))) for alpha in alphas]
    newton = [_sweeps(alpha, "newton(search='fixed')") for alpha in alphas]
    checks: list[Check] = [
        at_most("x₂ after a sweep / before it, less 1/(1 + α)²: largest", max(map(_off, alphas)), 1e-12, claimed=0),
        *[within(f"sweeps to 1e-6, α = {alpha:g}", found, expected, tol=0)
          for alpha, found, expected in zip(alphas, sweeps, foretold, strict=True)],
        between("power of 1/α in the sweeps, α <= 0.1", slope([1 / a for a in alphas[1:]], sweeps[1:]), 0.95, 1.05,
                claimed=1),
        within("steps of Newton's method: most", max(newton), 1, tol=0),
    ]  # fmt: skip
    rows = [(f"{a:g}", f"{(1 + a) ** -2:.4g}", f"{s:,}", n) for a, s, n in zip(alphas, sweeps, newton, strict=True)]
    table = Table("From (1, 1) to 1e-6", ("α", "contraction per sweep", "sweeps", "Newton steps"), rows)
    inverse = [1 / alpha for alpha in alphas]
    panels = [_path(0.1), Panel("1/α", "sweeps", [
        Series("coordinate descent", inverse, sweeps, kind="both"), Series("Newton", inverse, newton, kind="both"),
        Series("6.9 / α", inverse, [-math.log(DISTANCE) / 2 * v for v in inverse], kind="reference"),
    ], log="xy")]  # fmt: skip
    caption = "Left: coordinate descent in the valley x₁ = x₂, α = 0.1. Right: sweeps needed; Newton needs one."
    return Findings(checks, [Figure(caption, panels)], [table], [
        "A sweep is the exact minimization over x₁ and then over x₂: x₁ ← x₂/(1 + α), x₂ ← x₁/(1 + α).",
    ])  # fmt: skip


def _path(alpha: float) -> Panel:
    x = [1.0]
    y = [1.0]
    for _ in range(10):
        x += [y[-1] / (1 + alpha)] * 2
        y += [y[-1], x[-1] / (1 + alpha)]
    axis = torch.linspace(-0.1, 1.1, 41, dtype=torch.float64)
    z = [floats((axis - b) ** 2 + alpha * (axis**2 + b**2)) for b in axis]
    levels = [0.002, 0.01, 0.03, 0.07, 0.13, 0.2, 0.4]
    return Panel("x₁", "x₂", [Series("coordinate descent", x, y)], ground=Ground(floats(axis), floats(axis), z, levels),
                 limits=[-0.1, 1.1, -0.1, 1.1])  # fmt: skip


claim = Claim(
    slide=(54,),
    kind="EXACT",
    statement="Coordinate descent is no good strategy where the value of one variable strongly influences the "
    "best value "
    "of another: on (x₁ - x₂)² + α(x₁² + x₂²) it is very slow for small α, while Newton's method takes one step.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.7.2",
    equation="x₁ ← x₂/(1 + α),   x₂ ← x₁/(1 + α)",
    claimed="a contraction of 1/(1 + α)² per sweep; ln(1e6) / (2 ln(1 + α)) sweeps to 1e-6, in proportion to 1/α for "
    "small α",
    setting="From (1, 1) until |x₂| = 1e-6, α = 1, 0.1, 0.01, 0.001; ravine's coordinate, and newton at a step length "
    "of 1; float64.",
    changed="First: the power of 1/α over all four α, in [0.95, 1.05]. It is 0.9498, as the theory itself says: ln(1 + "
    "α) is proportional to α only where α is small. α = 1 is left out of the fit.",
    measure=_measure,
    seconds=15,
)
