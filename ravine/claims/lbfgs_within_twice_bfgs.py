"""Slide 49: L-BFGS with a short memory needs about as many steps as BFGS, with searches that are not exact."""

from collections.abc import Callable

import torch
from torch import Tensor

from ravine.claims._solving import Function, Walk, flat, logistic, normal
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_most, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import ratio

TOL, MOST, HISTORIES = 1e-6, 5000, (1, 3, 10, 30)
Problem = tuple[Function, Tensor]


def _rosenbrock(chance: torch.Generator) -> Problem:
    start = torch.tensor([-1.2, 1.0], dtype=torch.float64).repeat(25) + 0.1 * normal(50, chance)
    return lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum(), start


def _regression(chance: torch.Generator) -> Problem:
    return logistic(chance, 50, 300, 1e3), normal(50, chance)


def _quadratic(chance: torch.Generator) -> Problem:
    curvature = torch.logspace(0, -4, 100, dtype=torch.float64)
    return lambda x: (curvature * x * x).sum() / 2, normal(100, chance)


PROBLEMS: dict[str, Callable[[torch.Generator], Problem]] = {
    "logistic regression": _regression, "Rosenbrock, n = 50": _rosenbrock, "quadratic, κ = 1e4": _quadratic,
}  # fmt: skip


def _steps(trial: Trial, name: str, i: int, spec: str) -> int:
    steps = Walk(*PROBLEMS[name](trial.torch(name, i)), spec).until(flat(TOL), MOST)
    return MOST if steps is None else steps


def _measure(trial: Trial) -> Findings:
    runs = trial.pick(quick=2, normal=5)
    names = trial.pick(quick=tuple(PROBLEMS)[:1], normal=tuple(PROBLEMS))
    checks, rows, curves = [], [], []
    for name in names:
        dense = [_steps(trial, name, i, "bfgs") for i in range(runs)]
        gains = {}
        for m in HISTORIES:
            limited = [_steps(trial, name, i, f"lbfgs(history={m})") for i in range(runs)]
            gains[m] = ratio([a / b for a, b in zip(limited, dense, strict=True)])
            rows.append((name, f"L-BFGS, m = {m}", sorted(limited)[runs // 2], str(gains[m])))
        rows.append((name, "BFGS", sorted(dense)[runs // 2], "1"))
        role = "claim" if name == "logistic regression" else "condition"
        checks.append(at_most(f"{name}: steps of L-BFGS with m = 10 / of BFGS", gains[10], 2, role=role))  # type: ignore[arg-type]
        checks.append(reported(f"{name}: the same with m = 1", gains[1]))
        by = gains.values()
        curves.append(Series(name, HISTORIES, [g.value for g in by], [g.low for g in by], [g.high for g in by], "both"))
    curves.append(Series("twice the steps", [1, 30], [2, 2], kind="reference"))
    caption = "Steps of L-BFGS by the number of pairs that it keeps, in those of BFGS; band: 95 % interval of the mean."
    panel = Panel("pairs kept, m", "steps / steps of BFGS", curves, log="xy")
    table = Table("To ‖g‖ = 1e-6, strong Wolfe searches: medians", ("problem", "method", "steps", "/ BFGS"), rows)
    return Findings(checks, [Figure(caption, [panel])], [table], [
        "Searches meet the strong Wolfe conditions only, loosely; nothing is exact here.",
    ])  # fmt: skip


claim = Claim(
    slide=(49,),
    kind="STAT",
    statement="L-BFGS, like BFGS, stays well behaved when the minimum of the line search is reached only "
    "approximately, "
    "and a memory of m = 10 costs few steps.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.6.3 (p. 317); Liu & Nocedal 1989",
    claimed="with m = 10, at most twice the steps of BFGS",
    setting="Logistic regressions of 50 weights, κ = 1e3; also, as conditions, Rosenbrock's function of 50 "
    "numbers and a "
    "quadratic of 100, κ = 1e4; 5 random starts each; ravine's lbfgs and bfgs with strong Wolfe searches, float64.",
    measure=_measure,
    seconds=20,
)
