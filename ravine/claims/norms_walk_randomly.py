"""Slide 33: through linear layers the logarithm of a gradient's norm walks randomly; the right gain takes its drift."""

import math

import torch
from torch import Tensor

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, between, covers
from ravine.core.figure import Figure, Panel, Series
from ravine.init import RandomWalk
from ravine.racing.estimate import mean, slope

GROUPS = 10
Settings = tuple[tuple[int, tuple[int, ...]], ...]  # widths, and the depths at which the walk is looked at


def _walks(width: int, depths: tuple[int, ...], draws: int, chance: torch.Generator) -> Tensor:
    """ln(‖δ_0‖ / ‖δ_D‖) backward through D layers of Gaussian weights of variance 1/N: (depths, draws)."""
    v, logs, found = torch.randn(draws, width, 1, generator=chance), torch.zeros(draws, dtype=torch.float64), []
    v = v / v.norm(dim=1, keepdim=True)
    for layer in range(1, depths[-1] + 1):
        v = torch.randn(draws, width, width, generator=chance) @ v / width**0.5
        norms = v.norm(dim=1, keepdim=True)
        logs, v = logs + norms[:, 0, 0].double().log(), v / norms
        if layer in depths:
            found.append(logs)
    return torch.stack(found)


def _measure(trial: Trial) -> Findings:
    small: Settings = ((25, (25, 50, 100)), (50, (50, 100)))
    settings = trial.pick(quick=small, normal=((50, (50, 100, 200)), (100, (50, 100))))
    draws, foretold, variances = 1000, [], []
    checks: list[Check] = []
    rows, panels = [], []
    for width, depths in settings:
        walks, gain = (
            _walks(width, depths, draws, trial.torch("walk", width)),
            RandomWalk("linear").spread((width, width)) * width**0.5,
        )
        foretold += [depth / (2 * width) for depth in depths]
        variances += [[float(part.var()) for part in logs.chunk(GROUPS)] for logs in walks]
        depth, last = depths[-1], walks[-1]
        plain, tuned = mean(last.tolist()), mean((last + depth * math.log(gain)).tolist())
        checks += [
            covers(f"mean of ln(‖δ_0‖/‖δ_D‖), {depth} layers of {width}, g = 1", plain, -depth / (2 * width)),
            covers(f"mean of ln(‖δ_0‖/‖δ_D‖), {depth} layers of {width}, g = exp(1/2N)", tuned, 0),
        ]
        rows += [
            (width, d, f"{d / (2 * width):.3g}", f"{float(logs.var()):.4g}")
            for d, logs in zip(depths, walks, strict=True)
        ]
        panels.append(_histogram(last, width, depth))
    slopes = mean([slope(foretold, group, log=False).value for group in zip(*variances, strict=True)])
    checks.append(between("slope of Var ln(‖δ_0‖/‖δ_D‖) on D/2N", slopes, 0.85, 1.15, claimed=1))
    table = Table("Variance of ln(‖δ_0‖/‖δ_D‖) over 1,000 nets", ("width N", "depth D", "D/2N", "measured"), rows)
    caption = "The norm of a gradient after D layers, over 1,000 nets of gain 1, beside the normal law of mean -D/2N."
    return Findings(checks, [Figure(caption, panels)], [table], NOTES)


def _histogram(logs: Tensor, width: int, depth: int) -> Panel:
    middle, spread = -depth / (2 * width), (depth / (2 * width)) ** 0.5
    edges = torch.linspace(middle - 4 * spread, middle + 4 * spread, 33, dtype=torch.float64)
    centres = (edges[:-1] + edges[1:]) / 2
    law = torch.exp(-((centres - middle) ** 2) / (2 * spread**2)) / (spread * math.sqrt(2 * math.pi))
    density = torch.histogram(logs, edges, density=True).hist
    series = [Series("measured", centres.tolist(), density.tolist())]
    series.append(Series("normal law", centres.tolist(), law.tolist(), kind="reference"))
    return Panel("ln(‖δ_0‖ / ‖δ_D‖)", "density", series, f"{depth} layers of {width} units")


NOTES = (
    "A Gaussian layer multiplies the norm by a random factor: its square is right on average with g = 1, but its "
    "logarithm is not, by 1/2N a layer. ravine's random_walk(activation='linear') is the gain that takes this away.",
    "The drift goes and the spread stays: after D layers a typical gradient is off by a factor of exp(√(D/2N)) either "
    "way, so that width is what keeps very deep nets together. Orthogonal layers do not spread at all.",
)

claim = Claim(
    slide=(33,),
    kind="STAT",
    statement="In feedforward nets activations and gradients grow and shrink from layer to layer like a random walk, "
    "since each layer has another matrix; tuned to preserve norms, it avoids vanishing and exploding gradients.",
    source="Sussillo & Abbott 2014 (arXiv:1412.6558), sec. 3; Goodfellow, Bengio & Courville 2016, sec. 8.4",
    equation="Var ln(‖δ_0‖/‖δ_D‖) = D/2N;   mean -D/2N with g = 1, and 0 with g = exp(1/2N)",
    claimed="a slope of 1 of the variance on D/2N, within 15 %; a drift of -D/2N, and none at the right gain",
    setting="1,000 linear nets with Gaussian weights of 50 units to 200 layers and 100 units to 100 layers (quick: 25 "
    "and 50 units, to 100 layers), float32.",
    measure=_measure,
    seconds=15,
)
