"""Slide 16: the higher the dimension of a random function, the more saddles there are for each minimum."""

import math

import numpy as np
import torch
from torch import Tensor

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import above, between, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean, slope

DIMENSIONS = (2, 3, 4, 5, 6)
WAVES, EXPECTED, GROUPS, ZERO = 200, 60, 5, 1e-9
Field = tuple[Tensor, Tensor]  # of cos(k'x + φ): the vectors k in rows, and the phases φ


def _derivatives(x: Tensor, field: Field) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian at the points x (in rows) of √(2/WAVES) Σ cos(k'x + φ)."""
    k, phase = field
    angle, c = x @ k.T + phase, (2 / len(k)) ** 0.5
    squares = (k[:, :, None] * k[:, None, :]).flatten(1)
    return -c * angle.sin() @ k, (-c * angle.cos() @ squares).view(len(x), k.shape[1], k.shape[1])


def _found(field: Field, side: float, starts: Tensor) -> np.ndarray:
    """How many critical points of each index Newton's method finds in the cube from these starts; steps up to 0.5."""
    x, ends = starts, []
    for _ in range(40):
        g, h = _derivatives(x, field)
        values, q = torch.linalg.eigh(h)
        there = g.norm(dim=1) < ZERO
        ends.append(torch.cat([x[there], (values[there] < 0).sum(1, keepdim=True)], 1))
        p = (q @ ((q.mT @ g[..., None]) / values[..., None]))[..., 0]
        x = (x - p * (0.5 / p.norm(dim=1, keepdim=True)).clamp(max=1))[~there]
        x = x[((x > -0.5) & (x < side + 0.5)).all(1)]
    found = torch.cat(ends)
    inside = found[((found[:, :-1] > 0) & (found[:, :-1] < side)).all(1)].numpy()
    _, first = np.unique(inside[:, :-1].round(4), axis=0, return_index=True)
    counts: np.ndarray = np.bincount(inside[first, -1].astype(int), minlength=starts.shape[1] + 1)
    return counts


def _foretold(d: int, chance: torch.Generator) -> Tensor:
    """Critical points of each index in a unit of volume, by the formula of Kac and Rice: the mean of |det H| over
    Hessians of that index, times the density of g = 0. Var H_ii = 3, var H_ij = 1, cov(H_ii, H_jj) = 1.
    """
    a = torch.randn(100_000, d, d, generator=chance, dtype=torch.float64)
    shift = torch.randn(len(a), 1, generator=chance, dtype=torch.float64)
    values = torch.linalg.eigvalsh((a + a.mT) / math.sqrt(2)) + shift
    indices, weights = (values < 0).sum(1), values.prod(1).abs()
    total = torch.zeros(d + 1, dtype=torch.float64).index_add_(0, indices, weights)
    density: Tensor = total / len(a) / (2 * math.pi) ** (d / 2)
    return density


def _counts(trial: Trial, d: int, density: float, fields: int, starts: int) -> np.ndarray:
    """By group of fields: how many critical points of each index; the cube is such that EXPECTED are in it."""
    side, found = (EXPECTED / density) ** (1 / d), []
    for i in range(GROUPS * fields):
        chance = trial.torch("field", d, i)
        k = torch.randn(WAVES, d, generator=chance, dtype=torch.float64)
        phase = 2 * math.pi * torch.rand(WAVES, generator=chance, dtype=torch.float64)
        x = side * torch.rand(starts, d, generator=chance, dtype=torch.float64)
        found.append(_found((k, phase), side, x))
    counts: np.ndarray = np.array(found).reshape(GROUPS, fields, d + 1).sum(1)
    return counts


def _measure(trial: Trial) -> Findings:
    fields, starts = trial.pick(quick=3, normal=6, full=30), trial.pick(quick=300, normal=1000)
    theory = [_foretold(d, trial.torch("theory", d)) for d in DIMENSIONS]
    counts = [_counts(trial, d, float(t.sum()), fields, starts) for d, t in zip(DIMENSIONS, theory, strict=True)]
    saddles = np.array([c[:, 1:-1].sum(1) for c in counts])
    minima = np.array([(c[:, 0] + c[:, -1]) / 2 for c in counts])  # f and -f are alike, so that maxima tell as much
    ratios = saddles / minima
    slopes = [slope(DIMENSIONS, np.log(column).tolist(), log=False).value for column in ratios.T]
    foretold = [float(t[1:-1].sum() / ((t[0] + t[-1]) / 2)) for t in theory]
    limit = slope(DIMENSIONS, np.log(foretold).tolist(), log=False).value
    share = float(counts[-1].sum() / (GROUPS * fields * EXPECTED))
    means = [float(s.sum() / m.sum()) for s, m in zip(saddles, minima, strict=True)]
    checks = [
        above("slope of ln(saddles / minima) in the dimension", mean(slopes, 0.9973), 0, claimed=f"{limit:.3f}"),
        between("saddles / minima in 2 dimensions", means[0], 1.6, 2.5, claimed=2, role="condition"),
        reported(f"saddles / minima in {DIMENSIONS[-1]} dimensions", means[-1], claimed=foretold[-1]),
        reported(f"critical points found / foretold, {DIMENSIONS[-1]} dimensions", share, claimed=1),
    ]
    rows = [
        (d, int(c[:, 0].sum()), int(c[:, 1:-1].sum()), int(c[:, -1].sum()), f"{m:.3g}", f"{f:.3g}")
        for d, c, m, f in zip(DIMENSIONS, counts, means, foretold, strict=True)
    ]
    columns = ("dimensions", "minima", "saddles", "maxima", "saddles / minima", "foretold (Kac-Rice)")
    series = [
        Series("found", DIMENSIONS, means, ratios.min(1).tolist(), ratios.max(1).tolist(), kind="both"),
        Series("foretold (Kac-Rice)", DIMENSIONS, foretold, kind="reference"),
    ]
    caption = "Saddles for each minimum of Gaussian random fields; bars go from the lowest to the highest of the "
    caption += f"{GROUPS} groups of fields."
    figure = Figure(caption, [Panel("dimensions", "saddles / minima", series, log="y")])
    return Findings(checks, [figure], [Table("Critical points found", columns, rows)], NOTES)


NOTES = (
    "In one dimension there are no saddles, so that the ratio begins at two dimensions, where it is 2: there are as "
    "many saddles as minima and maxima together.",
    "f and -f are equally likely, so that maxima are counted with minima, half each, which steadies the ratio.",
    "Newton's method does not find every critical point equally often; the cube is small enough for the starts to find "
    "most of them. What it misses shows in the share that is found of those foretold.",
)

claim = Claim(
    slide=(16,),
    kind="STAT",
    statement="The ratio of the number of saddles to that of local minima grows exponentially with the dimension.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.2.3; Dauphin et al. 2014 (arXiv:1406.2572), sec. 2; Bray & "
    "Dean "
    "2007",
    equation="f(x) = √(2/M) Σ cos(k_m'x + φ_m),   k_m normal: covariance exp(-‖x - y‖²/2)",
    claimed="the slope of ln(saddles / minima) in the dimension is above 0 by 3 standard errors",
    setting=f"Gaussian random fields of {WAVES} waves in 2 to 6 dimensions, in a cube with {EXPECTED} critical points "
    "on "
    "average; Newton's method from 1,000 random starts in each, 30 fields of each dimension in 5 groups; float64.",
    changed="First from one dimension on. There are no saddles in one dimension, and the logarithm of their ratio is "
    "not defined there.",
    measure=_measure,
    seconds=60,
)
