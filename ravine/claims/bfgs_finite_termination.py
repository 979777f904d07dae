"""Slides 47 and 48: BFGS on a quadratic: the minimum after n line searches, and M = H⁻¹ by then."""

import itertools

import torch
from torch import Tensor

from ravine.claims._solving import Walk, bowl, matrix, normal
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_most, reported
from ravine.core.figure import Figure, Panel, Series

N, KAPPA = 10, 1e2


def _run(chance: torch.Generator, values: Tensor) -> list[tuple[float, float, float, float]]:
    """After each step: ‖g‖ / ‖g₀‖, ‖My - s‖ / ‖s‖ of the last pair and of all pairs, ‖M - H⁻¹‖ / ‖H⁻¹‖."""
    h, _ = matrix(values, chance)
    inverse = torch.linalg.inv(h)
    walk = Walk(bowl(h), normal(N, chance), "bfgs(search='exact(tol=1e-13)')")
    points, found = [], []
    for k, point in zip(range(N + 1), walk, strict=False):
        points.append(point)
        if not k:
            continue
        m = walk.memory["inverse"]
        rests = []
        for a, b in itertools.pairwise(points):
            s, y = b.x - a.x, b.gradient - a.gradient
            rests.append(float((m @ y - s).norm() / s.norm()))
        away = float((m - inverse).norm() / inverse.norm())
        found.append((float(point.gradient.norm() / points[0].gradient.norm()), rests[-1], max(rests), away))
    return found


def _measure(trial: Trial) -> Findings:
    count = trial.pick(quick=3, normal=20)
    even = torch.linspace(1 / KAPPA, 1, N, dtype=torch.float64)
    uneven = torch.logspace(0, -2, N, dtype=torch.float64)
    runs, hard = ([_run(trial.torch("case", i), values) for i in range(count)] for values in (even, uneven))
    checks: list[Check] = [
        at_most(f"‖g‖ / ‖g₀‖ after n = {N} steps: largest", max(run[-1][0] for run in runs), 1e-8, claimed=0),
        at_most("‖My - s‖ / ‖s‖, the last pair, every step: largest", max(at[1] for run in runs for at in run), 1e-8,
                claimed=0),
        at_most(f"the same of all pairs after n = {N} steps: largest", max(run[-1][2] for run in runs), 1e-8,
                claimed=0),
        at_most(f"‖M - H⁻¹‖ / ‖H⁻¹‖ after n = {N} steps: largest", max(run[-1][3] for run in runs), 1e-8, claimed=0),
        reported("eigenvalues even in the logarithm, κ the same: ‖g‖ / ‖g₀‖ after n steps, largest",
                 max(run[-1][0] for run in hard)),
    ]  # fmt: skip
    k = range(1, N + 1)
    one = runs[0]
    rows = [(i, *(f"{value:.1e}" for value in at)) for i, at in zip(k, one, strict=True)]
    columns = ("step", "‖g‖ / ‖g₀‖", "My - s, last pair", "My - s, all pairs", "M - H⁻¹")
    curves = [
        Series("‖g‖ / ‖g₀‖", k, [at[0] for at in one], kind="both"),
        Series("‖M - H⁻¹‖ / ‖H⁻¹‖", k, [at[3] for at in one], kind="both"),
    ]
    caption = "One run: M is far from H⁻¹ until the last line searches, and equals it, to rounding, after n."
    figure = Figure(caption, [Panel("line searches", "relative size", curves, log="y")])
    return Findings(checks, [figure], [Table("One run", columns, rows)], [
        "Every pair's secant condition holds to the end because the searches are exact and the function is "
        "quadratic; in "
        "general only the last pair's does.",
        "With eigenvalues that are crowded near zero rounding is felt after ten steps already, as in conjugate "
        "gradients.",
    ])  # fmt: skip


claim = Claim(
    slide=(47, 48),
    kind="EXACT",
    statement="BFGS approximates the inverse Hessian by a matrix M that low-rank updates refine with every step and "
    "that satisfies the secant condition; on a quadratic of n numbers with exact line searches it is at the minimum "
    "after n steps, with M = H⁻¹.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.6.3; the deck, slide 47; Nocedal & Wright 2006, sec. 6.1, eq. "
    "6.17, theorem 6.4",
    equation="M y = s,   M ← (I - ρ s y') M (I - ρ y s') + ρ s s',   ρ = 1/(y's)",
    claimed="a zero gradient, M y = s for all pairs and M = H⁻¹ after n steps",
    setting=f"{N} numbers, eigenvalues evenly from 1/κ to 1, κ = {KAPPA:g}, random basis and start, 20 "
    "runs; ravine's bfgs with a line search to the minimum, float64.",
    measure=_measure,
    seconds=1,
)
