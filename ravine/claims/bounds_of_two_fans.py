"""Slide 32: the deck's uniform heuristic has two different bounds, and weights of mean zero no more."""

import torch

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_least, at_most, inside, within
from ravine.core.figure import Figure, Panel, Series
from ravine.init import uniform
from ravine.racing.estimate import mean

INPUTS, UNITS = 784, 100


def _weights(name: str, chance: torch.Generator) -> torch.Tensor:
    """(units, inputs): from the deck's bounds as they are printed, or from the book's, which are ravine's `uniform`."""
    if name == "book":
        return uniform((UNITS, INPUTS), generator=chance, dtype=torch.float64)
    return torch.empty(UNITS, INPUTS, dtype=torch.float64).uniform_(-(INPUTS**-0.5), UNITS**-0.5, generator=chance)


def _sums(name: str, draws: int, chance: torch.Generator) -> torch.Tensor:
    """What goes into the units, W x, for inputs uniform in [0, 1]: (draws, units, 64)."""
    w = torch.stack([_weights(name, chance) for _ in range(draws)])
    return w @ torch.rand(draws, INPUTS, 64, generator=chance, dtype=torch.float64)


def _measure(trial: Trial) -> Findings:
    draws = trial.pick(quick=10, normal=30)
    low, high = INPUTS**-0.5, UNITS**-0.5
    deck, book = (_sums(name, draws, trial.torch(name)) for name in ("deck", "book"))
    foretold = INPUTS / 2 * (high - low) / 2
    means = [mean(sums.mean((1, 2)).tolist()) for sums in (deck, book)]
    saturated = [float((torch.tanh(sums).abs() > 0.99).double().mean()) for sums in (deck, book)]
    checks: list[Check] = [
        within("mean input of a unit, the deck's bounds", means[0], foretold, rel=0.02),
        inside("mean input of a unit, the book's bounds", means[1], -0.1, 0.1, claimed=0),
        at_least("share of saturated tanh units, the deck's bounds", saturated[0], 0.99),
        at_most("share of saturated tanh units, the book's bounds", saturated[1], 0.01),
    ]
    rows = [
        (
            "the deck",
            "U(-1/√m, 1/√n)",
            f"{(high - low) / 2:.4f}",
            f"{foretold:.4g}",
            str(means[0]),
            f"{saturated[0]:.1%}",
        ),
        ("the book", "U(-1/√m, 1/√m)", "0", "0", str(means[1]), f"{saturated[1]:.1%}"),
    ]
    table = Table(
        "784 inputs in [0, 1], 100 units",
        ("", "weights", "their mean", "mean input of a unit, foretold", "measured", "|tanh| > 0.99"),
        rows,
    )
    edges = torch.linspace(-5, 25, 61, dtype=torch.float64)
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    series = [
        Series(name, middles, torch.histogram(sums.flatten(), edges, density=True).hist.tolist())
        for name, sums in (("the deck: U(-1/√m, 1/√n)", deck), ("the book: U(-1/√m, 1/√m)", book))
    ]
    caption = "What goes into a unit at the start: by the deck's formula every tanh unit is saturated."
    panel = Panel("input of a unit", "density", series)
    return Findings(checks, [Figure(caption, [panel])], [table], NOTES)


NOTES = (
    "The deck's formula is no doubt a slip: m stands in one bound and n in the other. Taken as it is printed, the "
    "weights have the mean (1/√n - 1/√m)/2, which the sum over all inputs makes large; only a layer with m = n is what "
    "was meant.",
    "Even the book's bounds are not what keeps the signal: see glorot-keeps-variances.",
)

claim = Claim(
    slide=(32,),
    kind="EXACT",
    statement="Weights of a layer with m inputs and n outputs are sampled from U(-1/√m, 1/√n).",
    because='The deck prints "U(-1/√m, 1/√n)"; the book has each weight sampled from U(-1/√m, 1/√m), with m in both '
    "bounds.",
    source="the deck, slide 32, against Goodfellow, Bengio & Courville 2016, sec. 8.4 (p. 303)",
    equation="E W = (1/√n - 1/√m)/2;   E Σ W_i x_i = m E x (1/√n - 1/√m)/2",
    claimed="book: mean 0; the deck's bounds, taken literally: 12.6 for 784 inputs in [0, 1] and 100 units",
    setting="784 inputs uniform in [0, 1], 100 units, 30 draws of the weights (quick: 10), 64 inputs each, float64.",
    disagreement="D6",
    holds="DECK MISQUOTES BOOK",
    measure=_measure,
    seconds=1,
)
