"""Slide 42: a convex problem of one dimension on which Adam goes to the worst point there is."""

import torch
from torch import Tensor

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import reported, within
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.rules import SGD, Adam, AMSGrad

LR = 0.5


def _play(rule: Rule, c: float, steps: int, lr: float = LR) -> tuple[Tensor, float]:
    """The points of projected online descent on Reddi's costs with rate lr/√t, and the average regret."""
    x = torch.zeros((), dtype=torch.float64)
    state, points, cost = rule.start(x), [], 0.0
    for t in range(1, steps + 1):
        slope = c if t % 3 == 1 else -1.0
        cost += slope * x.item()
        u, scale, state = rule.move(x * 0 + slope, x, t, state, lr / t**0.5)
        x = (x - scale * u).clamp(-1, 1)
        points.append(x.item())
    best = -(c - 2) / 3 * steps  # at x = -1
    return torch.tensor(points), (cost - best) / steps


def _measure(trial: Trial) -> Findings:
    steps = trial.pick(quick=3_000, normal=15_000)
    steps -= steps % 3
    checks, rows, series = [], [], []
    marks = sorted({min(steps, round(1.06**i)) for i in range(166)})
    for c in (3.0, 5.0, 10.0):
        adam = Adam(0.0, 1 / (1 + c * c), 0.0)
        players: dict[str, Rule] = {"Adam": adam, "AMSGrad": AMSGrad(0.0, adam.beta2, 0.0), "SGD": SGD()}
        for name, rule in players.items():
            points, regret = _play(rule, c, steps)
            if name == "Adam":
                checks.append(within(f"C = {c:g}: Adam's last point", float(points[-30:].mean()), 1, tol=0.02))
                checks.append(within(f"C = {c:g}: its average regret", regret, 2 * (c - 2) / 3, rel=0.05))
            else:
                checks.append(within(f"C = {c:g}: {name}'s last point", float(points[-30:].mean()), -1, tol=0.05))
            rows.append((f"{c:g}", name, f"{points[-1]:.3f}", f"{regret:.3f}"))
            if c == 3:
                series.append(Series(name, marks, [float(points[k - 1]) for k in marks]))
    usual, _ = _play(Adam(0.0, 0.999, 0.0), 3.0, steps)
    series.append(Series("Adam, ρ2 = 0.999", marks, [float(usual[k - 1]) for k in marks]))
    checks.append(reported("C = 3: last point with ρ2 = 0.999", float(usual[-1])))
    figure = Figure("C = 3. The best point is -1. Adam with the ρ2 of the theorem ends at +1, the worst.",
                    [Panel("step", "x", series, log="x")])  # fmt: skip
    table = Table("Where they end", ("C", "rule", "last x", "average regret"), rows)
    return Findings(checks, [figure], [table], NOTES)


NOTES = (
    "The large gradient comes every third step. Adam's average has forgotten it by then, and divides by what is left: "
    "the one large step back is of about the same length as each of the two small ones forward.",
    "With ρ2 = 0.999 the average spans many rounds and Adam finds the best point. The theorem's ρ2 fits the period, "
    "and for every ρ2 there is a problem with a longer one (Reddi, Kale & Kumar 2018, Theorem 2).",
)

claim = Claim(
    slide=(42,),
    kind="EXACT",
    statement="Adam need not converge, not even in one dimension with linear costs: it can end at the worst point.",
    source="Reddi, Kale & Kumar 2018, Theorem 1 (arXiv:1904.09237), against Kingma & Ba 2015, Theorem 4.1",
    equation="f_t(x) = C x for t mod 3 = 1, else -x;   x in [-1, 1],   ρ1 = 0,   ρ2 = 1/(1 + C²)",
    claimed="Adam's x goes to +1, with an average regret of 2(C - 2)/3 for ever; AMSGrad's and SGD's go to -1",
    setting="Projected online descent from x = 0, float64, rate 0.5/√t, 15,000 steps, C = 3, 5, 10, no δ.",
    measure=_measure,
    seconds=6,
)
