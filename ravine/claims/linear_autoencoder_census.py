"""Slide 16: all critical points of a linear autoencoder: one minimum, and saddles that cost more the more they bend."""

import math

import torch
from scipy import stats

from ravine.claims._autoencoder import Autoencoder, Choice, N, P, autoencoder, choices
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_least, at_most, reported, within
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean

SETS = sum(math.comb(N, r) for r in range(P + 1))


def _census(model: Autoencoder, generator: torch.Generator) -> list[tuple[Choice, float, int, float]]:
    """Of every set of critical points: the choice, and cost, index and length of the gradient at a random member."""
    places = torch.stack([model.point(choice, generator) for choice in choices()])
    costs, slopes, hessians = (torch.func.vmap(f)(places) for f in (model.cost, *model.derivatives()))
    values = torch.linalg.eigvalsh(hessians)
    indices = (values < -1e-9 * values.abs().amax(1, keepdim=True)).sum(1)
    return list(zip(choices(), costs.tolist(), indices.tolist(), slopes.norm(dim=1).tolist(), strict=True))


def _measure(trial: Trial) -> Findings:
    models = [autoencoder(trial.torch("data", i)) for i in range(20)]
    found = [_census(model, trial.torch("points", i)) for i, model in enumerate(models)]
    minima = [[choice for choice, _, index, _ in one if index == 0] for one in found]
    lowest = [min(one, key=lambda row: row[1])[0] for one in found]
    off = [
        (abs(cost - model.cost_of(choice)), index - model.index_of(choice), slope)
        for model, one in zip(models, found, strict=True)
        for choice, cost, index, slope in one
    ]
    ranks = [_correlation(one) for one in found]
    full = [_correlation([row for row in one if len(row[0]) == P]) for one in found]
    best = tuple(range(P))
    checks = [
        at_least("sets of critical points in a census, fewest", min(len(one) for one in found), SETS, claimed=SETS),
        at_most("largest ‖g‖ at one of them", max(slope for *_, slope in off), 1e-12),
        at_most("largest error of the cost foretold", max(cost for cost, *_ in off), 1e-12),
        within("largest error of the index foretold", max(abs(index) for _, index, _ in off), 0, tol=0),
        within("sets without a negative eigenvalue, most of any census", max(map(len, minima)), 1, tol=0),
        within("censuses in which that one costs least",
               sum(m == [best] and low == best for m, low in zip(minima, lowest, strict=True)), len(models), tol=0),
        at_least("Spearman's rank correlation of cost and index", mean(ranks), 0.95),
        at_least("the same, smallest of the censuses", min(ranks), 0.95, role="condition"),
        reported("the same among points of full rank", mean(full)),
    ]  # fmt: skip
    return Findings(checks, [_figure(found[0])], [_table(found[0])], NOTES)


def _correlation(rows: list[tuple[Choice, float, int, float]]) -> float:
    return float(stats.spearmanr([row[1] for row in rows], [row[2] for row in rows]).statistic)


def _figure(rows: list[tuple[Choice, float, int, float]]) -> Figure:
    series = [
        Series(f"{r} eigenvectors", [row[2] for row in rows if len(row[0]) == r],
               [row[1] for row in rows if len(row[0]) == r], kind="points")
        for r in range(P, -1, -1)
    ]  # fmt: skip
    caption = (
        "Every set of critical points of one linear autoencoder, by the number of eigenvectors it has learnt: the "
    )
    caption += "more directions lead down, the higher it lies."
    return Figure(caption, [Panel("negative eigenvalues of the Hessian", "cost", series)])


def _table(rows: list[tuple[Choice, float, int, float]]) -> Table:
    found = []
    for index in sorted({row[2] for row in rows}):
        costs = [row[1] for row in rows if row[2] == index]
        found.append((index, len(costs), f"{min(costs):.3g}", f"{max(costs):.3g}"))
    return Table("The first census by index", ("negative eigenvalues", "sets", "lowest cost", "highest cost"), found)


NOTES = (
    "The indices do not depend on the eigenvalues, the costs do, and so does their correlation: it is 0.999 for "
    "eigenvalues 6, 5, ..., 1 and 0.899 where each is half the one before, for these rules of cost and index.",
    "This is a network whose critical points can all be listed: it has no local minimum but the global ones, which are "
    "one connected set, principal component analysis in any basis. Everything else is a saddle.",
    "There is no maximum either: at zero weights, the highest critical point, half of the directions that bend lead "
    "up. "
    "The order minima < saddles < maxima is to be read as cost against the number of directions that lead down.",
)

claim = Claim(
    slide=(16,),
    kind="EXACT",
    statement="Local minima have low cost, and critical points of high cost are saddles: for autoencoders without "
    "nonlinearities there is nothing but global minima and saddles, and cost rises with the share of directions that "
    "lead down.",
    source="Baldi & Hornik 1989, Neural networks and principal component analysis; Goodfellow, Bengio & Courville "
    "2016, sec. 8.2.3",
    equation="J = ½ E‖x - ABx‖²;   at the choice I of eigenvectors J = ½ (tr Σ - sum of λ_i, i in I)",
    claimed=f"of {SETS} sets of critical points one has no negative eigenvalue, and it is the global minimum; rank "
    "correlation of cost and index at least 0.95",
    setting=f"n = {N} inputs, p = {P} units, sample covariances of {4 * N} normal points; a random member of every "
    "set; "
    "float64, dense Hessians of 36 x 36; 20 covariances.",
    measure=_measure,
    seconds=2,
)
