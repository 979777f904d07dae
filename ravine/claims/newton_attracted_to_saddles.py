"""Slide 17: Newton's method solves for a zero gradient, so it jumps to saddles; gradient descent moves away."""

from collections.abc import Callable

import torch
from torch import Tensor

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_least, at_most, within
from ravine.core.figure import Figure, Ground, Panel, Series, floats

LR, STEPS, N = 0.01, 20, 10
Function = Callable[[Tensor], Tensor]


def _classical(p: Tensor) -> Tensor:
    return 5 * p[0] ** 2 - p[1] ** 2


def _monkey(p: Tensor) -> Tensor:
    return p[0] ** 3 - 3 * p[0] * p[1] ** 2


def _step(method: str, f: Function, p: Tensor) -> Tensor:
    """GD: -ε g. Newton: -H⁻¹g. Saddle-free: -|H|⁻¹g, |H| = Q |Λ| Q'."""
    g: Tensor = torch.func.grad(f)(p)
    if method == "GD":
        return -LR * g
    values, q = torch.linalg.eigh(torch.func.jacrev(torch.func.grad(f))(p))
    step: Tensor = -q @ ((q.T @ g) / (values.abs() if method == "saddle-free" else values))
    return step


def _path(method: str, f: Function, start: Tensor, steps: int = STEPS) -> Tensor:
    points = [start]
    for _ in range(steps):
        if float(torch.func.grad(f)(points[-1]).norm()) == 0:
            break  # Newton has arrived
        points.append(points[-1] + _step(method, f, points[-1]))
    return torch.stack(points)


def _on_quadratics(trial: Trial) -> tuple[list[float], list[int]]:
    """Of random indefinite quadratics: how far from the saddle Newton's step lands, in parts of the way, and in how
    many directions fewer than the index it goes uphill.
    """
    far, short = [], []
    for i in range(trial.pick(quick=10, normal=50)):
        chance = trial.torch("quadratic", i)
        q = torch.linalg.qr(torch.randn(N, N, generator=chance, dtype=torch.float64)).Q
        values = torch.empty(N, dtype=torch.float64).uniform_(0.5, 2, generator=chance)
        values[: 1 + i % (N - 1)] *= -1
        h, saddle, start = q @ torch.diag(values) @ q.T, *torch.randn(2, N, generator=chance, dtype=torch.float64)

        def f(p: Tensor, h: Tensor = h, saddle: Tensor = saddle) -> Tensor:
            return (p - saddle) @ h @ (p - saddle) / 2

        step = _step("Newton", f, start)
        far.append(float((start + step - saddle).norm() / step.norm()))
        uphill = (q.T @ step) * (q.T @ torch.func.grad(f)(start)) > 0
        short.append(abs(int(uphill.sum()) - int((values < 0).sum())))
    return far, short


def _checks(trial: Trial, classical: dict[str, Tensor], monkey: dict[str, Tensor]) -> list[Check]:
    k = torch.arange(STEPS + 1).double()
    y, newton = classical["saddle-free"][:, 1] / 0.1, monkey["Newton"]
    slow = classical["GD"][:, 1] / 0.1
    off = (newton[: len(k)].norm(dim=1) * 2 ** k[: len(newton)] / newton[0].norm() - 1).abs().max()
    far, short = _on_quadratics(trial)
    return [
        at_most("‖θ‖ after one Newton step, 5x² - y²", float(classical["Newton"][1].norm()), 1e-12),
        at_most("|x| after one saddle-free step", float(classical["saddle-free"][1, 0].abs()), 1e-12),
        at_most("relative error of |y| = 0.1 · 2^k, saddle-free", float((y / 2**k - 1).abs().max()), 1e-12),
        at_most("relative error of |y| = 0.1 (1 + 2ε)^k, GD", float((slow / (1 + 2 * LR) ** k - 1).abs().max()), 1e-12),
        at_most("relative error of ‖θ‖ = ‖θ0‖ / 2^k, Newton, x³ - 3xy²", float(off), 1e-12),
        at_least("distance from that saddle after 20 saddle-free steps", float(monkey["saddle-free"][-1].norm()), 1),
        at_most("where Newton lands on quadratics: distance from the saddle / step", max(far), 1e-12),
        within("directions in which Newton goes uphill, less the index: largest", max(short), 0, tol=0),
    ]  # fmt: skip


def _measure(trial: Trial) -> Findings:
    starts = {"5x² - y²": (_classical, [0.5, 0.1]), "x³ - 3xy²": (_monkey, [0.4, 0.3])}
    paths = {
        name: {m: _path(m, f, torch.tensor(at, dtype=torch.float64)) for m in ("GD", "Newton", "saddle-free")}
        for name, (f, at) in starts.items()
    }
    panels = [_panel(name, f, paths[name]) for name, (f, _) in starts.items()]
    caption = "From the same start, Newton ends at the saddle in the middle; gradient descent and the saddle-free step "
    caption += "leave it, the latter much sooner."
    rows = [
        (name, method, len(path) - 1, f"{float(path[-1].norm()):.3g}")
        for name, found in paths.items()
        for method, path in found.items()
    ]
    table = Table("Distance from the saddle", ("function", "method", "steps", "distance at the end"), rows)
    return Findings(_checks(trial, *paths.values()), [Figure(caption, panels)], [table], NOTES)


def _panel(name: str, f: Function, paths: dict[str, Tensor]) -> Panel:
    axis = torch.linspace(-0.7, 0.7, 41, dtype=torch.float64)
    z = [floats(f(torch.stack([axis, y.expand(41)]))) for y in axis]
    top = max(abs(v) for row in z for v in row)
    series = []
    for method, path in paths.items():
        inside = path[(path.abs() <= 0.7).all(1)]
        series.append(Series(method, inside[:, 0].tolist(), inside[:, 1].tolist(), kind="both"))
    ground = Ground(
        floats(axis), floats(axis), z, [top * t for t in (-0.5, -0.2, -0.05, -0.01, 0, 0.01, 0.05, 0.2, 0.5)]
    )
    return Panel("x", "y", series, title=name, ground=ground, limits=[-0.7, 0.7, -0.7, 0.7])


NOTES = (
    "Along an eigenvector of negative curvature Newton's step has the sign of the gradient instead of the opposite "
    "one: it climbs, in exactly as many directions as the index says.",
    "x³ - 3xy² has no curvature at its saddle at all; Newton halves the distance at every step and never leaves.",
)

claim = Claim(
    slide=(17,),
    kind="EXACT",
    statement="Gradient descent is made to go downhill and leaves saddles; Newton's method is made to find a zero "
    "gradient and jumps to them; the saddle-free step, which takes |H| for H, leaves them faster than descent.",
    source="Dauphin et al. 2014 (arXiv:1406.2572), sec. 4; Goodfellow, Bengio & Courville 2016, sec. 8.2.3",
    equation="Newton: -H⁻¹g;   saddle-free: -|H|⁻¹g, |H| = Q |Λ| Q';   5x² - y²: y ← 0, 2y, (1 + 2ε)y",
    claimed="Newton is at the saddle after one step; |y| doubles at every saddle-free step, and grows by 1 + 2ε with "
    "gradient descent",
    setting="5x² - y² from (0.5, 0.1) and x³ - 3xy² from (0.4, 0.3), 20 steps, ε = 0.01; 50 random indefinite "
    "quadratics "
    f"in {N} dimensions; float64.",
    measure=_measure,
    seconds=1,
)
