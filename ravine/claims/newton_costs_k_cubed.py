"""Slide 45: a Newton step solves a k x k system: k³ operations, and k² numbers to store."""

from time import perf_counter

import numpy as np
import torch

from ravine.claims._solving import normal
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import between, reported, within
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean, slope


def _seconds(h: torch.Tensor, g: torch.Tensor) -> float:
    start = perf_counter()
    torch.linalg.solve(h, g)
    return perf_counter() - start


def _measure(trial: Trial) -> Findings:
    sizes = trial.pick(quick=(500, 707, 1000, 1414), normal=(500, 707, 1000, 1414, 2000, 2828, 4000))
    repeats = trial.pick(quick=3, normal=4)
    systems = {}
    for k in sizes:
        root = torch.randn(k, k, generator=trial.torch("root", k), dtype=torch.float64)
        systems[k] = (root + root.T + 4 * k**0.5 * torch.eye(k, dtype=torch.float64), normal(k, trial.torch("g", k)))
    _seconds(*systems[sizes[0]])
    times = np.array([[_seconds(*systems[k]) for k in sizes] for _ in range(repeats)])
    middle = np.median(times, 0)
    stored = max(abs(h.untyped_storage().nbytes() - 8 * k * k) for k, (h, _) in systems.items())
    checks = [
        between("slope of log time on log k, medians", slope(sizes, middle), 2.3, 3.3, claimed=3),
        within("bytes of the Hessian less 8 k²: largest", stored, 0, tol=0),
        reported("slope, mean over the repeats", mean([slope(sizes, row).value for row in times]), claimed=3),
        reported(f"slope between the two largest, k = {sizes[-2]} and {sizes[-1]}",
                 float(np.log(middle[-1] / middle[-2]) / np.log(sizes[-1] / sizes[-2])), claimed=3),
    ]  # fmt: skip
    rows = [(f"{k:,}", f"{1e3 * t:.3g}", f"{8e-6 * k * k:,.0f}") for k, t in zip(sizes, middle, strict=True)]
    last = (sizes[-1], float(middle[-1]))
    rows += [(f"{k:,} (foretold)", f"{1e3 * last[1] * (k / last[0]) ** 3:.2g}", f"{8e-6 * k * k:.2g}")
             for k in (842_340, 10**8)]  # fmt: skip
    table = Table("One system", ("k", "time to solve (ms)", "Hessian in float64 (MB)"), rows)
    curves = [
        Series("solve", sizes, middle, times.min(0), times.max(0), kind="both"),
        Series("∝ k³", sizes, [last[1] * (k / last[0]) ** 3 for k in sizes], kind="reference"),
    ]
    caption = "Time to solve H d = -g by the number of parameters: medians; band: from the fastest to the slowest."
    panel = Panel("parameters k", "time (s)", curves, log="xy")
    return Findings(checks, [Figure(caption, [panel])], [table], [
        "The time of the k products that the Hessian itself takes is not in it.",
        "842,340 parameters has the deep autoencoder of CURVES that other claims train.",
    ])  # fmt: skip


claim = Claim(
    slide=(45,),
    kind="RATE",
    statement="Newton's method inverts a k x k matrix, or solves a system with it, at every step, which costs O(k³), "
    "and stores k² numbers: only nets with few parameters can be trained with it.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.6.1",
    claimed="time to the power 3 of k (2.3 to 3.3), 8 k² bytes in float64",
    setting="Symmetric positive definite systems of 500 to 4,000 numbers, float64, LU factorization (torch), one "
    "thread; medians of 4 interleaved repeats.",
    alone=True,
    measure=_measure,
    seconds=20,
)
