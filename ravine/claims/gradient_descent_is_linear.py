"""Slide 23: full-batch gradient descent gains the same share of the training error at every step."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from ravine.claims._descent import seen, walk
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import Estimate, at_least, at_most, reported, within
from ravine.core.figure import Figure, Panel, Series
from ravine.racing import estimate
from ravine.rules import SGD

DECAY = 0.1


def _straight(excess: Tensor, low: float, high: float) -> tuple[Estimate, float]:
    """The slope of ln(excess) per step where it lies in [low, high] of its first value, and R² of the straight line."""
    share = (excess / excess[0]).numpy()
    steps = np.flatnonzero((share >= low) & (share <= high))
    logs = np.log(share[steps])
    r2 = float(np.corrcoef(steps, logs)[0, 1] ** 2)
    return estimate.slope(steps.tolist(), logs.tolist(), log=False), r2


def _regression(trial: Trial) -> tuple[Tensor, Tensor, float]:
    """Least squares on 200 examples: training and test excess by step, and m/L."""
    chance = trial.torch("regression")
    scales = torch.logspace(0, -0.5, 10, dtype=torch.float64)
    x = torch.randn(200, 10, generator=chance, dtype=torch.float64) * scales
    w = torch.randn(10, generator=chance, dtype=torch.float64)
    y = x @ w + torch.randn(200, generator=chance, dtype=torch.float64)
    hessian = x.T @ x / len(x)
    best = torch.linalg.solve(hessian, x.T @ y / len(x))
    eigenvalues = torch.linalg.eigvalsh(hessian)
    path = walk(SGD(), 1 / float(eigenvalues[-1]), torch.zeros(10), lambda theta: hessian @ (theta - best))
    theta = seen(path, range(401))
    training = 0.5 * ((theta - best) @ hessian * (theta - best)).sum(1)
    test = ((theta - w) * scales).square().sum(1)
    return training, test, float(eigenvalues[0] / eigenvalues[-1])


def _logistic() -> tuple[Tensor, float]:
    """Logistic regression with weight decay on scikit-learn's digits, 0-4 against 5-9: excess by step, and m/L."""
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    x = torch.cat([torch.tensor(images) / 16, torch.ones(len(images), 1)], 1).to(torch.float64)
    signed = x * torch.where(torch.tensor(digits) < 5, 1.0, -1.0)[:, None]

    def gradient(theta: Tensor) -> Tensor:
        return DECAY * theta - signed.T @ torch.sigmoid(-signed @ theta) / len(x)

    largest = 0.25 * float(torch.linalg.eigvalsh(x.T @ x / len(x))[-1]) + DECAY
    theta = seen(walk(SGD(), 1 / largest, torch.zeros(65), gradient), range(401))
    best = _minimum(theta[-1], gradient)
    losses = [softplus(-signed @ at).mean() + 0.5 * DECAY * at.square().sum() for at in (*theta, best)]
    return torch.stack(losses[:-1]) - losses[-1], DECAY / largest


def _minimum(theta: Tensor, gradient: Callable[[Tensor], Tensor]) -> Tensor:
    for _ in range(5):
        theta = theta - torch.linalg.solve(torch.func.jacrev(gradient)(theta), gradient(theta))
    return theta


def _measure(trial: Trial) -> Findings:
    training, test, condition = _regression(trial)
    logistic, bound = _logistic()
    slope, straight = _straight(training, 1e-20, 1e-6)
    settled = next(k for k in range(len(test)) if bool(((test[k:] / test[-1] - 1).abs() < 0.01).all()))
    their_slope, their_straight = _straight(logistic, 1e-12, 1e-3)
    foretold = 2 * np.log(1 - condition)
    checks = [
        at_least("least squares, R² of ln(excess) on k", straight, 0.999, claimed="a straight line"),
        within("its slope per step, ln((1 - m/L)²) in theory", slope, float(foretold), rel=0.01),
        at_least(
            "logistic regression on digits, R² of ln(excess) on k", their_straight, 0.999, claimed="a straight line"
        ),
        at_most("its slope per step, at worst ln(1 - m/L)", their_slope, float(np.log(1 - bound)), claimed="below"),
        reported("step at which the test error has settled within 1 %", settled),
        reported("training excess left then, share of the first", float(training[settled] / training[0])),
    ]
    drawn = range(161)
    pairs = (("training", training), ("test, above the true w", test))
    curves = [Series(label, drawn, (values / values[0])[:161].tolist()) for label, values in pairs]
    shares = [share for share in (logistic / logistic[0]).tolist() if share > 1e-13]  # below it is rounding
    theirs = Series("training", range(0, len(shares), 2), shares[::2])
    panels = [
        Panel("step k", "excess / excess at the start", curves, title="least squares", log="y"),
        Panel("step k", "excess / excess at the start", [theirs], title="logistic regression, digits", log="y"),
    ]
    caption = (
        "On a logarithmic axis the training error of full-batch descent is a straight line; the test error is not."
    )
    notes = [
        "This is what makes batch descent better in theory than SGD's 1/k. It concerns the training error: the error "
        "on new examples has settled long before, which is the other half of the argument (no-rate-below-one-over-k).",
        "'Linear convergence' means that the logarithm is linear in k; it needs strong convexity, here from the data "
        "or from weight decay.",
    ]
    return Findings(checks, [Figure(caption, panels)], notes=notes)


claim = Claim(
    slide=(23,),
    kind="RATE",
    statement="On a strongly convex problem full-batch gradient descent converges linearly: every step gains the same "
    "share of the excess error, which in theory beats the O(1/k) of stochastic descent.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.3.1, p. 295; Karimi, Nutini & Schmidt 2016, theorem 1",
    equation="J(θ_k) - min J ≤ (1 - m/L)^k (J(θ_0) - min J)   for ε = 1/L",
    claimed="ln(excess) falls along a straight line; its slope is 2 ln(1 - m/L) on a quadratic",
    setting="Full-batch SGD at ε = 1/L from 0, float64: least squares (200 × 10, 400 steps), and logistic regression "
    f"with weight decay {DECAY} on scikit-learn's digits, 0-4 against 5-9 (1797 × 65, 400 steps).",
    measure=_measure,
    seconds=2,
)
