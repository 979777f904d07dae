"""Slide 46: conjugate directions on a quadratic, and the minimum after as many line searches as there are numbers."""

import itertools

import torch
from torch import Tensor

from ravine.claims._solving import Walk, bowl, matrix, normal
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import Check, at_most, reported
from ravine.core.figure import Figure, Panel, Series

N, KAPPA = 30, 1e2
BETAS = {"fletcher_reeves": "Fletcher-Reeves", "polak_ribiere": "Polak-Ribière"}


def _run(beta: str, chance: torch.Generator, search: str = "exact(tol=1e-13)") -> tuple[Tensor, Tensor, list[float]]:
    """|d_i'Hd_j| of steps of length 1 in H, i < j; the same over the longer step's own; and ‖g‖ / ‖g₀‖ by step."""
    h, _ = matrix(torch.linspace(1 / KAPPA, 1, N, dtype=torch.float64), chance)
    walk = Walk(bowl(h), normal(N, chance), f"cg(beta={beta!r}, search={search!r})")
    points = [point for point, _ in zip(walk, range(N + 1), strict=False)]
    steps = torch.stack([b.x - a.x for a, b in itertools.pairwise(points)])
    products = (steps @ h @ steps.T).abs()
    own = products.diagonal()
    units, larger = torch.outer(own, own).sqrt(), torch.maximum(own[:, None], own[None])
    norms = [float(p.gradient.norm() / points[0].gradient.norm()) for p in points]
    return (products / units).tril(-1), (products / larger).tril(-1), norms


def _measure(trial: Trial) -> Findings:
    runs = trial.pick(quick=2, normal=20)
    checks: list[Check] = []
    curves: list[Series] = []
    for beta, name in BETAS.items():
        found = [_run(beta, trial.torch("case", i)) for i in range(runs)]
        checks.append(at_most(f"{name}: |d_i'Hd_j| / the larger of d_i'Hd_i, d_j'Hd_j: largest of all pairs and runs",
                              max(float(pairs.max()) for _, pairs, _ in found), 1e-8, claimed=0))  # fmt: skip
        checks.append(reported(f"{name}: |d_i'Hd_j| / sqrt(d_i'Hd_i d_j'Hd_j): the same",
                               max(float(pairs.max()) for pairs, _, _ in found)))  # fmt: skip
        checks.append(at_most(f"{name}: ‖g‖ / ‖g₀‖ after n = {N} steps: largest",
                              max(norms[-1] for _, _, norms in found), 1e-10, claimed=0))  # fmt: skip
        curves.append(Series(name, range(N + 1), found[0][2], kind="both" if not curves else "points"))
    caption = "One run: both formulas of β give the same steps, and the last of n makes the gradient zero to rounding."
    return Findings(checks, [Figure(caption, [Panel("line searches", "‖g‖ / ‖g₀‖", curves, log="y")])], [], [
        "The eigenvalues are spread evenly here, κ = 100. Where rounding breaks the promise is another claim.",
    ])  # fmt: skip


claim = Claim(
    slide=(46,),
    kind="EXACT",
    statement="Conjugate gradients search along directions with d_i'Hd_j = 0, so that a line search undoes nothing of "
    "the earlier ones, and reach the minimum of a quadratic of k numbers in at most k line searches.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.6.2, eq. 8.29-8.31, algorithm 8.9",
    equation="d_t = -g_t + β_t d_{t-1};   β = g_t'g_t / g_{t-1}'g_{t-1}   or   (g_t - g_{t-1})'g_t / g_{t-1}'g_{t-1}",
    claimed="d_i'Hd_j = 0 for all pairs; a zero gradient after n steps",
    setting=f"{N} numbers, eigenvalues evenly from 1/κ to 1, κ = {KAPPA:g}, random basis and start, 20 runs; ravine's "
    "cg with a line search to the minimum, float64.",
    changed="First: |d_i'Hd_j| / sqrt(d_i'Hd_i d_j'Hd_j) at most 1e-8. The largest was 1e-5, of the last steps "
    "with the "
    "first: rounding errors of the size of the first gradient are in every gradient, and the last ones are 1e-8 of it, "
    "so that their direction is known to so many digits only; the textbook's recurrence in float64 does the same. The "
    "product is laid beside the larger of the two curvatures now.",
    measure=_measure,
    seconds=1,
)
