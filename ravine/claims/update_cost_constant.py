"""Slide 22: the cost of an update of SGD does not grow with the number of training examples."""

from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_least, between, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.optimizer import Optimizer
from ravine.racing.estimate import mean, slope
from ravine.rules import SGD

D, BATCH = 32, 64


def _net(chance: torch.Generator) -> nn.Module:
    net = nn.Sequential(nn.Linear(D, 64), nn.ReLU(), nn.Linear(64, 1))
    for part in net.parameters():
        part.data = torch.randn(part.shape, generator=chance) / part.shape[-1] ** 0.5
    return net


def _updates(size: int, trial: Trial) -> tuple[Callable[[], None], Callable[[], None]]:
    """An update of SGD, and one of gradient descent on everything, for a training set of that size."""
    x = torch.randn(size, D, generator=trial.torch("x", size))
    y = x[:, :1].sin()
    net, drawn = _net(trial.torch("net")), trial.torch("minibatches", size)
    optimizer = Optimizer(list(net.parameters()), SGD(), lr=1e-3)

    def update(inputs: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(F.mse_loss(net(inputs), labels))
        optimizer.step()

    def minibatch() -> None:
        rows = torch.randint(size, (BATCH,), generator=drawn)
        update(x[rows], y[rows])

    return minibatch, lambda: update(x, y)


def _seconds(update: Callable[[], None], times: int) -> float:
    start = perf_counter()
    for _ in range(times):
        update()
    return (perf_counter() - start) / times


def _measure(trial: Trial) -> Findings:
    sizes = trial.pick(quick=(1000, 10_000, 100_000), normal=(1000, 10_000, 100_000, 1_000_000))
    both = {size: _updates(size, trial) for size in sizes}
    repeats, times = trial.pick(quick=5, normal=9), trial.pick(quick=100, normal=300)
    for minibatch, _ in both.values():
        _seconds(minibatch, 20)
    stochastic = np.array([[_seconds(both[size][0], times) for size in sizes] for _ in range(repeats)])
    whole = np.array([[_seconds(both[size][1], 1) for size in sizes] for _ in range(trial.pick(quick=2, normal=3))])
    middle = np.median(stochastic, 0)
    checks = [
        between("slope of log time on log N, medians of an update of SGD", slope(sizes, middle), -0.05, 0.05,
                claimed=0),
        at_least("the same of an update on all examples: the control", slope(sizes, np.median(whole, 0)), 0.5,
                 claimed="towards 1"),
        reported("slope for SGD, mean over the repeats", mean([slope(sizes, row).value for row in stochastic])),
        reported(f"time of an update on all {sizes[-1]:,} examples / of SGD", np.median(whole, 0)[-1] / middle[-1]),
    ]  # fmt: skip
    rows = [
        (f"{size:,}", f"{1e6 * fast:.0f}", f"{1e6 * slow:,.0f}")
        for size, fast, slow in zip(sizes, middle, np.median(whole, 0), strict=True)
    ]
    table = Table("Medians", ("N", f"update on {BATCH} examples (µs)", "update on all (µs)"), rows)
    series = [
        Series(f"SGD, {BATCH} examples", sizes, middle, stochastic.min(0), stochastic.max(0), kind="both"),
        Series("gradient descent, all", sizes, np.median(whole, 0), whole.min(0), whole.max(0), kind="both"),
    ]
    caption = "Time of an update by the size of the training set: medians; band: from the fastest to the slowest."
    panel = Panel("training examples N", "time of an update (s)", series, log="xy")
    return Findings(checks, [Figure(caption, [panel])], [table], [
        "An update fetches 64 rows wherever they lie; what can still grow is the time to reach into a larger memory.",
    ])  # fmt: skip


claim = Claim(
    slide=(22,),
    kind="RATE",
    statement="The cost of an update of SGD does not grow with the number of training examples.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.3.1, beside algorithm 8.1",
    claimed="time of an update as N to the power 0 (-0.05 to 0.05), for N from 10³ to 10⁶",
    setting=f"Random regression data of {D} features, a net 32-64-1, minibatches of {BATCH} drawn at random, ravine's "
    "SGD, float32, one thread; medians of 9 interleaved repeats of 300 updates. Control: updates on all examples.",
    alone=True,
    measure=_measure,
    seconds=10,
)
