"""Slide 25: under a constant gradient, momentum ends up 1/(1 - α) times as fast as plain descent."""

import math

import torch

from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import within
from ravine.core.figure import Figure, Panel, Series
from ravine.optimizer import Optimizer
from ravine.rules import Momentum

ALPHAS = (0.5, 0.9, 0.99)
LR = 0.01
STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600)  # that are drawn


def _speeds(alpha: float, steps: int) -> list[float]:
    """The length of each step of the book's momentum under a gradient of 1, in units of the learning rate."""
    x = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = Optimizer([x], Momentum(alpha, form="book"), lr=LR)
    found = []
    for _ in range(steps):
        before = x.item()
        x.grad = torch.ones_like(x)
        optimizer.step()
        found.append((before - x.item()) / LR)
    return found


def _measure(trial: Trial) -> Findings:
    checks, series = [], []
    for alpha in ALPHAS:
        run = _speeds(alpha, 4000)
        terminal = 1 / (1 - alpha)
        to_most = next(k for k, speed in enumerate(run, 1) if speed >= 0.95 * terminal)
        foretold = math.ceil(math.log(0.05) / math.log(alpha))
        checks.append(within(f"terminal speed, α = {alpha}", run[-1], terminal, rel=1e-9))
        checks.append(within(f"steps to 95 % of it, α = {alpha}", to_most, foretold, tol=0))
        series.append(Series(f"α = {alpha}", STEPS, [run[k - 1] for k in STEPS]))
        series.append(Series("1/(1 - α)", [1, 600], [terminal, terminal], kind="reference"))
    caption = "The speed of momentum under a constant gradient, in units of ε‖g‖, which is that of plain descent."
    return Findings(checks, [Figure(caption, [Panel("step", "speed / ε‖g‖", series, log="xy")])])


claim = Claim(
    slide=(25,),
    kind="EXACT",
    statement="When gradients keep pointing the same way, momentum accelerates to a step of ε‖g‖/(1 - α): α = 0.9 "
    "makes it 10 times as fast as plain gradient descent.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.3.2, eq. 8.15-8.17; Polyak 1964",
    equation="v ← αv - εg,   θ ← θ + v;   ‖step‖ → ε‖g‖ / (1 - α)",
    claimed="α = 0.5, 0.9, 0.99 give 2, 10 and 100 times the speed; 95 % of it after ln 0.05 / ln α steps",
    setting="One float64 parameter, gradient 1 at every step, 4,000 steps of the book's momentum.",
    measure=_measure,
    seconds=3,
)
