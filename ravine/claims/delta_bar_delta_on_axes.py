"""Slide 38: a learning rate for each weight, learnt from signs: what it gains on the axes, and loses off them."""

import math
from itertools import product

import torch
from torch import Tensor

from ravine.claims._walk import best, steps_until, walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_least, at_most
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.racing.estimate import ratio
from ravine.rules import SGD, DeltaBarDelta

VALUES = torch.tensor([1.0, 1e-4], dtype=torch.float64)
GD_BEST = 2 / float(VALUES.sum())
TARGET = 1e-6
NOISE = 0.1
SETTINGS = list(product((0.01, 0.1, 1.0), (0.01, 0.1, 1.0, 10.0), (0.1, 0.3, 0.5), (0.7,)))  # lr, kappa, phi, theta
RATES = torch.logspace(-3, 0.25, 14, dtype=torch.float64)[:, None, None]


def _basis(angle: float) -> Tensor:
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def _loss(p: Tensor, basis: Tensor) -> Tensor:
    return 0.5 * ((p @ basis) ** 2 * VALUES).sum(-1)


def _dbd() -> tuple[Rule, Tensor]:
    """All settings at once, one a row, and the rates that they start with."""
    lr, kappa, phi, theta = torch.tensor(SETTINGS, dtype=torch.float64).T[..., None, None]
    return DeltaBarDelta().bound({"kappa": kappa, "phi": phi, "theta": theta}), lr


def _steps(rule: Rule, lr: float | Tensor, rows: int, starts: Tensor, angle: float, most: int) -> Tensor:
    """Steps until the loss is a millionth of the first one, by setting and start."""
    basis = _basis(angle)
    p = (starts @ basis.T).expand(rows, *starts.shape)  # the same start as seen from the axes of the bowl
    goal = TARGET * _loss(p, basis)
    points = walk(rule, lambda p: (p @ basis * VALUES) @ basis.T, p, lr)
    return steps_until(lambda p: _loss(p, basis) <= goal, points, most)


def _noisy(rule: Rule, lr: float | Tensor, rows: int, starts: Tensor, steps: int, noise: torch.Generator) -> Tensor:
    """The mean loss over the second half of a run with noise in every gradient, by setting and start."""
    p = starts.expand(rows, *starts.shape)
    total = torch.zeros(p.shape[:-1], dtype=torch.float64)

    def gradient(p: Tensor) -> Tensor:
        return p * VALUES + NOISE * torch.randn(starts.shape, generator=noise, dtype=torch.float64)

    for k, at in zip(range(steps), walk(rule, gradient, p, lr), strict=False):
        total += _loss(at, _basis(0)) if k >= steps // 2 else 0
    return (total / (steps - steps // 2)).nan_to_num(nan=math.inf)


def _gd(starts: Tensor) -> Tensor:
    """Steps of gradient descent, whose loss after k of them is Σ λ_i (1 - ε λ_i)^2k x_i² / 2, at any angle."""
    k = torch.arange(60_000, dtype=torch.float64)[:, None, None]
    losses = 0.5 * (VALUES * (1 - GD_BEST * VALUES) ** (2 * k) * starts**2).sum(-1)
    return (losses <= TARGET * losses[0]).double().argmax(0).double()


def _under_noise(trial: Trial, starts: Tensor, chosen: int) -> tuple[list[Check], str]:
    """The setting that was best without noise, the one that is best with it, and SGD's best."""
    steps = trial.pick(quick=1_000, normal=8_000)
    sgd, _ = best(_noisy(SGD(), RATES, len(RATES), starts, steps, trial.torch("noise")))
    rule, lr = _dbd()
    dbd = _noisy(rule, lr, len(SETTINGS), starts, steps, trial.torch("noise")).clamp(max=1e12)
    anew, place = best(dbd)
    checks = [
        at_least("loss under noise, best full-batch setting / SGD", ratio((dbd[chosen] / sgd).tolist()), 3),
        at_least("loss under noise, best setting under noise / SGD", ratio((anew / sgd).tolist()), 3, role="condition"),
    ]
    return checks, f"The best setting under noise: {_said(place)}; a loss of 1e12 stands for divergence."


def _measure(trial: Trial) -> Findings:
    uniform = torch.rand(trial.pick(quick=6, normal=16), generator=trial.torch("starts"), dtype=torch.float64)
    starts = torch.stack([(2 * math.pi * uniform).cos(), (2 * math.pi * uniform).sin()], -1)
    most, (rule, lr), gd = trial.pick(quick=20_000, normal=60_000), _dbd(), _gd(starts)
    turned = trial.pick(quick=(0, 45), normal=(0, 5, 15, 30, 45))
    found = [best(_steps(rule, lr, len(SETTINGS), starts, angle, most)) for angle in turned]
    gains = [ratio((gd / steps).tolist()) for steps, _ in found]
    checks = [
        at_least("gain over GD in steps, bowl along the axes", gains[0], 10),
        at_least("gain on the axes / gain at 45°", ratio((found[-1][0] / found[0][0]).tolist()), 10),
        at_most("gain over GD in steps, bowl turned by 45°", gains[-1], 3, role="condition"),
    ]
    noisy, note = _under_noise(trial, starts, found[0][1])
    value, low, high = zip(*((gain.value, gain.low, gain.high) for gain in gains), strict=True)
    series = [
        Series("best of 36 settings", turned, value, low, high, "both"),
        Series("no gain", [0, 45], [1, 1], kind="reference"),
    ]
    axes = Panel("angle of the bowl / degrees", "steps of GD / steps of delta-bar-delta", series, log="y")
    caption = "How many times fewer steps delta-bar-delta needs than gradient descent, as the bowl turns off the axes."
    rows = [
        (f"{angle}°", f"{gd.median():.0f}", f"{steps.median():.0f}", str(gain), _said(place))
        for angle, (steps, place), gain in zip(turned, found, gains, strict=True)
    ]
    columns = ("angle", "GD", "delta-bar-delta", "gain", "best setting")
    table = Table("Steps to a millionth of the first loss (medians)", columns, rows)
    return Findings([*checks, *noisy], [Figure(caption, [axes])], [table], [note, *NOTES])


def _said(place: int) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in zip(("lr", "κ", "φ", "θ"), SETTINGS[place], strict=True))


NOTES = (
    "Turned by 45° the gain is far below that on the axes, yet above 3: rates that rise until a gradient turns take a "
    "long step now and then, which helps along a narrow valley whatever its direction.",
    "Under noise the signs say little. With the setting that is best for full batches the rates grow until the run "
    "diverges; the best of the settings under noise does not diverge, and still ends above SGD.",
)

claim = Claim(
    slide=(38,),
    kind="STAT",
    statement="Delta-bar-delta gives each weight a learning rate that grows while its gradient keeps its sign and "
    "shrinks when it turns. It helps where the directions that need different rates are the axes, and with full "
    "batches only.",
    source="Jacobs 1988, Neural Networks 1:295-307; Goodfellow, Bengio & Courville 2016, sec. 8.5",
    equation="ε_i ← ε_i + κ where δ̄_i g_i > 0,   (1 - φ) ε_i where δ̄_i g_i < 0;   δ̄ ← (1 - θ) g + θ δ̄",
    claimed="At least 10 times fewer steps than gradient descent on the axes, at 45° less than a tenth of that "
    "gain; under gradient noise at least 3 times the loss of SGD",
    setting="A bowl of two float64 parameters with curvatures 1 and 1e-4, 16 random starts on the unit circle. "
    "Gradient descent at its best rate, 2/(1 + 1e-4); delta-bar-delta at the best of 36 settings for each angle. "
    "Noise: normal, 0.1 in each coordinate, 8,000 steps, mean loss of the second half; SGD at the best of 14 rates.",
    measure=_measure,
    seconds=20,
    changed="The gain at 45° was to be below 3. It is not: see the check, which is kept as a condition. What the book "
    "says, that rates of their own suit sensitivities along the axes, is checked by how much of the gain is lost.",
)
