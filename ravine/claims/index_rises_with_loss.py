"""Slide 16: the critical points of a small network: the more directions lead down, the higher the loss."""

from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_least, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import share

INPUTS, UNITS, CLASSES, ROWS, DECAY = 4, 3, 4, 200, 1e-2
SIZE = UNITS * (INPUTS + 1) + CLASSES * (UNITS + 1)
ALONG = (0, 3, 10, 30, 100, 300, 1000, 3000)  # steps of SGD after which points are taken
LR, BATCH, NOISE, GRADIENT = 0.2, 20, 0.3, 1e-6
Sums = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def _data(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Digits 0 to 3: their first principal components, whitened, and a 1 for the offset; classes as unit vectors."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    rows = torch.tensor(np.flatnonzero(labels < CLASSES))
    rows = rows[torch.randperm(len(rows), generator=generator)[:ROWS]]
    x = torch.tensor(images)[rows]
    u = torch.linalg.svd(x - x.mean(0), full_matrices=False).U[:, :INPUTS] * ROWS**0.5
    return torch.cat([u, torch.ones(ROWS, 1)], 1), torch.eye(CLASSES, dtype=torch.float64)[labels[rows]]


def _losses(theta: Tensor, x: Tensor, y: Tensor, second: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Half the mean squared error of networks W2 [tanh(W1 x), 1], one in each row, with weight decay; its gradients
    and its Hessians.
    """
    w1, w2 = torch.split(theta, [UNITS * (INPUTS + 1), CLASSES * (UNITS + 1)], 1)
    w1, w2 = w1.view(-1, UNITS, INPUTS + 1), w2.view(-1, CLASSES, UNITS + 1)
    z = torch.tanh(x @ w1.mT)
    slope, full, w = 1 - z**2, torch.cat([z, torch.ones_like(z[..., :1])], 2), w2[..., :-1]
    rest = full @ w2.mT - y
    back = rest @ w
    g = torch.cat([((back * slope).mT @ x).flatten(1), (rest.mT @ full).flatten(1)], 1) / len(x)
    g = g + DECAY * theta
    loss = rest.square().sum(2).mean(1) / 2 + DECAY / 2 * theta.square().sum(1)
    if not second:
        return loss, g, g
    bends = (w.mT @ w)[:, None] * slope[..., :, None] * slope[..., None, :]
    bends = bends + torch.diag_embed(-2 * back * z * slope)
    squares = (x[:, :, None] * x[:, None, :]).flatten(1)
    corner = (bends.flatten(2).mT @ squares).view(-1, UNITS, UNITS, INPUTS + 1, INPUTS + 1).transpose(2, 3)
    size = UNITS * (INPUTS + 1)
    first = (slope[..., None] * x[:, None, :]).flatten(2)  # (nets, rows, units x inputs)
    side = (first.mT @ full).view(-1, UNITS, INPUTS + 1, 1, UNITS + 1) * w.mT[:, :, None, :, None]
    own = (first.mT @ rest).view(-1, UNITS, INPUTS + 1, CLASSES)
    for unit in range(UNITS):
        side[:, unit, :, :, unit] += own[:, unit]
    h = theta.new_zeros(len(theta), SIZE, SIZE)
    h[:, :size, :size] = corner.reshape(-1, size, size)
    h[:, :size, size:] = side.reshape(-1, size, CLASSES * (UNITS + 1))
    h[:, size:, :size] = h[:, :size, size:].mT
    h[:, size:, size:] = torch.kron(torch.eye(CLASSES, dtype=theta.dtype), full.mT @ full)
    return loss, g, h / len(x) + DECAY * torch.eye(SIZE, dtype=theta.dtype)


def _starts(x: Tensor, y: Tensor, runs: int, trial: Trial) -> Tensor:
    """Points along paths of SGD from random weights, moved by normal noise."""
    theta = 0.5 * torch.randn(runs, SIZE, generator=trial.torch("init"), dtype=torch.float64)
    chance, found = trial.torch("order"), []
    for step in range(ALONG[-1] + 1):
        if step in ALONG:
            found.append(theta)
        rows = torch.randint(ROWS, (BATCH,), generator=chance)
        theta = theta - LR * _losses(theta, x[rows], y[rows], second=False)[1]
    places = torch.cat(found)
    return places + NOISE * torch.randn(places.shape, generator=trial.torch("noise"), dtype=torch.float64)


def _critical(theta: Tensor, sums: Sums, most: int) -> tuple[Tensor, Tensor]:
    """Loss and eigenvalues where ‖g‖² is minimized to ‖g‖ < 1e-6: steps -(H² + μI)⁻¹Hg of Levenberg and Marquardt."""
    damping = torch.full((len(theta), 1), 1e-2, dtype=torch.float64)
    losses, spectra = [], []
    loss, g, h = sums(theta)
    for _ in range(most):
        values, q = torch.linalg.eigh(h)
        there = g.norm(dim=1) < GRADIENT
        losses.append(loss[there])
        spectra.append(values[there])
        theta, damping, loss, g, h, values, q = (part[~there] for part in (theta, damping, loss, g, h, values, q))
        if not len(theta):
            break
        step = (q @ (values / (values**2 + damping) * (q.mT @ g[..., None])[..., 0])[..., None])[..., 0]
        new = sums(theta - step)
        better = new[1].norm(dim=1) < g.norm(dim=1)
        theta = torch.where(better[:, None], theta - step, theta)
        loss, g = torch.where(better, new[0], loss), torch.where(better[:, None], new[1], g)
        h = torch.where(better[:, None, None], new[2], h)
        damping = (damping * torch.where(better, 0.25, 4.0)[:, None]).clamp(min=1e-14)
    return torch.cat(losses), torch.cat(spectra)


def _measure(trial: Trial) -> Findings:
    x, y = _data(trial.torch("data"))
    starts = _starts(x, y, trial.pick(quick=10, normal=100), trial)
    chunks = torch.split(starts, 200)
    found = [_critical(part, lambda theta: _losses(theta, x, y), 100) for part in chunks]
    loss, spectra = torch.cat([a for a, _ in found]), torch.cat([b for _, b in found])
    tried = len(loss)
    places = np.unique(loss.numpy().round(7), return_index=True)[1]  # one of each kind that symmetry makes
    loss, spectra = loss[places], spectra[places]
    index = (spectra < -1e-6 * spectra.abs().amax(1, keepdim=True)).double().mean(1)
    correlation = float(stats.spearmanr(loss.numpy(), index.numpy()).statistic)
    checks: list[Check] = [
        at_least("critical points of different loss", len(loss), trial.pick(quick=10, normal=100)),
        at_least("Spearman's rank correlation of loss and index", correlation, 0.7),
        reported("share of starts that lead to one", share(tried, len(starts))),
        reported("share of them without a negative eigenvalue", share(int((index == 0).sum()), len(index))),
    ]
    points = Series("a critical point", index.tolist(), loss.tolist(), kind="points")
    panels = [Panel("share of negative eigenvalues", "loss", [points]), _spectra(loss, spectra)]
    caption = "Left: the critical points found. Right: the eigenvalues at those of lowest, middle and highest loss."
    return Findings(checks, [Figure(caption, panels)], [_table(loss, index)], NOTES)


def _thirds(loss: Tensor) -> list[Tensor]:
    return list(torch.tensor_split(loss.argsort(), 3))


def _table(loss: Tensor, index: Tensor) -> Table:
    rows = [
        (name, len(part), f"{float(loss[part].mean()):.4f}", f"{float(index[part].mean()):.4f}")
        for name, part in zip(("lowest", "middle", "highest"), _thirds(loss), strict=True)
    ]
    columns = ("third", "points", "mean loss", "mean share of negative eigenvalues")
    return Table("Critical points by loss", columns, rows)


def _spectra(loss: Tensor, spectra: Tensor) -> Panel:
    series = []
    for name, part in zip(("lowest loss", "middle", "highest loss"), _thirds(loss), strict=True):
        values = spectra[part].flatten().sort().values
        picks = torch.linspace(0, len(values) - 1, 200).long()
        series.append(Series(name, values[picks].tolist(), (picks / (len(values) - 1)).tolist()))
    return Panel("eigenvalue", "share of eigenvalues below", series, limits=[-0.1, 0.3, 0, 1])


NOTES = (
    "Points of the same loss are counted once: units can be exchanged and their signs turned (weight-space-symmetry), "
    "so "
    "that many runs end at copies of one point.",
    "Points at which ‖g‖² has a minimum above 0 are no critical points (Frye et al. 2021); they are left out by the "
    "bound on ‖g‖, and are why many starts lead nowhere.",
    "The points are those that this search finds from paths of training, not a fair sample of all.",
)

claim = Claim(
    slide=(16,),
    kind="ARCH",
    statement="Critical points of high loss are saddles with many directions down, those of low loss have few or none: "
    "in a network too, loss and the share of negative eigenvalues rise together.",
    source="Dauphin et al. 2014 (arXiv:1406.2572), sec. 3 and fig. 1; Goodfellow, Bengio & Courville 2016, sec. 8.2.3",
    claimed="rank correlation of loss and index at least 0.7 over at least 100 critical points",
    setting=f"One hidden layer of {UNITS} tanh units, squared error, weight decay {DECAY}, on {ROWS} digits 0 to 3 by "
    f"{INPUTS} principal components ({SIZE} weights); from 800 points along 100 paths of SGD, with normal noise of "
    f"{NOISE}, ‖g‖² is minimized until ‖g‖ < 1e-6; negative: below -1e-6 of the largest eigenvalue; float64.",
    changed="First 8 units on 10 components without weight decay. Of 32 starts none came below ‖g‖ = 1e-6 in 100 "
    "steps, "
    "and one in 400: ‖g‖² falls slowly along directions in which the loss hardly bends. Smaller networks and decays of "
    "0.001 to 0.01 were tried until enough of the starts led to a critical point; the criterion is as it was.",
    measure=_measure,
    seconds=60,
)
