"""Slide 51, against the book's own example: with its learning rate large weights make the step better, not worse."""

from collections.abc import Callable

from ravine.claims._chain import FIXED, book_lr, foretold, moved
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_least, at_most, reported
from ravine.core.figure import Figure, Panel, Series

DEPTH, LARGE, SMALL = 32, 1.3, 0.8
GRID = [0.8 + 0.01 * i for i in range(51)]  # of weights, that are drawn


def _off(depth: int, weight: float, lr: float) -> float:
    """How far the change of y is from what the first order foretells, over that."""
    told = foretold(depth, weight, lr)
    return abs(moved(depth, weight, lr) - told) / abs(told)


def _measure(_: Trial) -> Findings:
    fixed, book = _off(DEPTH, LARGE, FIXED), _off(DEPTH, LARGE, book_lr(DEPTH, LARGE))
    checks = [
        at_least(f"error of the first order, w = {LARGE}, l = {DEPTH}, ε = {FIXED}", fixed, 1.0, claimed="large"),
        at_most(f"the same at w = 1, ε = {FIXED}", _off(DEPTH, 1.0, FIXED), 0.1, claimed="small"),
        at_least(f"the same at w = {LARGE}, ε = 0.1/g'g", book, 1.0, claimed="large", role="condition"),
        reported(f"the same at w = {SMALL}, ε = 0.1/g'g", _off(DEPTH, SMALL, book_lr(DEPTH, SMALL)), claimed="small"),
        reported(f"change of y at w = {LARGE}, ε = 0.1/g'g", moved(DEPTH, LARGE, book_lr(DEPTH, LARGE)), claimed=-0.1),
    ]
    rows = []
    for weight in (SMALL, 1.0, LARGE):
        for name, lr in (("0.1/g'g", book_lr(DEPTH, weight)), (str(FIXED), FIXED)):
            told, actual = foretold(DEPTH, weight, lr), moved(DEPTH, weight, lr)
            rows.append((weight, name, f"{lr:.3g}", f"{told:.4g}", f"{actual:.4g}"))
    columns = ("w", "learning rate", "that is", "foretold by the first order", "change of y")
    return Findings(checks, [_figure()], [Table(f"A step on a chain of {DEPTH} layers", columns, rows)], NOTES)


def _figure() -> Figure:
    def line(name: str, lr: Callable[[float], float]) -> Series:
        return Series(name, GRID, [max(_off(DEPTH, w, lr(w)), 1e-16) for w in GRID])

    series = [line("ε = 0.1/g'g, the book's", lambda w: book_lr(DEPTH, w)), line(f"ε = {FIXED}", lambda _: FIXED)]
    caption = "How wrong the first order is for 32 layers: with the book's learning rate where weights are small."
    return Figure(caption, [Panel("weight of every layer", "error / foretold", series, log="y")])


NOTES = (
    "The book takes ε = 0.1/g'g, of which the first order foretells a fall of 0.1, and says that the terms of higher "
    "order may be exponentially large where weights are greater than 1. But g'g = l y²/w² grows with y², so that this "
    "ε vanishes where weights are large, and the terms of order k with it, as y^(1-k).",
    "With a learning rate that does not know y, which is how networks are trained, the text is right.",
)

claim = Claim(
    slide=(51,),
    kind="EXACT",
    statement="In a chain of layers with weights greater than 1, what a step does is not what the gradient foretells: "
    "terms of higher order are exponentially large.",
    source="Kan Ren's slides, slide 51; Goodfellow, Bengio & Courville 2016, sec. 8.7.1",
    equation="y = w^l,   Δy = y ((1 - εy/w²)^l - 1) against -ε g'g",
    claimed="for weights of 1.3 the error of the first order is as large as what it foretells, or larger; at a fixed "
    "learning rate, and (a condition) at the book's 0.1/g'g",
    setting="A chain of 32 layers of one unit, one step of gradient descent on y, float64.",
    disagreement="D10",
    measure=_measure,
    seconds=1,
)
