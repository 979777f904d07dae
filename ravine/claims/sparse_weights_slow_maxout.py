"""Slide 34: maxout units from sparse and from dense weights of one total variance, and how soon they reach a loss."""

import math
from collections.abc import Sequence
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ravine.claims._stacked import Data, cross_entropy, digits, outputs
from ravine.claims._walk import best, walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, Estimate, at_least, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.init import Sparse, Strategy, lecun
from ravine.racing.estimate import ratio
from ravine.rules import SGD

K, PIECES, WIDTHS = 15, 4, (64, 100, 100, 10)
BATCH, LOOK, TARGET, JUDGED = 32, 5, 0.1, 256


class _Setting(NamedTuple):
    """Pieces of a unit (1 is a rectifier), and k times the variance of a sparse weight."""

    name: str
    pieces: int
    variance: float
    rates: Sequence[float]


GRID = (0.008, 0.016, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0)
SETTINGS = (
    _Setting("maxout, weights N(0, 1)", PIECES, K, GRID[:6]),
    _Setting("maxout, weights N(0, 1/15)", PIECES, 1, GRID[3:]),
    _Setting("rectifier, weights N(0, 1)", 1, K, GRID[2:8]),
    _Setting("rectifier, weights N(0, 1/15)", 1, 1, GRID[3:]),
)
KINDS = ("sparse", "dense")


def _shapes(pieces: int) -> list[tuple[int, int]]:
    """Inputs and sums of every layer."""
    return [(m, n if n == WIDTHS[-1] else n * pieces) for m, n in pairwise(WIDTHS)]


def _start(setting: _Setting, kind: str, chance: torch.Generator) -> Tensor:
    """A copy's weights in one row. The layer of the classes is dense, of variance 1/fan-in, for both kinds."""
    gain, found = math.sqrt(setting.variance), []
    hidden: Strategy | None = Sparse(K, gain=gain) if kind == "sparse" else None
    for m, n in _shapes(setting.pieces):
        if n == WIDTHS[-1]:
            weight = lecun((n, m), generator=chance)
        else:
            weight = hidden((n, m), generator=chance) if hidden else gain * lecun((n, m), generator=chance)
        found += [weight.T.flatten(), torch.zeros(n)]
    return torch.cat(found)


def _losses(weights: Tensor, x: Tensor, y: Tensor, pieces: int) -> Tensor:
    """Each copy's mean cross-entropy."""
    sizes = [size for m, n in _shapes(pieces) for size in (m * n, n)]
    views, layers = iter(torch.split(weights, sizes, 1)), []
    for m, n in _shapes(pieces):
        layers += [next(views).view(-1, m, n), next(views)[:, None]]

    def unit(z: Tensor) -> Tensor:
        return z.relu() if pieces == 1 else z.view(*z.shape[:-1], -1, pieces).amax(-1)

    return cross_entropy(outputs(layers, x, unit), y)


def _curves(trial: Trial, setting: _Setting, seeds: int, steps: int, data: Data) -> np.ndarray:
    """Losses on JUDGED training images every LOOK steps: (looks, kinds, rates, seeds); the same batches for a seed."""
    (x, y), rates = data, setting.rates
    starts = [[_start(setting, kind, trial.torch("init", i)) for i in range(seeds)] for kind in KINDS]
    weights = torch.cat([torch.stack(rows).repeat(len(rates), 1) for rows in starts])
    lr = torch.tensor(rates).repeat_interleave(seeds).repeat(2)[:, None]
    chances = [trial.torch("batches", i) for i in range(seeds)]

    def gradient(w: Tensor) -> Tensor:
        rows = torch.stack([torch.randint(len(y), (BATCH,), generator=chance) for chance in chances])
        rows = rows.repeat(len(lr) // seeds, 1)
        at = w.detach().requires_grad_()
        return torch.autograd.grad(_losses(at, x[rows], y[rows], setting.pieces).sum(), at)[0]

    found = []
    for w in islice(walk(SGD(), gradient, weights, lr), 0, steps + 1, LOOK):
        with torch.no_grad():
            found.append(_losses(w, x[:JUDGED], y[:JUDGED], setting.pieces).nan_to_num(nan=math.inf))
    return torch.stack(found).view(len(found), 2, len(rates), seeds).numpy()


def _steps(curves: np.ndarray) -> Tensor:
    """The first step at which the loss is the target or less, infinite where never: (rates, seeds)."""
    reached = curves <= TARGET
    return torch.tensor(np.where(reached.any(0), LOOK * reached.argmax(0), math.inf))


def _measure(trial: Trial) -> Findings:
    seeds, steps = trial.pick(quick=2, normal=10, full=20), trial.pick(quick=30, normal=300)
    ((x, y),) = digits(trial.torch("data"), 1297)
    checks: list[Check] = []
    rows, panels = [], []
    for setting in SETTINGS:
        curves = _curves(trial, setting, seeds, steps, (x.float(), y))
        (one, i), (other, j) = (best(_steps(curves[:, kind])) for kind in (0, 1))
        found = _ratio(one, other, steps)
        what = f"steps to a loss of {TARGET}, sparse over dense, {setting.name}"
        if setting is SETTINGS[0]:
            checks.append(at_least(what, found, 1.5))
        elif setting.pieces > 1:
            checks.append(at_least(what, found, 1.5, role="condition"))
        else:
            checks.append(reported(what, found))
        for kind, at, took in zip(KINDS, (i, j), (one, other), strict=True):
            rates = setting.rates
            where = "" if 0 < at < len(rates) - 1 else " (at the grid's end)"
            rows.append((setting.name, kind, f"{rates[at]:g}{where}", f"{float(took.median()):g}",
                         f"{float(took.min()):g} to {float(took.max()):g}"))  # fmt: skip
        if setting.pieces > 1:
            panels.append(_panel(setting, [curves[:, 0, i], curves[:, 1, j]]))
    columns = ("setting (sparse weights)", "kind", "best learning rate", "steps: median", "smallest to largest")
    table = Table(f"Steps until the training loss is {TARGET}, {seeds} seeds", columns, rows)
    caption = "Training loss of maxout nets, sparse and dense, each at its best learning rate: mean and range of seeds."
    return Findings(checks, [Figure(caption, panels)], [table], NOTES)


def _ratio(sparse: Tensor, dense: Tensor, steps: int) -> Estimate:
    """Over seeds, in pairs; never is counted as twice all steps."""
    return ratio((sparse.clamp(max=2.0 * steps) / dense.clamp(max=2.0 * steps)).tolist())


def _panel(setting: _Setting, curves: Sequence[np.ndarray]) -> Panel:
    series = []
    for kind, losses in zip(KINDS, curves, strict=True):
        at = range(0, LOOK * len(losses), LOOK)
        series.append(Series(kind, at, losses.mean(1), losses.min(1), losses.max(1)))
    series.append(Series("target", (0, at[-1]), (TARGET, TARGET), kind="reference"))
    return Panel("update", "training loss (nats)", series, setting.name, log="y")


NOTES = (
    "The variance of a unit's input is the same for both: a dense weight has 15/fan-in times the variance of a sparse "
    "one. Martens' sparse weights are N(0, 1), for units that saturate; in a maxout net they make sums grow from "
    "layer to layer, so that the same is tried with N(0, 1/15).",
    "The book gives no figure; the factor of 1.5 is what would be seen in so small a net. With four filters to a unit "
    "and 15 of 64 or 100 inputs to a filter, two filters of a unit share few inputs.",
    "Sparse and dense weights take about as many steps here, with either variance: at this size the caveat is not "
    "seen. Digits are learnt in a hundred steps, in which a wrong filter may be outvoted rather than shrunk.",
    "Rectified units, which have nothing to coordinate, stand beside maxout: a factor that they show as well is not "
    "maxout's.",
)

claim = Claim(
    slide=(34,),
    kind="ARCH",
    statement="Gradient descent takes long to shrink incorrect large values, so that sparse initialization is a "
    "problem for units whose filters must be coordinated, such as maxout units.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.4",
    equation="h = max_j (W_j x + b_j), j = 1 ... 4",
    claimed="at least 1.5 times the steps of dense weights of the same total variance to the same training loss",
    setting="Two hidden layers of 100 maxout units of four pieces, 15 weights N(0, 1) into each piece, or dense "
    "weights of that total variance; 1,297 digits, SGD with batches of 32, 300 updates (quick: 30), each kind at its "
    "best of six learning rates, loss on 256 training images every 5 updates; 10 seeds (quick: 2; full: 20).",
    measure=_measure,
    seconds=80,
)
