"""Slide 14: an ill-conditioned Hessian makes gradient descent slow, in proportion to its condition number."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ravine.claims._walk import steps_until, walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Estimate, inside, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean, ratio, slope
from ravine.rules import SGD

N, DISTANCE = 20, 1e-6
RATES: dict[str, Callable[[float], float]] = {
    "ε = 1/λ_max": lambda kappa: 1.0,
    "ε = 2/(λ_max + λ_min)": lambda kappa: 2 / (1 + 1 / kappa),
}


def _hessian(kappa: float, generator: torch.Generator) -> Tensor:
    """Eigenvalues from 1/kappa to 1, evenly on a logarithmic scale, in a random basis."""
    basis = torch.linalg.qr(torch.randn(N, N, generator=generator, dtype=torch.float64)).Q
    h: Tensor = basis @ torch.diag(torch.logspace(-math.log10(kappa), 0, N, dtype=torch.float64)) @ basis.T
    return h


def _steps(kappa: float, lr: float, starts: int, generator: torch.Generator) -> list[float]:
    """Of each start of length 1, the steps until the distance from the minimum is 1e-6."""
    h = _hessian(kappa, generator)
    start = torch.nn.functional.normalize(torch.randn(starts, N, generator=generator, dtype=torch.float64), dim=1)
    points = walk(SGD(), lambda x: x @ h, start, lr)
    return steps_until(lambda x: (x.square().sum(1) < DISTANCE**2)[None], points, most=10**6)[0].tolist()


def _measure(trial: Trial) -> Findings:
    kappas = trial.pick(quick=[10, 100, 1000], normal=[10, 30, 100, 300, 1000, 3000, 10_000])
    checks, series, rows = [], [], []
    for name, lr in RATES.items():
        steps = [_steps(kappa, lr(kappa), 10, trial.torch(f"κ = {kappa}")) for kappa in kappas]
        exponent = mean([slope(kappas, each).value for each in zip(*steps, strict=True)])
        means: list[Estimate] = [ratio(each) for each in steps]
        checks.append(inside(f"power of κ in the steps to {DISTANCE:g}, {name}", exponent, 0.9, 1.1, claimed=1))
        series.append(Series(name, kappas, [m.value for m in means], [m.low for m in means], [m.high for m in means],
                             kind="both"))  # fmt: skip
        rows.append((name, *(f"{m.value:,.0f}" for m in means)))
    last = means[-1].value / (kappas[-1] * math.log(1 / DISTANCE) / 2)
    checks.append(reported(f"steps / (κ/2) ln 10⁶ at the better rate, κ = {kappas[-1]:,}", last, claimed="about 1"))
    bound = [k * math.log(1 / DISTANCE) for k in kappas]
    series.append(Series("κ ln 10⁶", kappas, bound, kind="reference"))
    table = Table("Steps to a distance of 1e-6, geometric means", ("rate", *(f"κ = {k:,}" for k in kappas)), rows)
    caption = "Steps of gradient descent by condition number, and the most that ε = 1/λ_max can need."
    return Findings(checks, [Figure(caption, [Panel("condition number κ", "steps", series, log="xy")])], [table], NOTES)


NOTES = (
    "The largest curvature sets the learning rate (above 2/λ_max descent diverges), and the smallest one sets how many "
    "steps are then needed: neither is slow alone, their ratio is.",
    "A start has a smaller share in the flattest direction than its whole length, which is why the steps lie a little "
    "below the bound.",
)

claim = Claim(
    slide=(14,),
    kind="RATE",
    statement="Where the Hessian is ill-conditioned, strong curvature forces small steps and learning is slow: "
    "gradient "
    "descent needs a number of steps in proportion to the condition number.",
    source="Goodfellow, Bengio & Courville 2016, sec. 4.3.1 and 8.2.1",
    equation="distance after k steps <= max(|1 - ελ_min|, |1 - ελ_max|)^k;   k ≈ κ ln(1/δ) at ε = 1/λ_max",
    claimed="the power of κ is 1, within 0.1",
    setting=f"Quadratics in {N} dimensions, eigenvalues from 1/κ to 1 in a random basis, κ = 10 to 10,000, 10 random "
    "starts at distance 1, float64, until the distance from the minimum is 1e-6.",
    measure=_measure,
    seconds=20,
)
