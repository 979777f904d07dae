"""Slides 47 to 49, D14: the book's direction ρ = M g has no minus sign; what it takes for that to work."""

import torch
from torch import Tensor

from ravine.claims._solving import matrix, normal
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_most, within
from ravine.core.figure import Figure, Kind, Panel, Series

N, KAPPA, STEPS = 10, 1e2, 15


def _run(h: Tensor, x: Tensor, sign: int, backwards: bool) -> tuple[list[float], list[float], list[float]]:
    """‖g‖ after each step, the steps ε* of exact line searches, and the slopes g'ρ, with ρ = sign · M g.

    Unless `backwards`, ε* is the best of ε >= 0 only.
    """
    m, g = torch.eye(N, dtype=torch.float64), h @ x
    norms, lengths, slopes = [float(g.norm())], [], []
    for _ in range(STEPS):
        rho = sign * m @ g
        slopes.append(float(g @ rho / (g.norm() * rho.norm())))
        length = float(-(g @ rho) / (rho @ h @ rho))
        lengths.append(length if backwards else max(length, 0.0))
        s = lengths[-1] * rho
        x, y = x + s, h @ s
        g = h @ x
        norms.append(float(g.norm()))
        if norms[-1] <= 1e-12 * norms[0]:
            break
        if float(s @ y) > 0:
            turn = torch.eye(N, dtype=torch.float64) - torch.outer(s, y) / (s @ y)
            m = turn @ m @ turn.T + torch.outer(s, s) / (s @ y)
    return norms, lengths, slopes


def _measure(trial: Trial) -> Findings:
    runs = trial.pick(quick=5, normal=50)
    found = []
    for i in range(runs):
        chance = trial.torch("case", i)
        h, _ = matrix(torch.linspace(1 / KAPPA, 1, N, dtype=torch.float64), chance)
        start = normal(N, chance)
        found.append([_run(h, start, 1, True), _run(h, start, 1, False), _run(h, start, -1, False)])
    free, forward, minus = zip(*found, strict=True)
    uphill = sum(all(slope > 0 for slope in run[2]) for run in free)
    apart = max(abs(a - b) / run[0][0] for run, other in zip(free, minus, strict=True)
                for a, b in zip(run[0], other[0], strict=False))  # fmt: skip
    left = [run[0][-1] / run[0][0] for run in forward]
    checks = [
        within(f"runs of {runs} in which every ρ = M g points uphill", uphill, runs, tol=0),
        at_most("‖g‖ / ‖g₀‖ with ρ = M g after 10 line searches over all ε: largest",
                max(run[0][N] / run[0][0] for run in free), 1e-8, claimed=0),
        within("of these runs, all ε* negative in", sum(all(e < 0 for e in run[1]) for run in free), runs, tol=0),
        at_most("‖g‖ / ‖g₀‖ with ρ = M g, each ε* next to that with -M g and ε >= 0: largest difference", apart, 1e-8,
                claimed=0),
        at_most("‖g‖ / ‖g₀‖ with ρ = M g and line searches over ε >= 0: largest", max(left), 1e-8, claimed=0,
                role="condition"),
    ]  # fmt: skip
    shown = {"ρ = M g, all ε": free[0], "ρ = M g, ε >= 0": forward[0], "ρ = -M g, ε >= 0": minus[0]}
    rows = [(name, f"{run[0][N] / run[0][0]:.0e}", f"{min(run[1]):.3g} to {max(run[1]):.3g}")
            for name, run in shown.items()]  # fmt: skip
    table = Table("One run", ("direction and search", "‖g‖ / ‖g₀‖ after 10 steps", "ε*"), rows)
    names = ("M g, all ε", "M g, ε ≥ 0", "-M g, ε ≥ 0")
    kinds: tuple[Kind, ...] = ("line", "both", "points")
    curves = [
        Series(name, range(len(run[0])), [max(v / run[0][0], 1e-17) for v in run[0]], kind=kind)
        for name, run, kind in zip(names, found[0], kinds, strict=True)
    ]
    caption = "BFGS along the book's M g: searches that look forward only never move; where they may look back "
    caption += "it is the same as along -M g."
    return Findings(checks, [Figure(caption, [Panel("line searches", "‖g‖ / ‖g₀‖", curves, log="y")])], [table], [
        "g'Mg is positive for a positive definite M: along M g the loss rises. ravine's solvers go along -M g.",
    ])  # fmt: skip


claim = Claim(
    slide=(47, 48, 49),
    kind="EXACT",
    statement="Quasi-Newton methods go in the direction ρ = M g, and a line search along it gives θ + ε*ρ. This is how "
    "the book writes it, without a minus sign; that of descent is -M g.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.6.3, p. 316; with the minus sign: Nocedal & Wright 2006, "
    "algorithm 6.1",
    equation="ρ_t = M_t g_t,   θ_{t+1} = θ_t + ε* ρ_t",
    claimed="the minimum of a quadratic after n line searches; that ε may be negative is not said",
    setting=f"{N} numbers, eigenvalues evenly from 1/κ to 1, κ = {KAPPA:g}, random basis and start, 50 runs; BFGS "
    "from M = I with the exact minimum along ρ: of all ε, and of ε >= 0.",
    disagreement="D14",
    measure=_measure,
    seconds=1,
)
