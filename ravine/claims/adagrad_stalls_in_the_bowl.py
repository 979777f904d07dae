"""Slide 39: a long steep slope before a bowl: AdaGrad arrives with a learning rate that is used up."""

import torch
from torch import Tensor

from ravine.claims._walk import path
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_least, within
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.rules import AdaGrad, RMSProp

LENGTH, NEAR = 1.0, 0.01
SHARES = torch.tensor([1.0, 0.1, 0.01], dtype=torch.float64)  # the bowl's slope at its rim over that of the ramp
RULES: dict[str, Rule] = {"AdaGrad": AdaGrad(eps=1e-7), "RMSProp": RMSProp(0.9)}


def _crossing(name: str, steps: int) -> float:
    """The rate at which the rule crosses the ramp in so many steps."""
    return LENGTH / (sum(k**-0.5 for k in range(1, steps + 1)) if name == "AdaGrad" else steps)


def _slope(x: Tensor) -> Tensor:
    """-1 on the ramp below 0; a bowl about 1 behind it."""
    return torch.where(x < 0, torch.tensor(-1.0, dtype=torch.float64), SHARES * (x - 1))


def _arrivals(points: Tensor) -> Tensor:
    """The step from which a walker stays within `NEAR` of the minimum; all the steps there are if it never does."""
    outside = (points - 1).abs() > NEAR
    last = len(points) - outside.flip(0).double().argmax(0)
    return torch.where(outside.any(0), last, torch.tensor(0)).clamp(max=len(points) - 1).double()


def _measure(trial: Trial) -> Findings:
    steps = trial.pick(quick=12_000, normal=100_000)
    ramps = trial.pick(quick=(5, 50, 500), normal=(50, 500, 5_000))
    start = torch.full((len(ramps), len(SHARES)), -LENGTH, dtype=torch.float64)
    paths = {
        name: path(rule, _slope, start, torch.tensor([[_crossing(name, k)] for k in ramps], dtype=torch.float64), steps)
        for name, rule in RULES.items()
    }
    crossed = {name: (found >= 0).double().argmax(0) for name, found in paths.items()}
    total = {name: _arrivals(found) for name, found in paths.items()}
    bowl = {name: total[name] - crossed[name] for name in RULES}
    gain = bowl["AdaGrad"] / bowl["RMSProp"]
    quickest = float(total["AdaGrad"][0, 1] / total["RMSProp"][-1, 1])
    checks = [
        *(within(f"steps of {name} on the ramp", float(crossed[name][-1, 0]), ramps[-1], rel=0.02) for name in RULES),
        at_least("steps in the bowl, AdaGrad / RMSProp; bowl a tenth as steep", float(gain[-1, 1]), 10),
        at_least("the same; bowl a hundredth as steep", float(gain[-1, 2]), 10),
        at_least("the same; bowl as steep as the ramp", float(gain[-1, 0]), 10, role="condition"),
        at_least(f"all steps, AdaGrad at its rate for {ramps[0]} / RMSProp at its for {ramps[-1]}", quickest, 10,
                 role="condition"),
    ]  # fmt: skip
    columns = ("steps on the ramp", "bowl / ramp", "AdaGrad in the bowl", "RMSProp in the bowl", "ratio")
    rows = [
        (k, f"{share:g}", *(f"{bowl[name][i, j]:.0f}" for name in RULES), f"{gain[i, j]:.3g}")
        for i, k in enumerate(ramps)
        for j, share in enumerate(SHARES.tolist())
    ]
    marks = sorted({min(steps, 25 * i) for i in range(400)} | {min(steps, 1000 * i) for i in range(101)})
    series = [Series(name, marks, found[marks, -1, 1].tolist()) for name, found in paths.items()]
    series.append(Series("minimum", [0, steps], [1, 1], kind="reference"))
    caption = "A ramp from -1 to 0, a bowl with a tenth of its slope behind it. Both cross the ramp in equal time; "
    caption += "AdaGrad's learning rate is then used up."
    table = Table("Steps until they stay near the minimum", columns, rows)
    return Findings(checks, [Figure(caption, [Panel("step", "x", series)])], [table], NOTES)


NOTES = (
    "Where a walker had not arrived when the run ended, the steps of the run stand for its own: ratios are then bounds "
    "from below.",
    "What is used up depends on how many steps the ramp takes, not on how long it is. At a rate a hundred times as "
    "large in time, or ten times in ε, AdaGrad crosses in a hundredth of the steps and is at the minimum before the "
    "other: on one ramp the larger rate is the cure, if it can be known beforehand.",
)

claim = Claim(
    slide=(39,),
    kind="ARCH",
    statement="AdaGrad's learning rate can be used up by large gradients before training reaches the convex bowl where "
    "it would be needed; RMSProp converges there quickly.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.5.1-8.5.2",
    equation="f' = -1 for x < 0,   σ (x - 1) behind it;   AdaGrad's rate at x = 0: ε / √5000",
    claimed="After 5,000 steps of large gradients AdaGrad needs at least 10 times RMSProp's steps in the bowl",
    setting="One float64 parameter; rates such that both cross the ramp in 50, 500 or 5,000 steps; arrived: within "
    "0.01 of the minimum for good.",
    measure=_measure,
    seconds=10,
)
