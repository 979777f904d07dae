"""Slide 46, D9: "at most k line searches" is a promise of exact arithmetic; rounding breaks it."""

from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_most
from ravine.core.figure import Figure, Panel, Series

N, KAPPAS, TOL, MOST = 20, (1e2, 1e3, 1e4), 1e-8, 120
Array = Any


def _descents(h: Array, start: Array, most: int = MOST) -> list[float]:
    """‖Hx‖ / ‖Hx₀‖ after each step of linear conjugate gradients on x'Hx/2, in the arithmetic of the arrays."""
    x, g = start, h @ start
    d, first, norms = -g, g @ g, [1.0]
    while len(norms) <= most and norms[-1] > 1e-20 and g @ g > 0:
        hd = h @ d
        if not d @ hd > 0:
            break  # too small for the arithmetic's range
        x = x + (g @ g) / (d @ hd) * d
        before, g = g @ g, g + (g @ g) / (d @ hd) * hd
        d = -g + (g @ g) / before * d
        left = h @ x  # the true gradient: the one carried along goes on to fall when x no longer improves
        norms.append(float((left @ left) / first) ** 0.5)
    return norms


def _runs(kappa: float, chance: np.random.Generator) -> dict[str, list[float]]:
    """The same matrix and start in three arithmetics."""
    q = np.linalg.qr(chance.normal(size=(N, N)))[0]
    h = q @ np.diag(np.geomspace(1 / kappa, 1, N)) @ q.T
    h = ((h + h.T) / 2).astype(np.float32)  # exact in all three
    start = chance.normal(size=N).astype(np.float32)
    exact = np.vectorize(lambda v: Decimal(float(v)), otypes=[object])
    with localcontext() as context:
        context.prec = 100
        found = {"100 digits": _descents(exact(h), exact(start), N)}
    found["float64"] = _descents(h.astype(np.float64), start.astype(np.float64))
    return found | {"float32": _descents(h, start)}


def _steps(norms: list[float]) -> int:
    return next((k for k, norm in enumerate(norms) if norm <= TOL), MOST + 1)


def _measure(trial: Trial) -> Findings:
    runs = trial.pick(quick=2, normal=20)
    found = {kappa: [_runs(kappa, trial.numpy(str(kappa), i)) for i in range(runs)] for kappa in KAPPAS}
    checks, rows = [], []
    for kappa, courses in found.items():
        counts = {name: [_steps(course[name]) for course in courses] for name in courses[0]}
        floor = float(np.median([min(course["float32"]) for course in courses]))
        checks.append(at_most(f"line searches to 1e-8 with 100 digits, κ = {kappa:g}: most of all runs",
                              max(counts["100 digits"]), N, claimed=N))  # fmt: skip
        middle = float(np.median(counts["float64"]))
        checks.append(at_most(f"the same in float64, κ = {kappa:g}: median", middle, N, claimed=N, role="condition"))
        checks.append(at_most(f"lowest ‖g‖ / ‖g₀‖ in float32 within {MOST} steps, κ = {kappa:g}: median", floor, TOL,
                              claimed="zero after 20", role="condition"))  # fmt: skip
        last = max(course["100 digits"][-1] for course in courses)
        rows.append((f"{kappa:g}", max(counts["100 digits"]), f"{last:.0e}", f"{middle:g}",
                     f"{min(counts['float64'])}-{max(counts['float64'])}", f"{floor:.1e}"))  # fmt: skip
    columns = ("κ", "100 digits: most", "left then", "float64: median", "float64: range", "float32: lowest ‖g‖/‖g₀‖")
    table = Table("Line searches until ‖g‖ is 1e-8 of the first, n = 20", columns, rows)
    curves = [Series(name, range(len(course)), [max(c, 1e-20) for c in course])
              for name, course in found[KAPPAS[-1]][0].items()]  # fmt: skip
    curves.append(Series("n = 20", [N, N], [1e-20, 1], kind="reference"))
    caption = f"One run, κ = {KAPPAS[-1]:g}: with 100 digits the gradient vanishes at step 20; float64 needs more, and "
    caption += "float32 comes to a floor."
    panel = Panel("line searches", "‖g‖ / ‖g₀‖", curves, log="y", limits=[0, 80, 1e-20, 10])
    return Findings(checks, [Figure(caption, [panel])], [table], NOTES)


NOTES = (
    "Rounding makes directions lose their conjugacy, the sooner the larger κ is, and a direction once searched "
    "has to be "
    "searched again. With eigenvalues spread evenly and κ up to 100 the promise is kept in float64 too.",
    "The gradient is computed afresh from x here. The one that the method carries along goes on to fall when x "
    "no longer "
    "improves.",
)

claim = Claim(
    slide=(46,),
    kind="EXACT",
    statement="In a space of k dimensions, conjugate gradients require at most k line searches to reach the minimum of "
    "a quadratic.",
    source="the deck, slide 46; Goodfellow, Bengio & Courville 2016, sec. 8.6.2; neither says that it is so in exact "
    "arithmetic only",
    claimed=f"at most k = {N} line searches",
    setting=f"n = {N}, eigenvalues from 1/κ to 1 evenly in the logarithm, κ = 1e2, 1e3, 1e4, random basis and "
    "start, 20 "
    "runs; Hestenes and Stiefel's method on the same matrix with 100 decimal digits, in float64 and in float32.",
    disagreement="D9",
    measure=_measure,
    seconds=5,
)
