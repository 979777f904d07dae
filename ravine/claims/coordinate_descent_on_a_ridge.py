"""Slide 54, D13: coordinate descent is "guaranteed" to arrive at a minimum: where that holds, and where not."""

import math
from fractions import Fraction

import torch
from torch import Tensor

from ravine.claims._solving import Function, Walk, flat, matrix, normal
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_most, reported, within
from ravine.core.figure import Figure, Ground, Panel, Series, floats

N, PULL = 10, 0.1
Three = tuple[Fraction, Fraction, Fraction]


def _smooth(chance: torch.Generator) -> tuple[Function, Tensor]:
    """A smooth, strictly convex function that is no quadratic: x'Hx/2 + Σ ln cosh(3 (Ax)_i)."""
    h, a = (matrix(torch.linspace(low, 1, N, dtype=torch.float64), chance)[0] for low in (0.1, 0.2))
    return lambda x: x @ (h @ x) / 2 + (torch.logaddexp(3 * (a @ x), -3 * (a @ x))).sum(), normal(N, chance)


def _ridge(x: float, y: float) -> float:
    return abs(x - y) + PULL * (x * x + y * y)


def _along(other: float) -> float:
    """The x at which |x - other| + PULL x² is lowest."""
    return min(max(other, -1 / (2 * PULL)), 1 / (2 * PULL))


def _stuck(start: tuple[float, float], sweeps: int = 100) -> tuple[float, float]:
    x, y = start
    for _ in range(sweeps):
        x = _along(y)
        y = _along(x)
    return x, y


def _powell(sweeps: int) -> tuple[list[Three], list[float]]:
    """-xy - yz - zx + Σ max(|x| - 1, 0)², minimized over x, y and z in turn in exact arithmetic: points, and ‖∇f‖."""
    e = Fraction(1, 10)
    point = [-1 - e, 1 + e / 2, -1 - e / 4]
    points: list[Three] = [(point[0], point[1], point[2])]
    norms = []
    for k in range(3 * sweeps):
        i = k % 3
        rest = sum(point) - point[i]
        point[i] = (1 if rest > 0 else -1) * (1 + abs(rest) / 2)
        points.append((point[0], point[1], point[2]))
        slopes = [-(sum(point) - v) + 2 * max(abs(v) - 1, Fraction(0)) * (1 if v > 0 else -1) for v in point]
        norms.append(float(sum(s * s for s in slopes)) ** 0.5)
    return points, norms


def _measure(trial: Trial) -> Findings:
    runs = trial.pick(quick=3, normal=20)
    there = 0
    for i in range(runs):
        f, start = _smooth(trial.torch("case", i))
        there += Walk(f, start, "coordinate").until(flat(1e-8), 2000) is not None
    end = _stuck((1.0, 1.0))
    solver = Walk(lambda p: (p[0] - p[1]).abs() + PULL * p @ p, torch.ones(2, dtype=torch.float64), "coordinate")
    last = [point for point, _ in zip(solver, range(50), strict=False)][-1]
    sweeps = trial.pick(quick=10, normal=100)
    points, norms = _powell(sweeps)
    turn = max(abs(float(a - b)) for a, b in zip(points[-1], points[-7], strict=True))
    checks: list[Check] = [
        within(f"smooth convex functions of {runs} on which ‖g‖ gets to 1e-8", there, runs, tol=0),
        at_most("ridge: distance from the minimum after 100 sweeps from (1, 1)", math.hypot(*end), 1e-3,
                claimed=0, role="condition"),
        at_most(f"Powell's function: lowest ‖∇f‖ in {sweeps} sweeps", min(norms), 1e-3, claimed=0, role="condition"),
        reported("ridge: f at (1, 1) less at the minimum, which no coordinate lowers", _ridge(*end)),
        reported("ridge, ravine's coordinate: f less that at the minimum where it stops", last.value),
        reported("Powell's function: how far the point is from that two sweeps before, at the end", turn),
    ]  # fmt: skip
    rows = [(k, *(f"{float(v):+.5f}" for v in points[k])) for k in range(8)]
    table = Table("Powell's function: after each minimization over one number", ("k", "x", "y", "z"), rows)
    caption = "|x - y| + (x² + y²)/10: from any point of the ridge x = y both coordinate directions lead up."
    return Findings(checks, [Figure(caption, [_panel()])], [table], NOTES)


def _panel() -> Panel:
    axis = torch.linspace(-0.5, 1.5, 41, dtype=torch.float64)
    z = [floats((axis - b).abs() + PULL * (axis**2 + b**2)) for b in axis]
    series = [
        Series("stuck", [1.0], [1.0], kind="points"),
        Series("the minimum", [0.0], [0.0], kind="points"),
        Series("another start: (1.4, 0.2)", [1.4, _along(0.2), _along(0.2)], [0.2, 0.2, _along(0.2)], kind="both"),
    ]
    ground = Ground(floats(axis), floats(axis), z, [0.05, 0.1, 0.2, 0.4, 0.7, 1, 1.4, 1.8])
    return Panel("x", "y", series, ground=ground, limits=[-0.5, 1.5, -0.5, 1.5])


NOTES = (
    "On the ridge the function falls only along x = y, and no coordinate direction is that one. f is convex and "
    "has one "
    "minimum; what is lacking is smoothness.",
    "Powell's function has continuous derivatives and is not convex. The points go round six corners of a cube, nearer "
    "and nearer, where the gradient has the length 2. It is not bounded below, so there is no minimum to arrive "
    "at; but "
    "the points stay where f is about 1, at none of which it is stationary. Fractions are used, since rounding "
    "ends the "
    "cycle.",
    "Convergence is known where f has continuous derivatives and each minimum along a coordinate is the only one "
    "(Bertsekas, Nonlinear Programming, sec. 2.7), as with the smooth functions here.",
)

claim = Claim(
    slide=(54,),
    kind="EXACT",
    statement="Minimizing over one coordinate after the other, cycling repeatedly through all of them, is "
    "guaranteed to "
    "arrive at a (local) minimum.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.7.2 (p. 321); against it Powell 1973, Mathematical "
    "Programming 4, "
    "193-201",
    claimed="a minimum on every function; the literature: only with conditions that the book does not state",
    setting=f"{20} smooth, strictly convex functions of {N} numbers with ravine's coordinate; |x - y| + (x² + "
    "y²)/10 from "
    "(1, 1); Powell's function of three numbers, 100 sweeps in exact fractions.",
    disagreement="D13",
    measure=_measure,
    seconds=10,
)
