"""Slide 18: what repeated multiplication by one matrix does: it scales by the powers of the eigenvalues."""

import math

import torch
from torch import Tensor

from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import Check, at_least, at_most, within
from ravine.core.figure import Figure, Panel, Series

SIZE, STEPS = 50, 100
RADII = (0.9, 1.0, 1.1)
GAP = 0.9  # the second eigenvalue over the first, where the power method is watched


def _radius(w: Tensor) -> float:
    return float(torch.linalg.eigvals(w).abs().max())


def _norms(w: Tensor, steps: int) -> list[float]:
    """The largest singular value of W^t for t = 1 ... steps."""
    power, found = torch.eye(SIZE, dtype=torch.float64), []
    for _ in range(steps):
        power = power @ w
        found.append(float(torch.linalg.matrix_norm(power, 2)))
    return found


def _apart(w: Tensor, steps: int) -> float:
    """How far W^t is from V diag(λ)^t V⁻¹ (eq. 8.11), relative to W^t; the most of all t."""
    values, vectors = torch.linalg.eig(w)
    back, power, found = torch.linalg.inv(vectors), torch.eye(SIZE, dtype=torch.float64), 0.0
    for t in range(1, steps + 1):
        power = power @ w
        there = (vectors * values**t @ back).real
        found = max(found, float((there - power).norm() / power.norm()))
    return found


def _cosines(q: Tensor, start: Tensor, steps: int) -> list[float]:
    """|cos| of W^t x to the principal eigenvector, for a symmetric W of eigenvalues 1, GAP, and smaller ones."""
    values = torch.cat([torch.tensor([1.0, GAP]), torch.linspace(-0.85, 0.85, SIZE - 2)]).double()
    x, found = q.T @ start, []
    for _ in range(steps):
        x = values * x
        x = x / x.norm()
        found.append(float(x[0].abs()))
    return found


def _measure(trial: Trial) -> Findings:
    chance = trial.torch("matrices")
    draw = torch.randn(SIZE, SIZE, generator=chance, dtype=torch.float64)
    q = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=chance, dtype=torch.float64)).Q
    symmetric = (q * torch.linspace(-0.95, 1, SIZE, dtype=torch.float64)) @ q.T
    checks: list[Check] = []
    series = []
    for radius in RADII:
        w, normal = draw * radius / _radius(draw), symmetric * radius
        norms = _norms(w, STEPS)
        checks += [
            within(
                f"‖W^100‖^(1/100), Gaussian W of spectral radius {radius}", norms[-1] ** (1 / STEPS), radius, rel=0.03
            ),
            within(
                f"‖W^100‖, symmetric W of spectral radius {radius}", _norms(normal, STEPS)[-1], radius**STEPS, rel=1e-9
            ),
            at_most(f"W^t against V diag(λ)^t V⁻¹, spectral radius {radius}", _apart(w, STEPS), 1e-9),
        ]
        series.append(Series(f"spectral radius {radius}", range(1, STEPS + 1), norms))
        series.append(Series("its powers", [1, STEPS], [radius, radius**STEPS], kind="reference"))
    start = torch.randn(SIZE, generator=chance, dtype=torch.float64)
    cosines = _cosines(q, start, 200)
    tangents = [math.sqrt(1 - cosines[t - 1] ** 2) / cosines[t - 1] for t in (60, 120)]
    shrink = (tangents[1] / tangents[0]) ** (1 / 60)
    checks += [
        within("power method: factor by which tan(angle) shrinks in a step", shrink, GAP, rel=0.01),
        at_least("power method: |cos| to the principal eigenvector after 200 steps", cosines[-1], 1 - 1e-9),
    ]
    turns = Series("measured", range(1, 201, 2), [1 - c**2 for c in cosines[::2]])
    slope = Series("(λ2/λ1)^2t", [1, 200], [GAP**2, GAP**400], kind="reference")
    panels = [
        Panel("t", "largest singular value of W^t", series, "repeated multiplication", log="y"),
        Panel("t", "sin² of the angle to the eigenvector", [turns, slope], "power method", log="y"),
    ]
    caption = (
        "Left: 10 % more or less than 1 in the spectral radius are four powers of ten after 100 steps. Right: all that "
        "does not lie along the principal eigenvector is forgotten."
    )
    return Findings(checks, [Figure(caption, panels)], notes=NOTES)


NOTES = (
    "A Gaussian matrix is not normal: its powers may grow before they shrink. At t = 100 that is a constant factor, of "
    "which the hundredth root is within 3 % of 1; a symmetric matrix follows the power to rounding.",
    "Whoever applies W to x again and again does what the power method does (the book's footnote to eq. 8.12): the "
    "directions of smaller eigenvalues are lost, which is what makes long dependencies hard.",
)

claim = Claim(
    slide=(18,),
    kind="EXACT",
    statement="Multiplying by the same matrix W again and again is W^t = V diag(λ)^t V⁻¹: eigenvalues above 1 in "
    "magnitude explode, those below 1 vanish, and what is not along the principal eigenvector is discarded.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.2.5, eq. 8.11; Hochreiter 1991; Bengio, Simard & Frasconi 1994",
    equation="W^t = V diag(λ)^t V⁻¹;   ‖W^t‖^(1/t) → ρ(W);   tan ∠(W^t x, v1) ~ (λ2/λ1)^t",
    claimed="after 100 steps 2.7e-5, 1 and 1.4e4 for spectral radii 0.9, 1 and 1.1",
    setting="A Gaussian and a symmetric 50 x 50 matrix, float64, each at three spectral radii, t = 1 to 100; a vector "
    "multiplied 200 times by a symmetric matrix whose second eigenvalue is 0.9 of the first.",
    measure=_measure,
    seconds=1,
)
