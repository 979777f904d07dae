"""Slides 48 and 49: BFGS stores n² numbers; L-BFGS stores 2 m n."""

import torch

from ravine.claims._solving import Walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.errors import RavineError
from ravine.core.evidence import Check, at_most, within
from ravine.core.figure import Figure, Panel, Series
from ravine.solvers.base import DENSE_MOST

HISTORIES = (3, 10, 20)


def _bytes(spec: str, n: int, steps: int) -> int:
    """What a solver holds from one step to the next, after so many steps on a quadratic of n numbers, float64."""
    curvature = torch.logspace(0, -2, n, dtype=torch.float64)
    walk = Walk(lambda x: (curvature * x * x).sum() / 2, torch.ones(n, dtype=torch.float64), spec)
    for _ in zip(range(steps + 1), walk, strict=False):
        pass
    return sum(v.untyped_storage().nbytes() for v in walk.memory.values() if isinstance(v, torch.Tensor))


def _refused(n: int) -> bool:
    try:
        Walk(lambda x: x @ x, torch.ones(n, dtype=torch.float64), "bfgs").method.check_size(n)
    except RavineError:
        return True
    return False


def _measure(trial: Trial) -> Findings:
    sizes, large = trial.pick(quick=(100, 400), normal=(100, 400, 1600)), trial.pick(quick=10_000, normal=1_000_000)
    dense = {n: _bytes("bfgs", n, 3) for n in sizes}
    limited = {(m, n): _bytes(f"lbfgs(history={m})", n, m + 2) for m in HISTORIES for n in (*sizes, large)}
    small = {m: 4 * m * m * 8 for m in HISTORIES}  # the pairs' inner products, whatever n is
    checks: list[Check] = [
        within("bytes of BFGS less 8 n²: largest", max(abs(b - 8 * n * n) for n, b in dense.items()), 0, tol=0),
        within("bytes of L-BFGS less 8 (2 m n + 4 m²): largest",
               max(abs(b - 16 * m * n - small[m]) for (m, n), b in limited.items()), 0, tol=0),
        at_most(f"share of the 4 m² at n = {large:,}, m = 10", small[10] / limited[10, large], 1e-2),
        within(f"ravine's bfgs is refused at n = {large:,} (1: yes)", float(_refused(large)), 1, tol=0),
    ]  # fmt: skip
    rows = [(f"{n:,}", f"{8e-6 * n * n:,.3g}", *(f"{16e-6 * m * n:,.3g}" for m in HISTORIES))
            for n in (100, 10_000, 842_340, 1_000_000)]  # fmt: skip
    table = Table("MB in float64", ("n", "BFGS", *(f"L-BFGS, m = {m}" for m in HISTORIES)), rows)
    curves = [Series("BFGS", list(dense), list(dense.values()), kind="both")]
    curves += [Series(f"L-BFGS, m = {m}", [*sizes, large], [limited[m, n] for n in (*sizes, large)], kind="both")
               for m in HISTORIES]  # fmt: skip
    curves.append(Series("8 n²", [sizes[0], large], [8 * sizes[0] ** 2, 8 * large**2], kind="reference"))
    caption = "Memory that a solver keeps between steps, measured."
    return Findings(checks, [Figure(caption, [Panel("parameters n", "bytes", curves, log="xy")])], [table], [
        "ravine's L-BFGS also keeps the inner products of its 2 m vectors, 4 m² numbers, from which it makes the step.",
        f"ravine's bfgs is for at most {DENSE_MOST:,} parameters.",
    ])  # fmt: skip


claim = Claim(
    slide=(48, 49),
    kind="EXACT",
    statement="BFGS must store the n x n matrix M, which rules it out for most deep nets; L-BFGS avoids it by storing "
    "some of the vectors instead, O(n) for each step kept.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.6.3; Nocedal & Wright 2006, sec. 7.2",
    equation="BFGS: 8 n² bytes;   L-BFGS with m pairs: 8 · 2 m n bytes",
    claimed="n = 1e6: 8 TB against 160 MB with m = 10",
    setting="ravine's bfgs and lbfgs on diagonal quadratics in float64, after enough steps to fill their memory; the "
    "storage of all tensors that they keep.",
    measure=_measure,
    seconds=8,
)
