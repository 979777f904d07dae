"""Slide 43: on Beale's function momentum runs past the minimum, and plain descent does not."""

import torch
from torch import Tensor

from ravine.claims._walk import path
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import above, at_least, reported
from ravine.core.figure import Figure, Ground, Panel, Series, floats
from ravine.core.rule import Rule
from ravine.racing.estimate import mean, ratio, share
from ravine.rules import SGD, Momentum

LR = 1e-3
MINIMUM = torch.tensor([3.0, 0.5], dtype=torch.float64)
SHOWN = (1.0, 1.5)
BOX = ((-1.0, 3.0), (-1.0, 1.6))
RULES: dict[str, Rule] = {"SGD": SGD(), "momentum": Momentum(0.9)}


def _terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3


def _slope(p: Tensor) -> Tensor:
    x, y = p[..., 0], p[..., 1]
    a, b, c = _terms(x, y)
    along_x = a * (y - 1) + b * (y**2 - 1) + c * (y**3 - 1)
    along_y = a * x + b * 2 * x * y + c * 3 * x * y**2
    return 2 * torch.stack([along_x, along_y], -1)


def _rise(distances: Tensor) -> Tensor:
    """The most by which a walker has come to be further off than it was before, in units of its first distance."""
    return (distances - distances.cummin(0).values).amax(0) / distances[0]


def _count(rises: Tensor) -> tuple[int, int]:
    return int((rises > 0.01).sum()), len(rises)


def _measure(trial: Trial) -> Findings:
    steps = trial.pick(quick=3_000, normal=10_000)
    (a, b), (c, d) = BOX
    drawn = torch.rand(trial.pick(quick=40, normal=100), 2, generator=trial.torch("starts"), dtype=torch.float64)
    drawn = drawn * torch.tensor([b - a, d - c]) + torch.tensor([a, c])
    starts = torch.cat([torch.tensor([SHOWN], dtype=torch.float64), drawn])
    paths = {name: path(rule, _slope, starts, LR, steps) for name, rule in RULES.items()}
    kept = torch.stack([found.isfinite().all(0).all(-1) for found in paths.values()]).all(0)
    distances = {name: (found[:, kept] - MINIMUM).norm(dim=-1) for name, found in paths.items()}
    rises = {name: _rise(found)[1:] for name, found in distances.items()}
    most = {name: found.amax(0)[1:] for name, found in distances.items()}
    lengths = {name: (found[1:, kept] - found[:-1, kept]).norm(dim=-1).sum(0)[1:] for name, found in paths.items()}
    further = int((most["momentum"] > most["SGD"] * 1.001).sum())
    checks = [
        above("rise of the distance, momentum less SGD", mean((rises["momentum"] - rises["SGD"]).tolist())),
        above("length of the path, momentum / SGD", ratio((lengths["momentum"] / lengths["SGD"]).tolist()), 1),
        at_least("largest distance, momentum / SGD, from (1, 1.5)",
                 float((distances["momentum"].amax(0) / distances["SGD"].amax(0))[0]), 1.01),
        at_least("starts from which momentum's largest distance is larger", share(further, int(kept.sum()) - 1), 0.5,
                 role="condition"),
        reported("starts from which momentum's distance rises by over 1 %", share(*_count(rises["momentum"]))),
        reported("the same, SGD", share(*_count(rises["SGD"]))),
        reported("starts left out, from which a rule diverged", float((~kept).sum())),
    ]  # fmt: skip
    rows = [(name, f"{rises[name].median():.3f}", f"{rises[name].mean():.3f}", f"{lengths[name].median():.2f}")
            for name in RULES]  # fmt: skip
    table = Table("From the random starts", ("rule", "rise, median", "rise, mean", "length, median"), rows)
    return Findings(checks, [_figure(paths, distances)], [table], NOTES)


def _figure(paths: dict[str, Tensor], distances: dict[str, Tensor]) -> Figure:
    x, y = torch.linspace(-0.5, 4, 61), torch.linspace(-1.5, 2, 57)
    terms = _terms(x, y[:, None])
    z = [floats(row) for row in sum(term**2 for term in terms)]  # type: ignore[union-attr]
    ground = Ground(floats(x), floats(y), z, [0.05, 0.2, 0.7, 2, 5, 12, 30, 80, 250])
    marks = sorted({round(1.04**i) - 1 for i in range(235)} & set(range(len(paths["SGD"]))))
    ways = [Series(name, *found[marks, 0].T.tolist()) for name, found in paths.items()]
    ways.append(Series("minimum", [3.0], [0.5], kind="points"))
    offs = [Series(name, [k + 1 for k in marks], found[marks, 0].tolist()) for name, found in distances.items()]
    caption = (
        "Left: from (1, 1.5) on Beale's function; momentum shoots across the valley and turns back. Right: the same "
    )
    caption += "as the distance to the minimum, which SGD never lets grow, and reaches later."
    limits = [-0.5, 4, -1.5, 2]
    return Figure(caption, [Panel("x", "y", ways, ground=ground, limits=limits),
                            Panel("step + 1", "distance to the minimum", offs, log="x")])  # fmt: skip


NOTES = (
    "From most starts the start itself is the furthest point from the minimum for both rules, so that the largest "
    "distance shows nothing; how far a walker comes back out does.",
)

claim = Claim(
    slide=(43,),
    kind="STAT",
    statement="Momentum overshoots: on Beale's function it runs past the minimum and comes back, where plain gradient "
    "descent creeps along the valley.",
    source="Radford's animation of Beale's function, shown in Ruder 2016, An overview of gradient descent optimization "
    "algorithms (arXiv:1609.04747)",
    equation="f = (1.5 - x + xy)² + (2.25 - x + xy²)² + (2.625 - x + xy³)²,   minimum 0 at (3, 0.5)",
    claimed="Momentum's distance to the minimum rises again after it has fallen, by more than SGD's, and its path is "
    "longer",
    setting="100 random starts in [-1, 3] × [-1, 1.6] and (1, 1.5), rate 0.001 for both, momentum 0.9, 10,000 steps, "
    "float64. Rise: the most by which the distance exceeds its smallest value so far, over the first distance.",
    measure=_measure,
    seconds=3,
    changed="Momentum's largest distance to the minimum was to exceed SGD's. From about two thirds of the starts both "
    "are furthest off at the start, whatever follows. That criterion is kept for the start of the picture, and as a "
    "condition for half of all starts.",
)
