"""Slide 30: random weights are nearly as different from each other as orthogonal ones, and cheaper."""

import math
import time

import numpy as np
import torch

from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import Check, Estimate, at_most, between, reported, within
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean, slope

SIZES = (10, 30, 100, 300, 1000, 3000)


def _cosine(size: int, groups: int, chance: torch.Generator) -> Estimate:
    """The mean |cos| of 1,000 pairs of Gaussian directions in each of the groups."""
    a, b = (torch.randn(groups, 1000, size, generator=chance) for _ in range(2))
    cosines = torch.nn.functional.cosine_similarity(a, b, dim=2).abs()
    return mean(cosines.double().mean(1).tolist())


def _seconds(size: int, chance: torch.Generator) -> tuple[float, float]:
    """To draw a square matrix, and to orthogonalize it; medians of five."""
    drawing, turning = [], []
    for _ in range(5):
        start = time.perf_counter()
        w = torch.randn(size, size, generator=chance)
        middle = time.perf_counter()
        torch.linalg.qr(w)
        drawing.append(middle - start)
        turning.append(time.perf_counter() - middle)
    return float(np.median(drawing)), float(np.median(turning))


def _measure(trial: Trial) -> Findings:
    sizes = trial.pick(quick=SIZES[:5], normal=SIZES)
    chance = trial.torch("directions")
    cosines = [_cosine(size, 10, chance) for size in sizes]
    checks: list[Check] = [
        within(f"mean |cos| of two random directions, d = {size}", found, math.sqrt(2 / (math.pi * size)), rel=0.05)
        for size, found in zip(sizes, cosines, strict=True)
    ]
    q = torch.linalg.qr(torch.randn(300, 300, generator=chance, dtype=torch.float64)).Q
    checks.append(
        at_most("largest |cos| after Gram-Schmidt, d = 300", float((q.T @ q - torch.eye(300)).abs().max()), 1e-12)
    )
    widths = (256, 512, 1024)
    times = [_seconds(size, chance) for size in widths]
    checks.append(reported("time to orthogonalize over time to draw, d = 1024", times[-1][1] / times[-1][0]))
    checks.append(
        between(
            "exponent of the time to orthogonalize in d",
            slope(widths, [t for _, t in times]).value,
            2.2,
            3.5,
            claimed=3,
            role="condition",
        )
    )
    series = [
        Series("measured", sizes, [c.value for c in cosines], kind="points"),
        Series("√(2/πd)", sizes, [math.sqrt(2 / (math.pi * size)) for size in sizes], kind="reference"),
    ]
    caption = "The mean |cos| between random directions falls with the square root of the dimension."
    panel = Panel("dimension d", "mean |cos| of two directions", series, log="xy")
    return Findings(checks, [Figure(caption, [panel])], notes=NOTES)


NOTES = (
    "Gram-Schmidt makes the cosine exactly 0 at a cost that grows with d³; drawing d² numbers leaves it near 0 for "
    "wide layers. Times are those of this machine, and one thread.",
)

claim = Claim(
    slide=(30,),
    kind="STAT",
    statement="One could search for basis functions that are all different, at a noticeable cost; random "
    "initialization from a high-dimensional distribution is cheaper and unlikely to give two units the same function.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.4",
    equation="E |cos ∠(a, b)| = √(2/πd) for large d;   Gram-Schmidt: 0, at O(d³)",
    claimed="mean |cos| within 5 % of √(2/πd): 0.25 at d = 10, 0.025 at d = 1,000",
    setting="10,000 pairs of Gaussian directions in each dimension, in ten groups, float32; QR of 256 to 1,024 "
    "columns, medians of five.",
    measure=_measure,
    seconds=2,
    alone=True,
)
