"""Slide 19: the cost of a classifier need not have a minimum at all: on separable data its weights grow for ever."""

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ravine.claims._walk import walk
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import above, inside, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean, ratio, slope
from ravine.rules import SGD

D, ROWS, LR = 5, 20, 0.5


def _data(copies: int, generator: torch.Generator) -> Tensor:
    """y x in rows, (copies, rows, d): two classes around ±1.5 in a random direction, moved apart where they meet."""
    way = torch.nn.functional.normalize(torch.randn(copies, 1, D, generator=generator, dtype=torch.float64), dim=2)
    z = torch.randn(copies, ROWS, D, generator=generator, dtype=torch.float64) + 1.5 * way
    along = (z * way).sum(2, keepdim=True)
    return torch.where(along < 0.2, z + (0.4 - 2 * along).clamp(min=0) * way, z)


def _widest(z: np.ndarray) -> float:
    """The length of the shortest w with w'z >= 1 for all rows: one over the largest margin."""
    constraint: Any = {"type": "ineq", "fun": lambda w: z @ w - 1, "jac": lambda w: z}
    solve: Any = minimize  # its types do not tell the kinds of jac apart
    found = solve(lambda w: w @ w / 2, np.ones(D), jac=lambda w: w, constraints=[constraint], method="SLSQP",
                  options={"maxiter": 500, "ftol": 1e-12})  # fmt: skip
    assert found.success, found.message
    return float(np.linalg.norm(found.x))


def _course(z: Tensor, steps: list[int]) -> tuple[Tensor, Tensor]:
    """Length of w and cost after those steps of gradient descent on the mean of ln(1 + e^(-w'z)): (steps, copies)."""

    def gradient(w: Tensor) -> Tensor:
        miss = torch.sigmoid(-(z @ w[..., None])[..., 0])
        return -(miss[..., None] * z).mean(1)

    wanted, lengths, costs = set(steps), [], []
    for k, w in enumerate(walk(SGD(), gradient, torch.zeros(len(z), D, dtype=torch.float64), LR)):
        if k in wanted:
            lengths.append(w.norm(dim=1))
            costs.append(torch.nn.functional.softplus(-(z @ w[..., None])[..., 0]).mean(1))
        if k == steps[-1]:
            break
    return torch.stack(lengths), torch.stack(costs)


def _measure(trial: Trial) -> Findings:
    z = _data(trial.pick(quick=8, normal=20), trial.torch("data"))
    steps = np.unique(np.geomspace(10, 100_000, 41).round()).astype(int).tolist()
    lengths, costs = _course(z, steps)
    late = slice(len(steps) // 2, None)
    logs = np.log(steps[late])
    growth = [slope(logs, column[late].tolist(), log=False).value for column in lengths.T]
    fall = [slope(steps[late], column[late].tolist()).value for column in costs.T]
    foretold = [_widest(one.numpy()) for one in z]
    gains = ratio([g / f for g, f in zip(growth, foretold, strict=True)])
    checks = [
        above("d‖θ‖ / d ln t, second half on a logarithmic scale", mean(growth), 0),
        inside("power of t in the cost", mean(fall), -1.1, -0.9, claimed=-1),
        inside("d‖θ‖ / d ln t times the largest margin", gains, 0.8, 1.25, claimed=1, role="condition"),
        reported("‖θ‖ at the end", mean(lengths[-1].tolist())),
        reported("cost at the end", ratio(costs[-1].tolist())),
    ]
    series = [Series(f"data {i + 1}", steps, lengths[:, i].tolist()) for i in range(4)]
    falls = [Series(f"data {i + 1}", steps, costs[:, i].tolist()) for i in range(4)]
    falls.append(Series("∝ 1/t", steps, [5 / t for t in steps], kind="reference"))
    panels = [Panel("step t", "‖θ‖", series, log="x"), Panel("step t", "cost / nats", falls, log="xy")]
    caption = "Gradient descent on separable data: the weights grow with ln t without end, and the cost falls as 1/t."
    return Findings(checks, [Figure(caption, panels)], notes=NOTES)


NOTES = (
    "The cost has an infimum, 0, that no weights attain: whoever waits for a gradient of zero waits for ever. The "
    "direction of the weights converges all the same, to that of the largest margin (Soudry et al. 2018).",
)

claim = Claim(
    slide=(19,),
    kind="RATE",
    statement="The cost may have no minimum to arrive at: the negative log-likelihood of a classifier that can "
    "separate "
    "its data only approaches 0, while the weights grow without end.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.2.7; the rate: Soudry, Hoffer, Nacson, Gunasekar & Srebro 2018 "
    "(arXiv:1710.10345), theorem 3",
    equation="θ(t) = ŵ ln t + ρ(t),   ŵ the shortest w with w'x_i y_i >= 1 for all i",
    claimed="‖θ‖ grows with ln t (slope above 0; in the limit 1 / the largest margin), the cost falls as 1/t",
    setting=f"Logistic regression without offset on {ROWS} separable points in {D} dimensions, gradient descent at "
    f"{LR} "
    "from 0, 100,000 steps, 20 sets of data, float64.",
    measure=_measure,
    seconds=4,
)
