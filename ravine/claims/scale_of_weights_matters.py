"""Slide 31: the scale of the initial weights: too small loses the signal, too large saturates."""

import numpy as np
import torch
from torch import Tensor

from ravine.claims._deep import passes, scaled, widened
from ravine.claims._stacked import cross_entropy, digits, errors, networks, outputs
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, above, at_least, at_most
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean

WIDTHS = (64, *[64] * 6, 10)
SCALES = (1e-3, 0.1, 1.0, 3.0, 10.0)
RATES = (0.01, 0.03, 0.1, 0.3)


def _start(trial: Trial, scale: float, seeds: int) -> list[Tensor]:
    return scaled(networks(WIDTHS, seeds, trial.torch("init"), gain=1.0), scale)


def _signals(parts: list[Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Share of saturated hidden units, |h| > 0.99, and the norm of the weights' gradient, by layer and copy."""
    parts = widened(parts, 1, torch.float64)
    gradients = torch.autograd.grad(cross_entropy(outputs(parts, x, torch.tanh), y).sum(), parts[::2])
    h, shares = x, []
    for weight in parts[:-2:2]:
        h = torch.tanh(h @ weight.detach())
        shares.append((h.abs() > 0.99).double().mean((1, 2)))
    return torch.stack(shares), torch.stack([g.flatten(1).norm(dim=1) for g in gradients])


def _accuracy(trial: Trial, scale: float, seeds: int, epochs: int) -> np.ndarray:
    """Test accuracy (%) of every seed at the rate that is best for this scale on average."""
    (x, y), (a, b) = digits(trial.torch("data"), 1000, 797)
    parts, lr = widened(_start(trial, scale, seeds), len(RATES)), torch.tensor(RATES).repeat(seeds)
    for _ in passes(
        parts,
        lambda p, u, v: cross_entropy(outputs(p, u, torch.tanh), v),
        (x.float(), y),
        lr,
        batch=50,
        epochs=epochs,
        chance=trial.torch("order"),
        orders=seeds,
    ):
        pass
    with torch.no_grad():
        found = 100 * (1 - errors(outputs(parts, a.float(), torch.tanh).nan_to_num(), b)).view(seeds, -1)
    return found[:, found.mean(0).argmax()].numpy()


def _measure(trial: Trial) -> Findings:
    seeds, epochs = trial.pick(quick=3, normal=5), trial.pick(quick=5, normal=15)
    x, y = digits(trial.torch("data"), 1000)[0]
    signals = {scale: _signals(_start(trial, scale, seeds), x, y) for scale in SCALES}
    accuracy = {scale: mean(_accuracy(trial, scale, seeds, epochs).tolist()) for scale in SCALES}
    values = [accuracy[scale].value for scale in SCALES]
    worst = SCALES[int(np.argmin(values))]
    faded = signals[0.1][1][0] / signals[1.0][1][0]
    checks: list[Check] = [
        at_least("test accuracy, best scale - worst (points)", max(values) - min(values), 20),
        at_least("share of saturated hidden units, scale 10", float(signals[10.0][0].mean()), 0.5),
        at_most("gradient of the first layer, scale 0.1 over scale 1", float(faded.max()), 1e-3),
        above("test accuracy at scale 1 (%)", accuracy[1.0], accuracy[worst].value + 20),
    ]
    rows = [
        (f"{s:g}", str(accuracy[s]), f"{float(signals[s][0].mean()):.3g}", f"{float(signals[s][1][0].median()):.3g}")
        for s in SCALES
    ]
    table = Table(
        "At the start, and after training",
        ("scale", "test accuracy (%)", "share saturated", "first layer's gradient norm"),
        rows,
    )
    layers = range(1, len(WIDTHS))
    middles = {s: signals[s][1].median(1).values.clamp(min=1e-30).tolist() for s in SCALES}
    gradients = [Series(f"scale {s:g}", layers, middles[s]) for s in SCALES]
    low, high = ([getattr(accuracy[s], k) for s in SCALES] for k in ("low", "high"))
    panels = [
        Panel(
            "scale of the weights",
            "test accuracy (%)",
            [Series("mean, 95 %", SCALES, values, low, high, "both")],
            log="x",
        ),
        Panel("layer", "norm of the weights' gradient at the start", gradients, log="y"),
    ]
    caption = "A tanh net of six hidden layers: what it learns, and the gradients at its start."
    return Findings(checks, [Figure(caption, panels)], [table], NOTES)


NOTES = (
    "Scale 1 is a variance of 1/fan-in, which keeps the size of small signals. At a tenth every layer loses a factor "
    "of ten forward and another backward, so that the first layer's gradient is a millionth.",
    "Large weights do not make the gradient small here: units are saturated, but what passes is multiplied by large "
    "weights. The net has to undo a random function first.",
)

claim = Claim(
    slide=(31,),
    kind="ARCH",
    statement="The scale of the initial weights has a large effect: larger weights break symmetry more and lose less "
    "signal; too large ones explode or saturate the units.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.4",
    claimed="20 points of accuracy between scales; half of the units saturated at ten times 1/√fan-in, and a "
    "thousandth of the gradient at a tenth",
    setting="MLP 64-64x6-10 (tanh, float32; signals in float64) on 1,000 digits, tested on 797; SGD, batches of 50, 15 "
    "passes (quick: 5), the best of four learning rates for each scale, 5 seeds (quick: 3).",
    measure=_measure,
    seconds=14,
)
