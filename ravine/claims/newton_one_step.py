"""Slides 44 and 45: Newton's method jumps to the minimum of a quadratic bowl in one step, from anywhere."""

import torch

from ravine.claims._solving import Walk, bowl, matrix, normal
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_most, within
from ravine.core.figure import Figure, Panel, Series

SIZES, KAPPAS = (2, 10, 50, 200), (1e1, 1e3, 1e5)


def _far(n: int, kappa: float, chance: torch.Generator, spec: str) -> tuple[list[float], list[float]]:
    """The distance from the minimum in parts of the first, and the loss above it, after 0, 1, 2, 3 steps."""
    h, _ = matrix(torch.logspace(0, -torch.tensor(kappa).log10().item(), n, dtype=torch.float64), chance)
    minimum, start = normal(n, chance), normal(n, chance)
    points = [point for point, _ in zip(Walk(bowl(h, minimum), start, spec), range(4), strict=False)]
    whole = float((start - minimum).norm())
    return [float((p.x - minimum).norm()) / whole for p in points], [p.value for p in points]


def _convex(trial: Trial) -> list[float]:
    """Distances from the minimum of Σ cosh x_i, which is no quadratic, step by step."""
    start = torch.empty(10, dtype=torch.float64).uniform_(-1, 1, generator=trial.torch("cosh"))
    walk = Walk(lambda x: x.cosh().sum(), start, "newton(search='fixed')")
    return [float(point.x.norm()) for point, _ in zip(walk, range(6), strict=False)]


def _measure(trial: Trial) -> Findings:
    repeats = trial.pick(quick=2, normal=10)
    rows, worst, shown = [], 0.0, {}
    for n in SIZES:
        for kappa in KAPPAS:
            found = [_far(n, kappa, trial.torch(n, str(kappa), i), "newton(search='fixed')") for i in range(repeats)]
            far = max(distances[1] for distances, _ in found)
            worst = max(worst, far / kappa)
            rows.append((n, f"{kappa:g}", f"{far:.1e}"))
            shown[n, kappa] = far
    newton = _convex(trial)
    good = max(far for (_, kappa), far in shown.items() if kappa <= 1e3)
    checks = [
        at_most("distance after one step / distance at the start, κ up to 1e3: largest", good, 1e-10, claimed=0),
        at_most("the same divided by κ, all κ: largest", worst, 1e-14, claimed="rounding"),
        at_most("Σ cosh x, no quadratic: distance after 4 steps", newton[4], 1e-10, claimed="cubed at every step"),
        within("steps that it takes there to 1e-10, more than the one of a quadratic",
               next(k for k, d in enumerate(newton) if d <= 1e-10) - 1, 3, tol=1),
    ]  # fmt: skip
    table = Table("Largest distance after one step, in parts of the distance at the start", ("n", "κ", "left"), rows)
    shown_as = [max(d, 1e-18) for d in newton]
    curves = [
        Series("Σ cosh x", range(len(shown_as)), shown_as, kind="both"),
        Series("quadratic, n = 50, κ = 1e3", [0, 1], [1, max(shown[50, 1e3], 1e-18)], kind="both"),
    ]
    caption = "Newton's method: one step on a quadratic; on another convex function several, each better than the last."
    return Findings(checks, [Figure(caption, [Panel("step", "distance from the minimum", curves, log="y")])], [table], [
        "What is left after the step is rounding, which the condition number multiplies.",
    ])  # fmt: skip


claim = Claim(
    slide=(44, 45),
    kind="EXACT",
    statement="On a locally quadratic function with a positive definite Hessian, Newton's method jumps directly to the "
    "minimum; where the function is not quadratic, the step is iterated.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.6.1, eq. 8.26-8.27, algorithm 8.8",
    equation="θ* = θ₀ - H⁻¹ g",
    claimed="the minimum after one step, to rounding",
    setting="Quadratics of 2 to 200 numbers, κ = 10 to 1e5, random basis, minimum and start, 10 of each; Σ cosh x in "
    "10 dimensions; ravine's newton at a step length of 1, float64.",
    measure=_measure,
    seconds=4,
)
