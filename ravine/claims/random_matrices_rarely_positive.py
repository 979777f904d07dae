"""Slide 16: how rarely all eigenvalues of a random symmetric matrix are positive: n tosses of a coin do not say."""

import math

import numpy as np
import torch

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, Estimate, at_most, below, covers, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean, share

SIZES = (1, 2, 3, 4, 5)
TWO = (2 - math.sqrt(2)) / 4  # n = 2: the trace must outweigh the deviator, of three equal normal components
DECAY = math.log(3) / 4


def _positive(draws: int, generator: torch.Generator) -> list[int]:
    """How many of the n x n corners of random symmetric matrices have positive eigenvalues only, for each n.

    A corner is such a matrix itself. Cholesky's factor grows by a row at a time, which exists for positive definite
    matrices alone (w'w < the new diagonal element), so that only those are carried on.
    """
    factor, found = torch.zeros(draws, 0, 0, dtype=torch.float64), []
    for n in SIZES:
        last = math.sqrt(2) * torch.randn(len(factor), generator=generator, dtype=torch.float64)
        column = torch.randn(len(factor), n - 1, 1, generator=generator, dtype=torch.float64)
        w = torch.linalg.solve_triangular(factor, column, upper=False)[..., 0] if n > 1 else column[..., 0]
        rest = last - w.square().sum(1)
        keep = rest > 0
        grown = torch.zeros(int(keep.sum()), n, n, dtype=torch.float64)
        grown[:, :-1, :-1], grown[:, -1, :-1], grown[:, -1, -1] = factor[keep], w[keep], rest[keep].sqrt()
        factor = grown
        found.append(len(factor))
    return found


def _bends(counts: np.ndarray, draws: int) -> list[Estimate]:
    """ln P(n+1) - 2 ln P(n) + ln P(n-1) for the inner n; the draws come in groups, from which the intervals are."""
    logs = np.log(counts / draws)
    return [mean(row.tolist()) for row in logs[2:] - 2 * logs[1:-1] + logs[:-2]]


def _measure(trial: Trial) -> Findings:
    groups, draws = 10, trial.pick(quick=300_000, normal=2_000_000)
    counts = np.array([_positive(draws, trial.torch("matrices", i)) for i in range(groups)]).T
    shares = [share(int(row.sum()), groups * draws) for row in counts]
    bends = _bends(counts, draws)
    checks: list[Check] = [covers("P(all positive), n = 2", shares[1], TWO)]
    checks += [
        at_most(f"P(all positive), n = {n}", found, 2.0**-n) for n, found in zip(SIZES, shares, strict=True) if n > 1
    ]
    checks += [
        below(f"bend of ln P at n = {n}", bend, claimed=f"{-2 * DECAY:.3f} in the limit")
        for n, bend in zip(SIZES[1:-1], bends, strict=True)
    ]
    checks.append(reported(f"2^-n over P, n = {SIZES[-1]}", 2.0 ** -SIZES[-1] / shares[-1].value))
    checks.append(reported("P(all positive), n = 1", shares[0], claimed=0.5))
    rows = [
        (n, f"{2.0**-n:.4g}", str(found), f"{2.0**-n / found.value:.3g}")
        for n, found in zip(SIZES, shares, strict=True)
    ]
    table = Table("Probability that a random symmetric n x n matrix has no negative eigenvalue",
                  ("n", "deck and book: n coins, 2^-n", "measured", "times as rare as said"), rows)  # fmt: skip
    return Findings(checks, [_figure(shares)], [table], NOTES)


def _figure(shares: list[Estimate]) -> Figure:
    values, low, high = ([getattr(s, name) for s in shares] for name in ("value", "low", "high"))
    scaled = [values[-1] * math.exp(-DECAY * (n**2 - SIZES[-1] ** 2)) for n in SIZES]
    series = [
        Series("measured", SIZES, values, low, high, kind="both"),
        Series("coins: 2^-n", SIZES, [2.0**-n for n in SIZES]),
        Series("exp(-n² ln 3 / 4), through n = 5", SIZES, scaled, kind="reference"),
    ]
    caption = "The chance that all eigenvalues are positive falls ever faster on a logarithmic scale; that of n coins "
    caption += "falls along a straight line."
    return Figure(caption, [Panel("size n of the matrix", "probability", series, log="y")])


NOTES = (
    "Eigenvalues of a symmetric matrix are no independent coins: they repel each other, so that n positive ones are "
    "pressed together on a half-line. Dean & Majumdar (2006) find a probability of about exp(-n² ln 3 / 4) for large "
    "n: not exponentially but super-exponentially rare.",
    "The coin is offered as an intuition by the book (sec. 8.2.3), and it errs on the careful side: for this matrix "
    "its conclusion holds more strongly than it says. The deck repeats it without the word intuition.",
    "The Hessian of a network is no such matrix, and at low cost its eigenvalues are more often positive: see "
    "index-rises-with-loss.",
    "The bend of ln P, its second difference in n, is that of the limit law, -ln 3 / 2, already at these sizes; coins "
    "would give 0.",
)

claim = Claim(
    slide=(16,),
    kind="EXACT",
    statement="The signs of a Hessian's eigenvalues are like tosses of a coin, so that all n are positive with "
    "probability 2^-n.",
    source="The deck, slide 16, and Goodfellow, Bengio & Courville 2016, sec. 8.2.3, against Dean & Majumdar 2006 "
    "(Phys. Rev. Lett. 97, 160201; arXiv:cond-mat/0609651)",
    equation="coins: P = 2^-n;   Gaussian orthogonal ensemble: P ~ exp(-n² ln 3 / 4), and P(2) = (2 - √2)/4",
    claimed="for random symmetric matrices P <= 2^-n, with ln P concave in n, and P(2) = 0.1464",
    setting="Symmetric matrices with independent normal entries, n = 1 to 5, 2·10⁷ draws in ten "
    "groups (quick: 3·10⁶); positive definite where Cholesky's factor exists.",
    measure=_measure,
    seconds=4,
    disagreement="D8",
    holds="SOURCE DOES NOT SAY IT",
    because="The deck and the book take the toss of a coin for each eigenvalue's sign as an image; the theory of "
    "random matrices (Dean & Majumdar 2006) has exp(-n² ln 3 / 4), far rarer than 2^-n, since eigenvalues repel each "
    "other.",
)
