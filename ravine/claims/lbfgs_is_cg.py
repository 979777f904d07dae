"""Slide 49: with one pair and exact line searches, L-BFGS goes in the directions of conjugate gradients."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from ravine.claims._solving import Function, Walk, bowl, logistic, matrix, normal
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import Check, at_most, reported
from ravine.core.figure import Figure, Panel, Series

N, STEPS, EXACT = 20, 12, "exact(tol=1e-13)"
Problem = tuple[Function, Tensor]


def _quadratic(chance: torch.Generator) -> Problem:
    h, _ = matrix(torch.linspace(0.01, 1, N, dtype=torch.float64), chance)
    return bowl(h), normal(N, chance)


def _regression(chance: torch.Generator) -> Problem:
    return logistic(chance, N, 200, 100), normal(N, chance)


def _steps(f: Function, start: Tensor, spec: str) -> Tensor:
    points = [point.x for point, _ in zip(Walk(f, start, spec), range(STEPS + 1), strict=False)]
    return torch.stack([b - a for a, b in itertools.pairwise(points)])


def _sines(one: Tensor, other: Tensor) -> list[float]:
    """The angle between the steps of two methods, in radians, step by step."""
    units = [steps / steps.norm(dim=1, keepdim=True) for steps in (one, other)]
    return [float(v) for v in (units[0] - units[1]).norm(dim=1)]


def _angles(trial: Trial, make: Callable[[torch.Generator], Problem], search: str, runs: int) -> list[float]:
    """The largest angle of all runs between L-BFGS with m = 1 and CG, by step."""
    found = []
    for i in range(runs):
        f, start = make(trial.torch("case", i))
        other = _steps(f, start, f"cg(beta='hestenes_stiefel', search={search!r})")
        found.append(_sines(_steps(f, start, f"lbfgs(history=1, search={search!r})"), other))
    return [max(at) for at in zip(*found, strict=True)]


def _measure(trial: Trial) -> Findings:
    runs = trial.pick(quick=2, normal=20)
    quadratic = _angles(trial, _quadratic, EXACT, runs)
    regression = _angles(trial, _regression, EXACT, runs)
    loose = _angles(trial, _quadratic, "strong_wolfe", runs)
    checks: list[Check] = [
        at_most(f"quadratics: angle between their steps, {STEPS} steps (rad): largest", max(quadratic), 1e-7,
                claimed=0),
        at_most("logistic regressions, no quadratics: the same", max(regression), 1e-5, claimed=0),
        reported("quadratics, strong Wolfe instead of exact searches: the same", max(loose)),
    ]  # fmt: skip
    k = range(1, STEPS + 1)
    shown = {"quadratics, exact searches": quadratic, "regressions, exact searches": regression}
    shown["quadratics, strong Wolfe"] = loose
    curves = [Series(name, k, [max(a, 1e-17) for a in angles], kind="both") for name, angles in shown.items()]
    caption = "The largest angle of all runs between the steps of L-BFGS with one pair and of conjugate gradients."
    return Findings(checks, [Figure(caption, [Panel("step", "angle (rad)", curves, log="y")])], [], [
        "The book starts from M = I in place of the last M. ravine has M = γI, γ = s'y/y'y, which changes the "
        "length of the "
        "direction only, as long as searches are exact.",
        "On functions that are no quadratics the equal formula of β is Hestenes and Stiefel's.",
    ])  # fmt: skip


claim = Claim(
    slide=(49,),
    kind="EXACT",
    statement="With exact line searches, the directions of L-BFGS, which takes the identity for the M of the step "
    "before, are mutually conjugate: they are those of conjugate gradients.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.6.3 (p. 317); Nocedal & Wright 2006, sec. 7.2, eq. 7.22-7.24",
    equation="m = 1, s'g = 0:   -Mg = γ (-g + (y'g / y's) s)",
    claimed="an angle of 0 at every step",
    setting=f"Quadratics of {N} numbers, eigenvalues evenly from 0.01 to 1, and logistic regressions of {N} "
    "weights; 20 "
    f"of each, random starts, {STEPS} steps; ravine's lbfgs(history=1) and cg(beta='hestenes_stiefel'), float64.",
    measure=_measure,
    seconds=5,
)
