"""Slides 5 and 6: training minimizes the risk over the sample; the risk that counts lies above it, by a gap in 1/m."""

import numpy as np

from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import between, within
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean, slope

D = 10
SIZES = (50, 100, 200, 400, 800)


def _risks(chance: np.random.Generator, m: int, replicas: int) -> tuple[list[float], list[float]]:
    """Empirical and true risk of the least-squares fit to each of the samples of m examples; true weights 0."""
    empirical, true = [], []
    for _ in range(0, replicas, 50):
        x, y = chance.normal(size=(50, m, D)), chance.normal(size=(50, m, 1))
        w = np.linalg.solve(x.mT @ x, x.mT @ y)
        empirical += ((y - x @ w) ** 2).mean((1, 2)).tolist()
        true += (1 + (w**2).sum((1, 2))).tolist()
    return empirical, true


def _measure(trial: Trial) -> Findings:
    replicas = trial.pick(quick=500, normal=4000)
    risks = {m: [mean(r) for r in _risks(trial.numpy("sample", m), m, replicas)] for m in SIZES}
    checks = []
    for m in (50, 200, 800):
        checks.append(within(f"empirical risk, m = {m}", risks[m][0], 1 - D / m, rel=0.02))
        checks.append(within(f"true risk, m = {m}", risks[m][1], 1 + D / (m - D - 1), rel=0.02))
    gap = slope(SIZES, [true.value - empirical.value for empirical, true in risks.values()])
    checks.append(between("exponent of m in the gap", gap, -1.1, -0.9, claimed=-1))
    series = []
    for i, name in enumerate(("empirical risk (training set)", "true risk")):
        found = [risks[m][i] for m in SIZES]
        bounds = {"low": [e.low for e in found], "high": [e.high for e in found]}
        series.append(Series(name, SIZES, [e.value for e in found], **bounds, kind="both"))
    many = np.geomspace(SIZES[0], SIZES[-1], 60).tolist()
    series.append(Series("1 - d/m", many, [1 - D / m for m in many], kind="reference"))
    series.append(Series("1 + d/(m - d - 1)", many, [1 + D / (m - D - 1) for m in many], kind="reference"))
    caption = "Risk of the least-squares fit against the size of its training set: both meet at the noise variance, 1."
    return Findings(checks, [Figure(caption, [Panel("training examples m", "squared error", series, log="x")])])


claim = Claim(
    slide=(5, 6),
    kind="RATE",
    statement="Learning minimizes the empirical risk, which the training set stands for; the risk under the true "
    "distribution is higher, and the two meet as the sample grows.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.1-8.1.1, eq. 8.1-8.3; least squares with Gaussian inputs",
    equation="J(θ) = E over p̂_data of L(f(x; θ), y),   J*(θ) = the same over p_data;   1 - d/m and 1 + d/(m - d - 1)",
    claimed="mean risks 1 - d/m and 1 + d/(m - d - 1); their gap falls as 1/m",
    setting="Least squares with d = 10 Gaussian inputs and noise of variance 1; m = 50 to 800 examples, 4,000 samples "
    "of each size.",
    measure=_measure,
    seconds=3,
)
