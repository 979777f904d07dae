"""Slide 34: with k weights into each unit, neither a unit's input nor a weight depends on the number of inputs."""

import math

import torch

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, between, reported, within
from ravine.core.figure import Figure, Panel, Series
from ravine.init import lecun, sparse
from ravine.racing.estimate import slope

K, UNITS, BATCH = 15, 400, 50
SIZES = (100, 300, 1000, 3000, 10000)


def _measure(trial: Trial) -> Findings:
    sizes = trial.pick(quick=SIZES[:4], normal=SIZES)
    checks: list[Check] = []
    sums, dense, weights, each = [], [], [], []
    for size in sizes:
        chance = trial.torch("weights", size)
        w = sparse((UNITS, size), k=K, generator=chance, dtype=torch.float64)
        x = torch.rand(size, BATCH, generator=chance, dtype=torch.float64)
        into, counts = w @ x, (w != 0).sum(1)
        sums.append(float(into.square().mean().sqrt()))
        weights.append(float(w[w != 0].square().mean().sqrt()))
        full = lecun((UNITS, size), generator=chance, dtype=torch.float64)
        dense.append(float((full @ x).square().mean().sqrt()))
        each.append(float(full.square().mean().sqrt()))
        checks += [
            within(f"std of a unit's input, {size} inputs", sums[-1], math.sqrt(K / 3), rel=0.05),
            within(f"units with exactly {K} incoming weights, {size} inputs", float((counts == K).sum()), UNITS, tol=0),
        ]
    checks += [
        between(
            "size of a nonzero sparse weight: exponent in the number of inputs",
            slope(sizes, weights).value,
            -0.02,
            0.02,
            claimed=0,
        ),
        between(
            "size of a dense weight: exponent in the number of inputs",
            slope(sizes, each).value,
            -0.52,
            -0.48,
            claimed=-0.5,
        ),
        reported(
            "places drawn with replacement (Martens' program): mean number of weights, 100 inputs", _places(trial)
        ),
    ]
    series = [Series("sparse", sizes, weights, kind="both"), Series("dense, variance 1/m", sizes, each, kind="both")]
    rows = [(m, *(f"{v:.4g}" for v in row)) for m, *row in zip(sizes, sums, weights, dense, each, strict=True)]
    table = Table(
        "Root mean squares, inputs uniform in [0, 1]",
        ("inputs m", "sparse: unit's input", "a nonzero weight", "dense: unit's input", "a weight"),
        rows,
    )
    caption = "Weights of a unit against its number of inputs: sparse ones stay, dense ones shrink."
    figure = Figure(caption, [Panel("inputs m", "root mean square of a weight", series, log="xy")])
    return Findings(checks, [figure], [table], NOTES)


def _places(trial: Trial) -> float:
    w = sparse((10000, 100), k=K, replace=True, generator=trial.torch("places"))
    return float((w != 0).sum(1).double().mean())


NOTES = (
    "Dense weights of variance 1/m keep the unit's input as well; what sparse ones add is that a single weight stays "
    "of size 1, and that units differ from each other by what they look at.",
    "Martens' own program draws the 15 places with replacement, so that a unit of a narrow layer has 14 distinct "
    "inputs on average. ravine's `sparse` takes distinct ones unless told otherwise.",
)

claim = Claim(
    slide=(34,),
    kind="EXACT",
    statement="Sparse initialization, with exactly k nonzero weights into each unit, keeps the total input of a unit "
    "independent of the number of inputs m without making single weights shrink with m.",
    source="Martens 2010, sec. 5; Goodfellow, Bengio & Courville 2016, sec. 8.4",
    equation="std Σ W_i x_i = √(k E x²)",
    claimed="√(15/3) = 2.24 for inputs uniform in [0, 1], for every m; dense weights shrink as m^-½",
    setting="400 units with k = 15 weights N(0, 1) of 100 to 10,000 inputs (quick: to 3,000), 50 uniform inputs, "
    "float64; dense weights of variance 1/m beside them.",
    measure=_measure,
    seconds=1,
)
