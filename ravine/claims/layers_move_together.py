"""Slide 51: a step that moves all layers at once changes the output in all orders up to the number of layers."""

import math

from ravine.claims._chain import DEPTHS, FIXED, WEIGHTS, foretold, moved, orders
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_most, reported, within
from ravine.core.figure import Figure, Panel, Series


def _measure(_: Trial) -> Findings:
    checks, rows = [], []
    for depth in DEPTHS:
        for weight in WEIGHTS:
            y, actual = weight**depth, moved(depth, weight, FIXED)
            closed = y * ((1 - FIXED * y / weight**2) ** depth - 1)
            scale = max(abs(closed), y)  # a difference of two numbers of that size
            checks.append(
                at_most(
                    f"|change - closed form| / size, w = {weight}, l = {depth}", abs(actual - closed) / scale, 1e-12
                )
            )
            terms = orders(depth, weight, FIXED)
            largest = max(range(depth), key=lambda k: abs(terms[k])) + 1
            rows.append((weight, depth, f"{actual:.4g}", f"{foretold(depth, weight, FIXED):.4g}", largest))
    checks.append(within("orders that a chain of 32 layers has", len(orders(32, 1.3, FIXED)), 32, tol=0))
    summed = math.fsum(orders(16, 1.3, FIXED))
    checks.append(within("their sum over the change, w = 1.3, l = 16", summed / moved(16, 1.3, FIXED), 1, rel=1e-9))
    checks += [reported(f"terms of order {k} among 32 layers", math.comb(32, k)) for k in (1, 2, 3, 16)]
    columns = ("w", "layers l", "change of y", "first order alone", "largest order")
    table = Table(f"One step with learning rate {FIXED} on y = w^l", columns, rows)
    return Findings(checks, [_figure()], [table], NOTES)


def _figure() -> Figure:
    series = []
    for depth in (8, 16, 32):
        terms = [abs(x) for x in orders(depth, 1.2, FIXED)]
        series.append(Series(f"l = {depth}", list(range(1, depth + 1)), terms))
    caption = "How much each order adds to the change of y = 1.2^l in one step: of 32 layers the 6th most."
    return Figure(caption, [Panel("order", "size of its terms", series, log="y")])


NOTES = (
    "A method of second order takes two of the orders into account, at the cost of l(l - 1)/2 numbers more; one of "
    "order k takes C(l, k): 601,080,390 for the 16th order among 32 layers.",
)

claim = Claim(
    slide=(51,),
    kind="EXACT",
    statement="The gradient says how the output changes when one layer moves and the others stand still; a step that "
    "moves all of l layers has effects of every order up to l.",
    source="Kan Ren's slides, slide 51; Goodfellow, Bengio & Courville 2016, sec. 8.7.1, eq. 8.34",
    equation="y = x w₁ w₂ ... w_l;   Δy = y ((1 - εy/w²)^l - 1) = Σ_k C(l, k) y (-εy/w²)^k for equal weights",
    claimed="the change equals the closed form, whose terms have the orders 1 to l",
    setting="Chains of 2 to 32 layers of one unit, equal weights of 0.8, 1 and 1.3, one step of gradient descent on y, "
    "ε = 0.001, float64.",
    measure=_measure,
    seconds=1,
)
