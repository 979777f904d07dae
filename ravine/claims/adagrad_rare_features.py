"""Slide 39: what AdaGrad is good for: convex problems in which some features are rare."""

from typing import NamedTuple

import torch
from torch import Tensor

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import above, below, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.racing.estimate import mean, ratio, slope
from ravine.rules import SGD, AdaGrad

FEATURES, EXPONENT = 200, 1.2
RATES = torch.logspace(-1.5, 1.5, 10, dtype=torch.float64)
CHANCES = 0.5 * torch.arange(1, FEATURES + 1, dtype=torch.float64) ** -EXPONENT
RULES: dict[str, tuple[Rule, float]] = {  # with the power of the step by which the rate falls
    "AdaGrad": (AdaGrad(eps=1e-7), 0.0),
    "SGD": (SGD(), 0.0),
    "SGD, rate / √t": (SGD(), 0.5),
}


class _Played(NamedTuple):
    regret: Tensor  # (marks, seeds): the regret per example so far, at the best rate
    common: (
        Tensor  # (seeds,): squared error of the weights of the more frequent half of the features, over their square
    )
    rare: Tensor


def _play(rule: Rule, power: float, truth: Tensor, chance: torch.Generator, marks: list[int]) -> _Played:
    """Online logistic regression: predict, see the label, step."""
    seeds = len(truth)
    w = torch.zeros(len(RATES), seeds, FEATURES, dtype=torch.float64)
    state, total, kept = rule.start(w), torch.zeros(len(RATES), seeds, dtype=torch.float64), []
    for t in range(1, marks[-1] + 1):
        x = (torch.rand(seeds, FEATURES, generator=chance, dtype=torch.float64) < CHANCES).double()
        wanted = (x * truth).sum(-1)
        y = (torch.rand(seeds, generator=chance, dtype=torch.float64) < wanted.sigmoid()).double()
        found = (w * x).sum(-1)
        total += _loss(found, y) - _loss(wanted, y)
        u, scale, state = rule.move((found.sigmoid() - y)[..., None] * x, w, t, state, RATES[:, None, None] / t**power)
        w = w - scale * u
        if t in marks:
            kept.append(total / t)
    best = int(total.mean(1).argmin())
    half = FEATURES // 2
    errors = torch.split((w[best] - truth) ** 2, half, -1)
    common, rare = (
        error.sum(-1) / of.sum(-1) for error, of in zip(errors, torch.split(truth**2, half, -1), strict=True)
    )
    return _Played(torch.stack(kept)[:, best], common, rare)


def _loss(output: Tensor, y: Tensor) -> Tensor:
    return torch.nn.functional.softplus(output) - y * output


def _measure(trial: Trial) -> Findings:
    last, seeds = trial.pick(quick=12_000, normal=20_000), trial.pick(quick=5, normal=10)
    marks = sorted({round(last * 10 ** (-i / 10)) for i in range(20)})
    truth = 2 * torch.randn(seeds, FEATURES, generator=trial.torch("truth"), dtype=torch.float64)
    played = {name: _play(rule, power, truth, trial.torch("examples"), marks) for name, (rule, power) in RULES.items()}
    late = [i for i, mark in enumerate(marks) if mark >= last / 10]
    times = [marks[i] for i in late]
    ada = played["AdaGrad"]
    falls = mean([slope(times, ada.regret[late][:, i].tolist()).value for i in range(seeds)])
    name = min((name for name in RULES if name != "AdaGrad"), key=lambda name: float(played[name].regret[-1].mean()))
    sgd = played[name]
    checks = [
        below("slope of log average regret on log steps", falls, -0.45, claimed=-0.5),
        above(f"regret, {name} / AdaGrad", ratio((sgd.regret[-1] / ada.regret[-1]).tolist()), 1),
        above(f"error of the rarer half of the weights, {name} / AdaGrad", ratio((sgd.rare / ada.rare).tolist()), 1),
        reported("the same, the more frequent half", ratio((sgd.common / ada.common).tolist())),
    ]
    series = [Series(name, marks, one.regret.mean(1).tolist()) for name, one in played.items()]
    start = float(ada.regret[late[0]].mean())
    series.append(Series("t^(-1/2)", [times[0], last], [start, start * (times[0] / last) ** 0.5], kind="reference"))
    figure = Figure("Average regret against the true weights in online logistic regression with features from frequent "
                    "to rare, each rule at its best rate.",
                    [Panel("examples", "average regret / nats", series, log="xy")])  # fmt: skip
    rows = [
        (name, f"{one.regret[-1].mean():.4f}", f"{one.common.mean():.3f}", f"{one.rare.mean():.3f}")
        for name, one in played.items()
    ]
    columns = ("rule", "average regret / nats", "error, frequent half", "error, rare half")
    return Findings(checks, [figure], [Table(f"After {last:,} examples (means)", columns, rows)], NOTES)


NOTES = (
    "Theory bounds regret from above, by a multiple of √T; falling faster than T^(-1/2) is no contradiction.",
    "Errors of weights are sums of squares over those of the true weights: 1 is what never learning them costs.",
)

claim = Claim(
    slide=(39,),
    kind="RATE",
    statement="In convex problems AdaGrad has good properties: its average regret falls at least as T^(-1/2), and rare "
    "features get the large steps that they need.",
    source="Duchi, Hazan & Singer 2011, JMLR 12:2121-2159, sec. 1.3 and Theorem 5; Goodfellow, Bengio & Courville "
    "2016, sec. 8.5.1",
    claimed="Slope of average regret about -0.5 or steeper; less regret and smaller errors on rare features than SGD",
    setting="Online logistic regression, 200 binary features with chances 0.5 j^(-1.2), normal true weights of "
    "standard deviation 2, 20,000 examples, 10 seeds. Each rule at the best of 10 rates by regret; SGD with a "
    "constant rate and with one that falls as t^(-1/2), the better of the two.",
    measure=_measure,
    seconds=10,
)
