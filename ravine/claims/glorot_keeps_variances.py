"""Slide 32: what the uniform heuristics do to the variance of activations and gradients in a linear chain."""

from itertools import pairwise

import torch
from torch import Tensor

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, within
from ravine.core.figure import Figure, Panel, Series
from ravine.init import Glorot, Strategy, Uniform

STARTS: dict[str, Strategy] = {"standard": Uniform(), "Glorot": Glorot()}


def _ratios(start: Strategy, widths: tuple[int, ...], draws: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Variance after over before each layer, forward and backward: geometric means over draws of matrices.

    16 normal inputs and gradients pass through each draw.
    """
    forward, backward = [], []
    for _ in range(draws):
        w = [start((n, m), generator=chance, dtype=torch.float64) for m, n in pairwise(widths)]
        h, there = torch.randn(widths[0], 16, generator=chance, dtype=torch.float64), []
        g, back = torch.randn(widths[-1], 16, generator=chance, dtype=torch.float64), []
        for up, down in zip(w, reversed(w), strict=True):
            there.append(float((up @ h).square().mean() / h.square().mean()))
            back.append(float((down.T @ g).square().mean() / g.square().mean()))
            h, g = up @ h, down.T @ g
        forward.append(there)
        backward.append(back[::-1])
    return tuple(torch.tensor(found).log().mean(0).exp() for found in (forward, backward))  # type: ignore[return-value]


def _measure(trial: Trial) -> Findings:
    width, draws = trial.pick(quick=500, normal=1000), trial.pick(quick=4, normal=8)
    checks: list[Check] = []
    series = []
    for (name, start), ratio in zip(STARTS.items(), (1 / 3, 1.0), strict=True):
        found = _ratios(start, (width,) * 6, draws, trial.torch("chain", name))
        for way, each in zip(("activations", "gradients"), found, strict=True):
            checks.append(
                within(
                    f"{name}: variance of {way} from layer to layer", float(each.log().mean().exp()), ratio, rel=0.05
                )
            )
        series.append(Series(name, range(6), [1, *found[0].cumprod(0)], kind="both"))
        series.append(Series(f"{'1/3' if ratio < 1 else '1'} a layer", [0, 5], [1, ratio**5], kind="reference"))
    rows = []
    for m, n in ((800, 200), (300, 900)):
        forward, backward = (
            float(each[0]) for each in _ratios(STARTS["Glorot"], (m, n), 4 * draws, trial.torch("rect", m))
        )
        checks.append(within(f"Glorot, {m} to {n} units: activations", forward, 2 * m / (m + n), rel=0.05))
        checks.append(within(f"Glorot, {m} to {n} units: gradients", backward, 2 * n / (m + n), rel=0.05))
        rows.append(
            (f"{m} to {n}", f"{2 * m / (m + n):.3g}", f"{forward:.4g}", f"{2 * n / (m + n):.3g}", f"{backward:.4g}")
        )
    table = Table(
        "Glorot's compromise where a layer is not square: variance after over before",
        ("units", "forward: 2m/(m+n)", "measured", "backward: 2n/(m+n)", "measured"),
        rows,
    )
    caption = "Variance of the activations of a linear chain, relative to the input."
    panel = Panel("layer", "variance relative to the input", series, log="y")
    return Findings(checks, [Figure(caption, [panel])], [table], NOTES)


NOTES = (
    "A uniform number between -b and b has the variance b²/3: with b = 1/√m each layer keeps m/(3m) = 1/3 of the "
    "variance, which Glorot & Bengio (2010, eq. 15) point out; with b = √(6/(m+n)) it keeps 2m/(m+n) forward and "
    "2n/(m+n) backward, both 1 only if the layer is square.",
)

claim = Claim(
    slide=(32,),
    kind="EXACT",
    statement="Normalized initialization compromises between the same activation variance and the same gradient "
    "variance in all layers; sampling from U(-1/√m, 1/√m) keeps neither.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.4, eq. 8.23; Glorot & Bengio 2010, eq. 10-16",
    equation="W_ij ~ U(-√(6/(m+n)), √(6/(m+n))):   Var W = 2/(m+n);   U(±1/√m): m Var W = 1/3",
    claimed="1/3 of the variance a layer with the standard heuristic, 1 with Glorot's",
    setting="Linear chains of five layers of 1,000 units (quick: 500) and single layers 800 to 200 and 300 to 900; "
    "8 draws of all weights (quick: 4; single layers: 32 and 16), 16 normal inputs and gradients each, float64.",
    measure=_measure,
    seconds=3,
)
