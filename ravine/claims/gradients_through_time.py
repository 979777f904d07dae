"""Slide 18: gradients through time grow or fade exponentially; with a new matrix in each layer they walk randomly."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ravine.claims._recurrent import growth
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import Check, above, below, between, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean, slope

SIZE, STEPS = 100, 100
NETS = ((0.5, 0.0), (0.9, 0.0), (1.5, 0.0), (3.0, 0.0), (1.5, 1.0))  # gain of W, standard deviation of the input
LENGTHS = (50, 100, 200, 400, 800)


def _spreads(shared: bool, nets: int, chance: torch.Generator) -> list[float]:
    """The standard deviation over nets of ln ‖W_T ... W_1 v‖, with the same W in every layer or a new one."""
    size, found = 20, []

    def draw() -> Tensor:
        drawn = torch.randn(nets, size, size, generator=chance)
        return drawn / math.sqrt(size)

    w, v, logs = draw(), torch.randn(nets, size, 1, generator=chance), torch.zeros(nets, dtype=torch.float64)
    for t in range(1, LENGTHS[-1] + 1):
        v = (w if shared else draw()) @ (v / v.norm(dim=1, keepdim=True))
        logs += v.norm(dim=1)[:, 0].double().log()
        if t in LENGTHS:
            found.append(float(logs.std()))
    return found


def _measure(trial: Trial) -> Findings:
    nets = trial.pick(quick=10, normal=30)
    checks: list[Check] = []
    series = []
    for gain, drive in NETS:
        logs, effective = growth(
            gain, nets, trial.torch("net", str(gain), str(drive)), size=SIZE, steps=STEPS, settle=100, drive=drive
        )
        rates = mean(((logs[:, -1] - logs[:, 9]) / (STEPS - 10)).tolist())
        name = f"W of gain {gain}" + (", random input" if drive else "")
        foretold = float(effective.mean())
        grows = foretold > 0
        claimed = f"{'>' if grows else '<'} 0, as ln ρ_eff = {foretold:.3f}"
        checks.append((above if grows else below)(f"ln-slope of the gradient in T, {name}", rates, claimed=claimed))
        series.append(Series(name, range(1, STEPS + 1), (logs.median(0).values / math.log(10)).tolist()))
    draws = trial.pick(quick=500, normal=2000)
    same, other = (_spreads(shared, draws, trial.torch("layers", int(shared))) for shared in (True, False))
    checks += [
        between("exponent of the spread in T, a new W in each layer", slope(LENGTHS, other), 0.45, 0.55, claimed=0.5),
        between("exponent of the spread in T, the same W", slope(LENGTHS[1:], same[1:]), 0.8, 1.2, claimed=1),
        reported("spread of ln ‖gradient‖ after 800 layers, new W each", other[-1], claimed=math.sqrt(800 / 40)),
        reported("spread of ln ‖gradient‖ after 800 layers, the same W", same[-1]),
    ]
    return Findings(checks, [_figure(series, same, other)], notes=NOTES)


def _figure(series: Sequence[Series], same: Sequence[float], other: Sequence[float]) -> Figure:
    spreads = [
        Series("the same W", LENGTHS, same, kind="both"),
        Series("a new W in each layer", LENGTHS, other, kind="both"),
        Series("(T/2N)^½", LENGTHS, np.sqrt(np.array(LENGTHS) / 40).tolist(), kind="reference"),
    ]
    caption = (
        "Left: the gradient through T steps of a tanh net that uses one W throughout (medians). Right: how far linear "
        "nets of the same variance are spread in ln ‖gradient‖: T with one matrix, √T with a new one in each layer."
    )
    return Figure(
        caption,
        [
            Panel("T (steps)", "log10 ‖dh_T/dh_0 v‖", series, "through time"),
            Panel("T (layers)", "standard deviation of ln ‖·‖", spreads, "over nets", log="xy"),
        ],
    )


NOTES = (
    "What decides is not the spectral radius of W alone but that of diag(φ') W along the way: the driven net with a "
    "gain of 1.5 fades, since its units are often near saturation, and the undriven one with the same gain explodes.",
    "The slopes are those of a random direction, in the forward sense; the gradient is the transpose of the same "
    "product and has the same exponents.",
    "The book concludes that feedforward nets can largely avoid the problem. The right panel is its argument: with a "
    "new matrix in each layer logarithms add up like a random walk; norms-walk-randomly has its drift.",
)

claim = Claim(
    slide=(18,),
    kind="STAT",
    statement="In a recurrent net, which applies the same W at every step, gradients vanish or explode exponentially "
    "in the number of steps; a feedforward net with another W in each layer largely avoids that.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.2.5, citing Sussillo 2014; Pascanu, Mikolov & Bengio 2013, "
    "sec. 2",
    equation="dh_T/dh_0 = Π diag(φ'(a_t)) W;   ln ‖dh_T/dh_0 v‖ ≈ T ln ρ_eff;   new W_t: spread (T/2N)^½",
    claimed="the slope has the sign of ln ρ_eff; the spread over nets grows as T^0.5 with new matrices, as T with one",
    setting="Tanh nets of 100 units at four gains, without and with random input, 30 nets each (quick: 10), gradients "
    "over 100 steps after 100 to settle, float64; linear nets of 20 units of gain 1, 2,000 (quick: 500), 50 to 800 "
    "layers.",
    measure=_measure,
    seconds=5,
)
