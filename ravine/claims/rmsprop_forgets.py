"""Slide 40: RMSProp forgets old gradients: its learning rate comes back, and AdaGrad's never does."""

import math

import torch
from torch import Tensor

from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import Check, at_most, within
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.rules import AdaGrad, RMSProp

BEFORE, SMALL = 10_000, 1e-3


def _rates(rule: Rule, after: int) -> list[float]:
    """The learning rates, in units of ε, of the steps after the gradients have fallen from 1 to `SMALL`."""
    p = torch.zeros((), dtype=torch.float64)
    state, found = rule.start(p), []
    for t in range(1, BEFORE + after + 1):
        g = p + (1.0 if t <= BEFORE else SMALL)
        u, _, state = rule.move(g, p, t, state, 1.0)
        if t > BEFORE:
            found.append(float(u / g))
    return found


def _foretold(rho: float) -> int:
    """Steps until 1 / sqrt(r) is nine tenths of 1 / SMALL, where r = SMALL² + (1 - SMALL²) ρ^k."""
    excess = SMALL**2 * (1 / 0.9**2 - 1)
    return math.ceil(math.log(excess / (1 - SMALL**2)) / math.log(rho))


def _formula(trial: Trial) -> Check:
    """The rule beside Algorithm 8.5 written out: r is a sum over all gradients so far."""
    gradients = torch.randn(60, 50, generator=trial.torch("gradients"), dtype=torch.float64)
    rule, rho, delta = RMSProp(0.9, eps=1e-6, where="inside"), 0.9, 1e-6
    p = torch.zeros(50, dtype=torch.float64)
    state, worst = rule.start(p), 0.0
    for t, g in enumerate(gradients, 1):
        u, _, state = rule.move(g, p, t, state, 1.0)
        r: Tensor = sum((1 - rho) * rho ** (t - i) * gradients[i - 1] ** 2 for i in range(1, t + 1))  # type: ignore[assignment]
        worst = max(worst, float(((u - g / (delta + r).sqrt()) / u).abs().max()))
    return at_most("relative difference to Algorithm 8.5 written out", worst, 1e-12)


def _measure(trial: Trial) -> Findings:
    checks, series = [_formula(trial)], []
    for rho in (0.9, 0.99, 0.999):
        foretold = _foretold(rho)
        run = _rates(RMSProp(rho, eps=0.0), 2 * foretold)
        recovered = next((k for k, rate in enumerate(run, 1) if rate >= 0.9 / SMALL), math.inf)
        checks.append(within(f"steps until the rate is 90 % of its due, ρ = {rho}", recovered, foretold, tol=0))
        thin = max(1, len(run) // 300)
        series.append(Series(f"RMSProp, ρ = {rho}", range(1, len(run) + 1, thin), [r * SMALL for r in run[::thin]]))
    after = trial.pick(quick=20_000, normal=60_000)
    run = _rates(AdaGrad(eps=0.0), after)
    marks = sorted({min(after, round(1.1**i)) for i in range(130)})
    series.append(Series("AdaGrad", marks, [run[k - 1] * SMALL for k in marks]))
    checks.append(at_most(f"AdaGrad's rate after {after:,} steps, as a share of its due", run[-1] * SMALL, 0.9))
    caption = "Gradients fall from 1 to 1/1000. RMSProp's learning rate rises to what the new ones call for; AdaGrad's "
    caption += "stays where the old ones have brought it."
    panel = Panel("steps since the gradients fell", "learning rate × |g| / ε", series, log="xy")
    return Findings(checks, [Figure(caption, [panel])])


claim = Claim(
    slide=(40,),
    kind="EXACT",
    statement="RMSProp's exponential average forgets the distant past, so that after a stretch of large gradients its "
    "learning rate comes back; AdaGrad's does not.",
    source="Hinton 2012, lecture 6e; Goodfellow, Bengio & Courville 2016, sec. 8.5.2, Alg. 8.5",
    equation="r ← ρ r + (1 - ρ) g²;   after a fall of g² from 1 to s²:  r = s² + (1 - s²) ρ^k",
    claimed="90 % of the new learning rate after ln((1 - s²) / (0.2346 s²)) / -ln ρ steps: 145 for ρ = 0.9, s = 1/1000",
    setting="One float64 weight: 10,000 gradients of 1, then gradients of 1/1000; ρ = 0.9, 0.99, 0.999, no δ. The rule "
    "with δ = 1e-6 inside the root against Algorithm 8.5 summed out, 60 normal gradients of 50 weights.",
    measure=_measure,
    seconds=5,
)
