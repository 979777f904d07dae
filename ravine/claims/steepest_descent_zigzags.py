"""Slide 46: steepest descent with exact line searches turns by a right angle each time, and so goes to and fro."""

import torch

from ravine.claims._solving import Function, Walk, bowl, matrix, normal
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import at_least, at_most, reported
from ravine.core.figure import Figure, Ground, Panel, Series, floats
from ravine.racing.estimate import ratio

N, KAPPA, DISTANCE = 30, 1e3, 1e-6
DESCENT, CG = (f"{name}(search='exact(tol=1e-13)')" for name in ("steepest_descent", "cg"))


def _descent(f: Function, start: torch.Tensor) -> tuple[int, float]:
    """Steps until ‖x‖ = 1e-6, and the largest |cos| between consecutive gradients."""
    walk = iter(Walk(f, start, DESCENT))
    before, worst, steps = next(walk), 0.0, 0
    while float(before.x.norm()) > DISTANCE:
        after = next(walk)
        both = float(before.gradient.norm() * after.gradient.norm())
        worst = max(worst, abs(float(before.gradient @ after.gradient)) / both)
        before, steps = after, steps + 1
    return steps, worst


def _measure(trial: Trial) -> Findings:
    runs = trial.pick(quick=1, normal=3)
    kappa = trial.pick(quick=1e2, normal=KAPPA)
    descents, cosines, conjugate = [], [], []
    for i in range(runs):
        chance = trial.torch("case", i)
        h, _ = matrix(torch.linspace(1 / kappa, 1, N, dtype=torch.float64), chance)
        f, start = bowl(h), normal(N, chance)
        steps, worst = _descent(f, start)
        descents.append(steps)
        cosines.append(worst)
        found = Walk(f, start, CG).until(lambda point: float(point.x.norm()) <= DISTANCE, 10 * N)
        conjugate.append(found or 10 * N)
    checks = [
        at_most("|cos| between consecutive gradients of steepest descent: largest", max(cosines), 1e-12, claimed=0),
        at_most(f"line searches of conjugate gradients, of {N} numbers: most", max(conjugate), N, claimed=N),
        at_least("line searches of steepest descent / of conjugate gradients",
                 ratio([a / b for a, b in zip(descents, conjugate, strict=True)]) if runs > 1
                 else descents[0] / conjugate[0], 0.1 * kappa, claimed="in proportion to κ"),
        *[reported(f"line searches of steepest descent, run {i + 1}", k) for i, k in enumerate(descents)],
        reported("of conjugate gradients: most", max(conjugate)),
    ]  # fmt: skip
    caption = "Two numbers, κ = 10: steepest descent meets each contour at a right angle to its last step; conjugate "
    caption += "gradients are done after two."
    return Findings(checks, [Figure(caption, [_panel()])])


def _panel() -> Panel:
    h = torch.diag(torch.tensor([1.0, 10.0], dtype=torch.float64))
    start = torch.tensor([10.0, 1.0], dtype=torch.float64)
    series = []
    for name, spec, count in (("steepest descent", DESCENT, 15), ("conjugate gradients", CG, 3)):
        points = [point.x for point, _ in zip(Walk(bowl(h), start, spec), range(count), strict=False)]
        series.append(Series(name, [float(p[0]) for p in points], [float(p[1]) for p in points], kind="both"))
    x, y = torch.linspace(-4, 11, 46), torch.linspace(-3, 3, 37)
    z = [floats(0.5 * x**2 + 5 * b**2) for b in y]
    ground = Ground(floats(x), floats(y), z, [2, 8, 18, 36, 55])
    return Panel("x", "y", series, ground=ground, limits=[-4, 11, -3, 3])


claim = Claim(
    slide=(46,),
    kind="EXACT",
    statement="In steepest descent with line searches each direction is at right angles to the one before, which "
    "undoes "
    "progress made earlier: a zig-zag; conjugate gradients avoid it.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.6.2, fig. 8.6",
    equation="line search: ∇J(θ_t)·d_{t-1} = 0;   steepest descent: d_t = -∇J(θ_t)",
    claimed="cos = 0 between consecutive gradients; many times the line searches of conjugate gradients, which "
    "take at "
    f"most n = {N}",
    setting=f"{N} numbers, eigenvalues evenly from 1/κ to 1, κ = {KAPPA:g}, random basis and start, 3 runs; ravine's "
    "steepest_descent and cg with a line search to the minimum, until the distance from the minimum is 1e-6; float64.",
    measure=_measure,
    seconds=12,
)
