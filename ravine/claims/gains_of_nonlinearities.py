"""Slide 33: whose the gain factors are that people use with orthogonal weights."""

import math

import torch
from torch import Tensor

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_most, between, within
from ravine.core.figure import Figure, Panel, Series
from ravine.init import gain, orthogonal

WIDTH, DEPTH = 256, 100
UNITS = {"linear": lambda x: x, "tanh": torch.tanh, "ReLU": torch.relu}
TRIED = (("linear", 1.0), ("tanh", 0.9), ("tanh", 1.0), ("tanh", 1.1), ("ReLU", 1.0), ("ReLU", math.sqrt(2)))


def _activity(unit: str, g: float, nets: int, chance: torch.Generator) -> Tensor:
    """q_l, the mean square of x_{l+1} = g W φ(x_l), for l = 0 ... DEPTH, of each net: (DEPTH + 1, nets)."""
    found = []
    for _ in range(nets):
        x = torch.randn(WIDTH, 1, generator=chance, dtype=torch.float64)
        row = [x.square().mean()]
        for _ in range(DEPTH):
            x = orthogonal((WIDTH, WIDTH), gain=g, generator=chance, dtype=torch.float64) @ UNITS[unit](x)
            row.append(x.square().mean())
        found.append(torch.stack(row))
    return torch.stack(found, 1)


def _limit(g: float) -> float:
    """q with q = g² E tanh²(√q z), z ~ N(0, 1): the activity that tanh nets keep above the critical gain."""
    z = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    weight = torch.exp(-(z**2) / 2)
    weight, q = weight / weight.sum(), 1.0
    for _ in range(2000):
        q = g**2 * float((weight * torch.tanh(q**0.5 * z) ** 2).sum())
    return q


def _measure(trial: Trial) -> Findings:
    nets = trial.pick(quick=2, normal=5)
    runs = {key: _activity(*key, nets, trial.torch("nets", key[0], str(key[1]))) for key in TRIED}
    ends = {key: float(run[-1].median()) for key, run in runs.items()}
    mean = {key: float((run[-1] / run[0]).median()) for key, run in runs.items()}
    root = math.sqrt(2)
    checks: list[Check] = [
        within("linear, g = 1: activity after 100 layers over that of the input", mean["linear", 1.0], 1, rel=1e-10),
        at_most("tanh, g = 0.9: activity after 100 layers", ends["tanh", 0.9], 1e-6),
        at_most("tanh, g = 1: activity after 100 layers", ends["tanh", 1.0], 0.05, claimed="falls as 1/layers"),
        within("tanh, g = 1.1: activity after 100 layers", ends["tanh", 1.1], _limit(1.1), rel=0.05),
        at_most("ReLU, g = 1: activity after 100 layers", ends["ReLU", 1.0], 1e-20),
        between("ReLU, g = √2: activity after 100 layers over the input's", mean["ReLU", root], 0.1, 10, claimed=1),
        within(
            "ReLU: the gain that keeps the mean square, 1/√E φ(z)²", gain("relu", preserve="variance"), root, rel=1e-6
        ),
    ]
    who = {
        "linear": "Saxe et al. 2013, sec. 3",
        "tanh": "Saxe et al. 2013, sec. 4: critical at g = 1",
        "ReLU": "not in Saxe et al. (√2: He et al. 2015)",
    }
    rows = [(unit, f"{g:.4g}", who[unit], f"{mean[unit, g]:.3g}", f"{ends[unit, g]:.3g}") for unit, g in TRIED]
    table = Table(
        "Orthogonal weights of 256 units, 100 layers (medians)",
        ("unit", "gain g", "who derives a gain for it", "activity over the input's", "activity"),
        rows,
    )
    at = range(0, DEPTH + 1, 2)
    series = [
        Series(f"{u}, g = {g:.3g}", at, runs[u, g].median(1).values[list(at)].clamp(min=1e-12).tolist())
        for u, g in TRIED
        if u != "linear"
    ]
    series.append(Series("linear, g = 1", [0, DEPTH], [1, 1], kind="reference"))
    caption = "The mean square of the activity through 100 orthogonal layers (cut off at 1e-12)."
    panel = Panel("layer", "mean square of x", series, log="y")
    return Findings(checks, [Figure(caption, [panel])], [table], NOTES)


NOTES = (
    "Saxe et al. (2013, sec. 4) show that a critical gain exists for any saturating nonlinearity, and compute it for "
    "tanh, where it is 1. A rectified unit does not saturate, and no value for it, nor for any other than tanh, is in "
    "the paper.",
    "√2 for rectified units is He et al. (2015, eq. 10), derived for Gaussian weights; with orthogonal ones it holds "
    "in the mean square too, as measured here. Tables of gains such as torch's calculate_gain are collections.",
)

claim = Claim(
    slide=(33,),
    kind="STAT",
    statement="Saxe et al. (2013) derive specific values of the scaling factor g for different types of nonlinear "
    "activation functions.",
    because='The book, whose words the deck takes, says that they "derive specific values of the scaling factor"; the '
    'paper (sec. 4) shows that a critical gain exists where φ is "any nonlinearity that saturates", and gives one '
    "value: g = 1 for tanh. √2 for ReLU is He et al. 2015.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.4, against Saxe, McClelland & Ganguli 2013 (arXiv:1312.6120), "
    "sec. 4; He et al. 2015 (arXiv:1502.01852), eq. 10",
    equation="x_{l+1} = g W φ(x_l), W orthogonal;   tanh: g_c = 1, q = g² E tanh²(√q z) above;   ReLU: g = √2",
    claimed="tanh: activity dies out below g = 1 and stays above; ReLU: it dies out at 1, and √2 keeps it",
    setting="Orthogonal layers of 256 units, 100 layers, normal inputs, float64, five nets for each gain (quick: two).",
    disagreement="D7",
    holds="SOURCE DOES NOT SAY IT",
    measure=_measure,
    seconds=9,
)
