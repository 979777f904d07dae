"""Slide 40: RMSProp's average begins at zero, so its first steps are too long, by 1/√(1 - ρ)."""

import math

import torch

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import reported, within
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.rules import RMSProp

RHOS = (0.9, 0.99, 0.999)
GRADIENTS = (1e-3, 1.0, 1e3)
STEPS = 5000


def _lengths(rule: Rule) -> list[list[float]]:
    """The lengths of the steps under each of the constant gradients, in units of ε."""
    g = torch.tensor(GRADIENTS, dtype=torch.float64)
    p = torch.zeros_like(g)
    state, found = rule.start(p), []
    for t in range(1, STEPS + 1):
        u, _, state = rule.move(g, p, t, state, 1.0)
        found.append(u)
    return torch.stack(found, 1).tolist()


def _measure(trial: Trial) -> Findings:
    checks, series, rows = [], [], []
    marks = sorted({min(STEPS, round(1.05**i)) for i in range(176)})
    for rho in RHOS:
        runs, corrected = _lengths(RMSProp(rho, eps=0.0)), _lengths(RMSProp(rho, eps=0.0, corrected=True))
        run, first = runs[GRADIENTS.index(1)], 1 / math.sqrt(1 - rho)
        theory = [1 / math.sqrt(1 - rho**k) for k in range(1, STEPS + 1)]
        worst = max(abs(a / b - 1) for one in runs for a, b in zip(one, theory, strict=True))
        extra = sum(run) - STEPS
        checks += [
            *(
                within(f"first step / ε, ρ = {rho}, gradient {g:g}", one[0], first, rel=1e-9)
                for g, one in zip(GRADIENTS, runs, strict=True)
            ),
            within(f"step k / (ε / √(1 - ρ^k)) furthest from 1, ρ = {rho}", 1 + worst, 1, tol=1e-9),
            within(f"first step / ε with the average divided by 1 - ρ^t, ρ = {rho}", corrected[0][0], 1, tol=1e-9),
        ]
        rows.append((rho, f"{run[0]:.3f}", next(k for k, s in enumerate(run, 1) if s < 1.01), f"{extra:.1f}"))
        series.append(Series(f"ρ = {rho}", marks, [run[k - 1] for k in marks]))
    checks.append(reported("steps' worth of extra way in all, ρ = 0.999", extra))
    series.append(Series("corrected", [1, STEPS], [1, 1], kind="reference"))
    columns = ("ρ", "first step / ε", "first step within 1 % of ε", "extra way / ε")
    caption = "Lengths of RMSProp's steps under a constant gradient: too long until the average has filled."
    panel = Panel("step k", "length of the step / ε", series, log="xy")
    notes = ["PyTorch's RMSprop has the same bias: with its ρ = 0.99 the first step is ten times the learning rate."]
    return Findings(checks, [Figure(caption, [panel])], [Table("The bias of the first steps", columns, rows)], notes)


claim = Claim(
    slide=(40,),
    kind="EXACT",
    statement="RMSProp's second moment starts at zero and is not corrected for it: the first step has length "
    "ε/√(1 - ρ) whatever the gradient.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.5.2-8.5.3, Alg. 8.5; Kingma & Ba 2015, sec. 3 and 5",
    equation="r_k = (1 - ρ^k) g²  ⇒  step k = ε / √(1 - ρ^k)",
    claimed="Whatever the gradient: first step 3.162 ε for ρ = 0.9, 10 ε for 0.99, 31.62 ε for 0.999; step k is "
    "ε/√(1 - ρ^k)",
    setting="A float64 weight under a constant gradient of 0.001, 1 and 1,000, 5,000 steps, no δ.",
    measure=_measure,
    seconds=1,
)
