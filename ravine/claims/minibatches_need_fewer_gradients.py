"""Slide 9: descent on cheap estimates of the gradient gets to a loss with far fewer gradients of single examples."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import at_least, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import ratio

Array = NDArray[np.float64]
EXAMPLES, FEATURES, BATCH = 100_000, 20, 32
RATES = np.array([1 / 64, 1 / 16, 1 / 4, 1, 4, 16])  # in units of 1/L, L being the largest curvature the loss can have
TARGETS = (0.1, 0.01)  # shares of the first excess loss
LIMIT = 10**8


def _problem(chance: np.random.Generator) -> tuple[Array, Array]:
    """Inputs whose scales fall tenfold, an input that is always 1, and labels of -1 and 1 from a logistic model."""
    x = chance.normal(size=(EXAMPLES, FEATURES)) * np.geomspace(1, 0.1, FEATURES)
    x = np.column_stack([x, np.ones(EXAMPLES)])
    right = x @ chance.normal(size=FEATURES + 1) > chance.logistic(size=EXAMPLES)
    return x, np.where(right, 1.0, -1.0)


def _loss(w: Array, x: Array, y: Array) -> Array:
    """Of each column of w."""
    found: Array = np.logaddexp(0, -y[:, None] * (x @ w)).mean(0)
    return found


def _gradient(w: Array, x: Array, y: Array) -> Array:
    with np.errstate(over="ignore"):
        found: Array = x.T @ (-y[:, None] / (1 + np.exp(y[:, None] * (x @ w)))) / len(y)
    return found


def _least(x: Array, y: Array) -> float:
    """The lowest loss, by Newton's method."""
    w = np.zeros((x.shape[1], 1))
    for _ in range(12):
        p = 1 / (1 + np.exp(-x @ w))
        w = w - np.linalg.solve((x * p * (1 - p)).T @ x / len(y), _gradient(w, x, y))
    return float(_loss(w, x, y)[0])


def _full(x: Array, y: Array, rates: Array) -> Iterator[tuple[int, Array]]:
    """(gradients of single examples, weights for each rate) of gradient descent."""
    w = np.zeros((x.shape[1], len(rates)))
    for step in range(1, LIMIT // len(y)):
        w = w - rates * _gradient(w, x, y)
        yield step * len(y), w


def _stochastic(x: Array, y: Array, rates: Array, chance: np.random.Generator) -> Iterator[tuple[int, Array]]:
    """The same of minibatches, drawn with replacement, whenever the count has grown by a tenth."""
    w, show = np.zeros((x.shape[1], len(rates))), 10 * BATCH
    for step in range(1, LIMIT // BATCH):
        rows = chance.integers(len(y), size=BATCH)
        w = w - rates * _gradient(w, x[rows], y[rows])
        if step * BATCH >= show:
            show = int(1.1 * step * BATCH)
            yield step * BATCH, w


def _arrivals(
    points: Iterator[tuple[int, Array]], x: Array, y: Array, least: float
) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """(count, rate) at which the first of the rates reaches each target, and the curve of the lowest excess."""
    found: list[tuple[int, float]] = []
    curve = []
    first = np.log(2) - least
    for count, w in points:
        excess = (_loss(w, x, y) - least) / first
        curve.append((count, float(excess.min())))
        while len(found) < len(TARGETS) and excess.min() <= TARGETS[len(found)]:
            found.append((count, float(RATES[excess.argmin()])))
        if len(found) == len(TARGETS):
            break
    return found, curve


def _measure(trial: Trial) -> Findings:
    costs, curves = [], {}
    for i in range(trial.pick(quick=2, normal=5)):
        x, y = _problem(trial.numpy("data", i))
        rates = RATES * 4 / float(np.linalg.eigvalsh(x.T @ x / len(y))[-1])
        least = _least(x, y)
        full, curves["all 100,000 examples"] = _arrivals(_full(x, y, rates), x, y, least)
        few, curves["minibatches of 32"] = _arrivals(_stochastic(x, y, rates, trial.numpy("order", i)), x, y, least)
        costs.append((full, few))

    savings = [ratio([full[j][0] / few[j][0] for full, few in costs]) for j in range(len(TARGETS))]
    checks = [
        at_least("gradients to 1 % of the first excess loss, full over minibatch", savings[1], 10),
        reported("the same to 10 %", savings[0]),
        reported("steps of full gradient descent to 1 %", ratio([full[1][0] / EXAMPLES for full, _ in costs])),
        reported("best rate to 1 %, full, times L", ratio([full[1][1] for full, _ in costs])),
        reported("best rate to 1 %, minibatches, times L", ratio([few[1][1] for _, few in costs])),
    ]
    series = [Series(name, [c for c, _ in curve], [e for _, e in curve]) for name, curve in curves.items()]
    panel = Panel("gradients of single examples", "excess loss / first excess loss", series, log="xy")
    caption = "The lowest loss among the six learning rates, against what it cost; the last of the data sets."
    return Findings(checks, [Figure(caption, [panel])])


claim = Claim(
    slide=(9,),
    kind="ARCH",
    statement="Most algorithms converge faster, counted in computation, if they may rapidly compute approximate "
    "gradients than if they must slowly compute exact ones.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.1.3",
    claimed="full gradient descent needs at least 10 times the gradients of single examples",
    setting="Logistic regression on 100,000 drawn examples of 20 features whose scales fall tenfold; from 0 to within "
    "1 % of the first excess loss; plain descent at the best of six constant rates (1/64 to 16 times 1/L, L the "
    "largest curvature possible), the whole set or batches of 32; 5 data sets. Judging the loss is not counted.",
    measure=_measure,
    seconds=11,
)
