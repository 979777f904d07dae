"""Slide 11: examples must come in random order; to shuffle them once is as good as to shuffle them for every pass."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ravine.claims._replicas import HIDDEN, Split, accuracies, descend, entropies, nets, shuffles, splits
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_least, inside, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean

TRAIN, BATCH, LR = 1000, 10, 0.1
Order = Callable[[int], Tensor]
"""Of a pass: the order of its examples for every copy, (S, TRAIN)."""


def _train(data: Split, trial: Trial, passes: int, order: Order) -> np.ndarray:
    """Test accuracy (%) after every pass, of every copy: (passes, S)."""
    count = len(data.train[1])
    net = [part.detach().float().requires_grad_() for part in nets(count, 64, HIDDEN, 10, trial.torch("start"))]
    lr, rows, found = torch.full((count,), LR), torch.arange(count)[:, None], []
    for one in range(passes):
        for part in torch.split(order(one), BATCH, 1):
            descend(net, entropies(net, data.train[0][rows, part], data.train[1][rows, part]), lr)
        found.append(100 * accuracies(net, *data.test).numpy())
    return np.array(found)


def _measure(trial: Trial) -> Findings:
    count, passes = trial.pick(quick=12, normal=40), trial.pick(quick=8, normal=20)
    data = splits(count, TRAIN, 0, trial.numpy("splits"))
    by_class = data.train[1].argsort(dim=1, stable=True)
    once = shuffles(count, TRAIN, trial.numpy("once"))
    found = {
        "sorted by class": _train(data, trial, passes, lambda one: by_class),
        "shuffled once": _train(data, trial, passes, lambda one: once),
        "shuffled for every pass": _train(
            data, trial, passes, lambda one: once if one == 0 else shuffles(count, TRAIN, trial.numpy("anew", one))
        ),
    }
    lost = found["shuffled once"] - found["sorted by class"]
    apart = found["shuffled once"][-1] - found["shuffled for every pass"][-1]
    checks = [
        at_least("accuracy lost by sorted order in one pass (points)", mean(lost[0].tolist()), 20),
        inside(f"shuffled once minus for every pass, after {passes} passes (points)", mean(apart.tolist(), 0.9), -1, 1),
        reported(f"accuracy lost by sorted order after {passes} passes (points)", mean(lost[-1].tolist())),
    ]
    rows = [(name, *(str(mean(each[one].tolist())) for one in (0, passes - 1))) for name, each in found.items()]
    table = Table("Test accuracy (%)", ("order", "after 1 pass", f"after {passes} passes"), rows)
    series = []
    for name, each in found.items():
        around = [mean(row.tolist()) for row in each]
        series.append(Series(name, range(1, passes + 1), [m.value for m in around], [m.low for m in around],
                             [m.high for m in around], kind="both"))  # fmt: skip
    caption = "Test accuracy after every pass: with the classes one after the other, the last are known best."
    return Findings(checks, [Figure(caption, [Panel("pass", "test accuracy (%)", series)])], [table])


claim = Claim(
    slide=(11,),
    kind="STAT",
    statement="Minibatches must be drawn at random, so examples in a meaningful order must be shuffled. To shuffle "
    "once and keep that order for every pass is enough.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.1.3",
    claimed="digits sorted by class: one pass loses 20 points or more; shuffled once or for every pass: within 1 point",
    setting=f"{TRAIN:,} digits to train on and 797 to test, 40 random splits; 32 tanh units, plain SGD, learning rate "
    f"{LR}, minibatches of {BATCH}, float32, 20 passes; the three orders from the same starts.",
    measure=_measure,
    seconds=9,
)
