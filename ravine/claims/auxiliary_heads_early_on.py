"""Slide 60, D12: whether auxiliary heads speed up the beginning in networks that train well without them."""

import math

import numpy as np
from torch import Tensor

from ravine.claims._deep_nets import Deep, arms, batches, entropies, gradient
from ravine.claims._stacked import Data, digits
from ravine.claims._walk import walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Role, inside, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean, ratio
from ravine.rules import Momentum

DEPTH, BATCH, WEIGHT, HEADS = 20, 32, 0.3, (5, 10, 15)
LRS = (0.003, 0.01, 0.03, 0.1)
LEVEL, WINDOW = math.log(10) / 2, 20  # half the loss of guessing; averaged over so many updates
NETS = {
    "ReLU with batch normalization": Deep(DEPTH, norm=True, heads=HEADS),
    "ReLU alone": Deep(DEPTH, heads=HEADS),
    "ReLU with skips": Deep(DEPTH, skip="residual", heads=HEADS),
}


def _curve(trial: Trial, net: Deep, heads: int, data: Data, copies: int, steps: int) -> tuple[np.ndarray, float]:
    """The last output's minibatch loss (steps, copies) at the best learning rate; and which that is."""
    lrs = trial.pick(quick=LRS[1:3], normal=LRS)
    start, lr = arms(net.start([trial.torch("start", i) for i in range(copies)], "he"), lrs)
    draw = batches(*data, BATCH, [trial.torch("batches", i) for i in range(copies)], len(lrs))
    line = []

    def losses(w: Tensor) -> Tensor:
        x, y = draw()
        hidden = net.hidden(w, x)
        own = entropies(net.answered(w, hidden), y)
        line.append(own.detach())
        return own + WEIGHT * sum(entropies(net.predicted(w, hidden, i), y) for i in range(heads))

    for k, _ in enumerate(walk(Momentum(0.9), gradient(losses), start, lr)):
        if k == steps:
            break
    found = np.nan_to_num(np.stack([one.numpy() for one in line]), nan=np.inf).reshape(steps, -1, copies)
    at = int(found[-WINDOW:].mean((0, 2)).argmin())
    return found[:, at].astype(np.float64), lrs[at]


def _measure(trial: Trial) -> Findings:
    copies, steps = trial.pick(quick=3, normal=6, full=20), trial.pick(quick=60, normal=600, full=1000)
    images, labels = digits(trial.torch("digits"), 1297)[0]
    data = images.float(), labels
    checks, rows, panels = [], [], []
    for name, net in NETS.items():
        curves = {way: _curve(trial, net, n, data, copies, steps) for way, n in (("with heads", 3), ("without", 0))}
        (headed, _), (plain, _) = curves["with heads"], curves["without"]
        role: Role = "claim" if net.norm else "condition"
        what = f"{name}: updates to half the loss of guessing, with heads over without"
        checks += [
            inside(what, ratio(list(_updates(headed) / _updates(plain)), 0.9), 0.9, 1.1,
                   claimed="1: no improved convergence early in the training", role=role),
            reported(f"{name}: mean loss of the first fifth, with heads over without",
                     ratio(list(headed[: steps // 5].mean(0) / plain[: steps // 5].mean(0)))),
            reported(f"{name}: the same of the last {WINDOW} updates",
                     ratio(list(headed[-WINDOW:].mean(0) / plain[-WINDOW:].mean(0)))),
        ]  # fmt: skip
        rows += [(name, way, lr, str(mean(list(_updates(c)))), str(mean(list(c[-WINDOW:].mean(0)))))
                 for way, (c, lr) in curves.items()]  # fmt: skip
        panels.append(
            Panel("updates", "minibatch loss / nats", [_series(way, c) for way, (c, _) in curves.items()], name)
        )
    columns = (
        "network",
        "training",
        "learning rate",
        "updates to half the loss of guessing",
        f"loss of the last {WINDOW}",
    )
    table = Table(f"Loss of the last output, means with 95 % intervals of {copies} copies", columns, rows)
    said = Table("Who says what of auxiliary heads", ("who", "says"), SAID)
    caption = (
        f"The last output's loss, means of {copies} copies in 20 parts of the way, each way at its best learning rate."
    )
    return Findings(checks, [Figure(caption, panels)], [said, table], NOTES)


def _updates(curve: np.ndarray) -> np.ndarray:
    """After how many updates the mean over a window falls to the level, for each copy; all of them where never."""
    sums = np.cumsum(np.concatenate([np.zeros((1, curve.shape[1])), curve]), 0)
    there = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW <= LEVEL
    return np.where(there.any(0), there.argmax(0) + WINDOW, len(curve)).astype(float)


def _series(name: str, curve: np.ndarray) -> Series:
    parts = np.array_split(np.arange(len(curve)), 20)
    return Series(name, [part.mean() for part in parts], [curve[part].mean() for part in parts])


SAID = (
    ("the deck and the book, sec. 8.7.5", "they make sure that lower layers receive a large gradient"),
    ("Szegedy et al. 2014, sec. 5", "they increase the gradient signal and regularize"),
    ("Szegedy et al. 2015, sec. 4", "they did not improve convergence early in the training; they act as regularizers"),
)

NOTES = (
    "The two do not contradict each other where gradients vanish, see auxiliary-heads: what is claimed here is of "
    "networks that train well as they are.",
    "With normalization alone twenty layers are not easy to train, and heads about halve the updates, for the reason "
    "that the deck gives. With skips, which train well as they are, heads cost time.",
    "An equivalence of 10 % is asked for, with an interval of 90 %, which is two one-sided tests at 5 %.",
    "The heads' gradients also add to those of the layers below them, which acts like a larger learning rate there; so "
    "each way has the best of four learning rates by its loss at the end.",
)

claim = Claim(
    slide=(60,),
    kind="ARCH",
    statement="Auxiliary heads do not speed up the beginning of training in a deep network that trains well without "
    "them (the finding of the group that had introduced them, against the reason given for them).",
    source="Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2015 (arXiv:1512.00567), sec. 4; against Goodfellow, Bengio & "
    "Courville 2016, sec. 8.7.5, and Szegedy et al. 2014 (arXiv:1409.4842), sec. 5",
    claimed="updates to half the loss of guessing within 10 % of those without heads",
    setting="20 layers of 24 rectified units (He et al. 2015), normalized over the batch; without that, and with skips "
    "instead, as conditions; "
    "heads of weight 0.3 behind layers 5, 10 and 15; 1,297 digits, SGD with momentum 0.9 at the best of 4 learning "
    "rates, 600 minibatches of 32; 6 copies.",
    disagreement="D12",
    measure=_measure,
    seconds=37,
    changed="First the mean loss over the first fifth of 400 updates was to be within 10 %: it was (0.993), but in "
    "that time neither way had learnt anything, its loss being near that of guessing. Updates to half of that are what "
    "is compared now.",
)
