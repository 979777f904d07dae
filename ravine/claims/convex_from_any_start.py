"""Slide 29: least squares needs no start, and convex problems end in the same place from any."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ravine.claims._descent import seen, walk
from ravine.claims._paths import digits
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import at_least, at_most, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.rules import Nesterov

STARTS, DECAY = 20, 0.1


def _spread(losses: Tensor) -> float:
    return float(losses.max() - losses.min())


def _least_squares(trial: Trial) -> float:
    """How far gradient descent from 20 starts ends from the normal equations' solution, relative to it."""
    chance = trial.torch("squares")
    x = torch.randn(200, 10, generator=chance, dtype=torch.float64)
    noise = torch.randn(200, generator=chance, dtype=torch.float64)
    y = x @ torch.randn(10, generator=chance, dtype=torch.float64) + noise
    closed = torch.linalg.solve(x.T @ x, x.T @ y)
    start = 10 * torch.randn(STARTS, 10, generator=chance, dtype=torch.float64)
    lr = 1 / float(torch.linalg.eigvalsh(x.T @ x / 200)[-1])
    end = seen(walk(Nesterov(0.5), lr, start, lambda w: (w @ x.T - y) @ x / 200), [500])[0]
    return float(((end - closed).norm(dim=1) / closed.norm()).max())


def _logistic(trial: Trial, steps: int) -> Tensor:
    """Losses of logistic regression with weight decay on the digits along the descent from each start: (steps, 20)."""
    x, y = (part[:500] for part in digits())
    chance = trial.torch("logistic")
    sizes = torch.logspace(-2, 1, STARTS, dtype=torch.float64)
    w = torch.randn(STARTS, 64, 10, generator=chance, dtype=torch.float64) * sizes[:, None, None]
    losses: list[Tensor] = []
    target = F.one_hot(y, 10).double()

    def gradient(at: Tensor) -> Tensor:
        logits = x @ at
        p = logits.softmax(2)
        fit = -(logits.log_softmax(2) * target).sum(2).mean(1)
        losses.append(fit + DECAY / 2 * at.square().sum((1, 2)))
        return x.T @ (p - target) / len(x) + DECAY * at

    curvature = float(torch.linalg.eigvalsh(x.T @ x / len(x))[-1]) / 2 + DECAY
    seen(walk(Nesterov(0.9), 1 / curvature, w, gradient), [steps])
    return torch.stack(losses)


def _measure(trial: Trial) -> Findings:
    losses = _logistic(trial, trial.pick(quick=250, normal=400))
    apart = losses[0].max() / losses[-1].min()
    checks = [
        at_most(
            "least squares: distance of gradient descent's end to the closed form, relative",
            _least_squares(trial),
            1e-8,
        ),
        at_most(
            "logistic regression with weight decay: largest difference of the final losses", _spread(losses[-1]), 1e-8
        ),
        at_least("what the losses of its starts were apart, largest over the final one", float(apart), 10),
        reported("its final loss", float(losses[-1].mean())),
    ]
    at = sorted({*range(0, 60, 2), *range(60, len(losses), 10)})
    excess = losses - losses[-1].min() + 1e-17
    series = [Series(f"start {i + 1}", at, excess[at, i].tolist()) for i in range(0, STARTS, 4)]
    caption = "Logistic regression with weight decay: starts differ by a factor of 1,000 in size, ends by rounding."
    panel = Panel("step", "loss above the lowest reached (nats)", series, log="y")
    return Findings(checks, [Figure(caption, [panel])], notes=NOTES)


NOTES = (
    "Neither holds for deep networks, which is the slide's point: see init-decides-the-outcome.",
    "Without weight decay the digits are separable and logistic regression has no minimum to end in: see "
    "likelihood-has-no-minimum.",
)

claim = Claim(
    slide=(29,),
    kind="EXACT",
    statement="Some optimization is not iterative and simply solves for the solution; other methods, on the right "
    "problems, converge regardless of initialization. Deep learning has neither luxury.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.4, first paragraph",
    equation="w = (X'X)⁻¹X'y is the limit of gradient descent from any start",
    claimed="ends agree to 1e-8, whatever the start",
    setting="Least squares in 10 dimensions, 200 points, 20 random starts; logistic regression on 500 digits "
    "with weight decay 0.1, 20 starts with weights from 0.01 to 10; Nesterov momentum, full batches, float64.",
    measure=_measure,
    seconds=4,
)
