"""Slide 39: with gradients of one size, AdaGrad's learning rate falls as the root of the number of steps."""

import torch

from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import at_most, inside, within
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.racing.estimate import mean, slope
from ravine.rules import AdaGrad, Adam, RMSProp

WEIGHTS = 64


def _rates(rule: Rule, marks: list[int], noise: torch.Generator, constant: bool) -> torch.Tensor:
    """The step divided by the gradient, in units of ε, at the marked steps, for each weight."""
    p = torch.zeros(WEIGHTS, dtype=torch.float64)
    state, found = rule.start(p), []
    for t in range(1, marks[-1] + 1):
        g = torch.ones_like(p) if constant else torch.randn(WEIGHTS, generator=noise, dtype=torch.float64)
        u, _, state = rule.move(g, p, t, state, 1.0)
        if t in marks:
            found.append((u / g).clone())
    return torch.stack(found)


def _measure(trial: Trial) -> Findings:
    last = trial.pick(quick=4_000, normal=20_000)
    marks = sorted({round(1.2**i) for i in range(200) if 1.2**i <= last} | {last})
    late = [i for i, mark in enumerate(marks) if mark >= 30]
    tail = [marks[i] for i in late]
    noise = trial.torch("gradients")
    constant = _rates(AdaGrad(eps=1e-7), marks, noise, constant=True)[:, 0]
    random = _rates(AdaGrad(eps=1e-7), marks, noise, constant=False)
    slopes = mean([slope(tail, random[late][:, i].tolist()).value for i in range(WEIGHTS)])
    others = {name: _rates(rule, marks, noise, constant=False).median(1).values.tolist()
              for name, rule in (("RMSProp, ρ = 0.9", RMSProp(0.9)), ("Adam without momentum", Adam(0.0)))}  # fmt: skip
    exact = slope(marks, constant.tolist()).value
    kept = slope(tail, [others["Adam without momentum"][i] for i in late])
    checks = [
        within("slope of log rate on log steps, constant gradient", exact, -0.5, rel=1e-6),
        inside("the same, normal gradients, steps 30 on", slopes, -0.55, -0.45, claimed=-0.5),
        within("rate after the last step, constant gradient", float(constant[-1]), last**-0.5, rel=1e-6),
        at_most("slope of Adam's rate, same gradients, in absolute value", abs(kept.value), 0.05),
    ]
    series = [
        Series("AdaGrad", marks, random.median(1).values.tolist()),
        *(Series(name, marks, values) for name, values in others.items()),
        Series("k^(-1/2)", [1, last], [1, last**-0.5], kind="reference"),
    ]
    caption = "The learning rate that a weight gets, under normal gradients of variance 1: AdaGrad's falls for ever."
    return Findings(checks, [Figure(caption, [Panel("step k", "rate / ε (median of weights)", series, log="xy")])])


claim = Claim(
    slide=(39,),
    kind="RATE",
    statement="AdaGrad divides by the root of the sum of all squared gradients, so its learning rate falls without "
    "end, however long the gradients stay as large as they are.",
    source="Duchi, Hazan & Singer 2011, JMLR 12:2121-2159; Goodfellow, Bengio & Courville 2016, sec. 8.5.1, Alg. 8.4",
    equation="r ← r + g²,   Δθ = -ε g / (δ + √r);   g² = 1  ⇒  rate = ε k^(-1/2)",
    claimed="The rate falls as k^(-1/2); that of a rule with an exponential average does not fall",
    setting="64 float64 weights, 20,000 gradients that are 1, then normal with variance 1; δ = 1e-7.",
    measure=_measure,
    seconds=4,
)
