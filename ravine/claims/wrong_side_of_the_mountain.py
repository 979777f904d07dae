"""Slide 19: a cost without local minima or saddles in which going downhill leads away from where it is low."""

import torch
from torch import Tensor

from ravine.claims._walk import walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_least, at_most, reported, within
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.rules import SGD, Adam, Momentum

LOW = 0.5  # the cost far on the left; far on the right it is 0
RULES: dict[str, Rule] = {"GD": SGD(), "momentum": Momentum(0.9), "Adam": Adam()}
LR = 0.1


def _cost(x: Tensor) -> Tensor:
    return 2 / (1 + x**2) + LOW * torch.sigmoid(-x)


def _slope(x: Tensor) -> Tensor:
    s = torch.sigmoid(-x)
    return -4 * x / (1 + x**2) ** 2 - LOW * s * (1 - s)


def _tops() -> list[float]:
    """Where the slope changes sign on [-60, 60]; beyond, -4x/(1 + x²)² outweighs the other term, below e^-|x| / 2."""
    x = torch.linspace(-60, 60, 1_200_001, dtype=torch.float64)
    signs = _slope(x).sign()
    return x[:-1][signs[1:] != signs[:-1]].tolist()


def _ends(rule: Rule, starts: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Where every start has led, and the lowest cost that it has seen."""
    lowest = _cost(starts)
    for k, x in enumerate(walk(rule, _slope, starts, LR)):
        lowest = torch.minimum(lowest, _cost(x))
        if k == steps:
            break
    return x, lowest


def _measure(trial: Trial) -> Findings:
    tops, count, steps = _tops(), 1000, trial.pick(quick=3000, normal=20_000)
    left = torch.empty(count, dtype=torch.float64).uniform_(-6, tops[0], generator=trial.torch("left"))
    right = torch.empty(count, dtype=torch.float64).uniform_(tops[0], 6, generator=trial.torch("right"))
    checks = [within("zeros of the slope", len(tops), 1, tol=0)]
    checks.append(
        at_least("cost there: the height of the top over the lowest limit, 0", float(_cost(torch.tensor(tops[0]))), 2)
    )
    rows = []
    for name, rule in RULES.items():
        (x, lowest), (y, _) = (_ends(rule, starts, steps) for starts in (left, right))
        stuck = float((x < tops[0]).double().mean())
        checks += [
            at_least(f"lowest cost of any run from the left, {name}", float(lowest.min()), LOW, claimed=LOW),
            within(f"share of starts on the left that stay there, {name}", stuck, 1, tol=0),
            at_most(f"highest cost in the end from the right, {name}", float(_cost(y).max()), LOW / 2),
            reported(f"farthest end on the left, {name}", float(x.min())),
        ]
        rows.append((name, f"{float(_cost(x).max()):.4f}", f"{float(_cost(y).max()):.4f}"))
    table = Table(f"Highest cost after {steps:,} steps at {LR}", ("rule", "from the left", "from the right"), rows)
    return Findings(checks, [_figure(tops[0])], [table], NOTES)


def _figure(top: float) -> Figure:
    axis = torch.linspace(-8, 8, 161, dtype=torch.float64)
    series = [Series("J", axis.tolist(), _cost(axis).tolist())]
    for label, start in (("GD from the left", top - 0.5), ("GD from the right", top + 0.5)):
        at = torch.tensor([start], dtype=torch.float64)
        places = torch.cat([x for x, _ in zip(walk(SGD(), _slope, at, LR), range(2000), strict=False)])[::20]
        series.append(Series(label, places.tolist(), _cost(places).tolist(), kind="points"))
    series.append(Series("lim J, left", [-8, 0], [LOW, LOW], kind="reference"))
    caption = "The only critical point is the top of the mountain; which side training starts on decides everything."
    return Figure(caption, [Panel("x", "J", series, limits=[-8, 8, 0, 2.5])])


NOTES = (
    "The book draws such a cost in figure 8.4 without a formula; this one is made after it. In many dimensions one can "
    "go around a mountain, at the price of a long way.",
    "It is a matter of where training starts: no rule that follows the local slope helps, and these three do not.",
)

claim = Claim(
    slide=(19,),
    kind="EXACT",
    statement="Going downhill can fail though there is neither a local minimum nor a saddle: where the slope here does "
    "not point to where the cost is low, what counts is the side on which one starts.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.2.7 and fig. 8.4",
    equation="J(x) = 2/(1 + x²) + σ(-x)/2,   J → 1/2 on the left, J → 0 on the right",
    claimed="every start on the left of the top ends at 1/2 or above, every one on the right below 1/4; the top is the "
    "only critical point",
    setting=f"1,000 random starts on each side, within 6; gradient descent, momentum 0.9 and Adam at {LR}, 20,000 "
    "steps, "
    "float64.",
    measure=_measure,
    seconds=10,
)
