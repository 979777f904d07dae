"""Slide 53: scale and shift behind batch normalization give back what it took, and make the bias before it idle."""

import torch
from torch import Tensor, nn

from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import at_least, at_most, within
from ravine.core.figure import Figure, Panel, Series
from ravine.optimizer import Optimizer
from ravine.rules import Adam
from ravine.schedules import cosine
from ravine.strategies.batch_norm import BatchNorm

EXAMPLES, INPUTS = 128, 6
EPS = 1e-12
STEPS = 1500


def _data(trial: Trial) -> tuple[Tensor, Tensor, float]:
    """Inputs, a linear unit of them as the target, and what no unit of mean 0 and variance 1 can reach."""
    draw = trial.torch("data")
    u = torch.randn(EXAMPLES, INPUTS, generator=draw, dtype=torch.float64)
    target = 2 + u @ torch.randn(INPUTS, 1, generator=draw, dtype=torch.float64)
    spread = target.std(correction=0)
    return u, target, float(target.mean() ** 2 + (spread - 1) ** 2)


def _fitted(u: Tensor, target: Tensor, affine: bool, start: torch.Generator) -> list[float]:
    """Mean squared errors while a linear layer and the normalization behind it are trained by Adam."""
    weight = nn.Parameter(torch.randn(INPUTS, 1, generator=start, dtype=torch.float64))
    norm = BatchNorm(1, eps=EPS, affine=affine).double()
    optimizer = Optimizer([weight, *norm.parameters()], Adam(), lr=0.03, schedule=cosine(STEPS))
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = (norm(u @ weight) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _measure(trial: Trial) -> Findings:
    u, target, residual = _data(trial)
    norm, bias = BatchNorm(1, eps=EPS).double(), torch.zeros(1, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        norm.weight.fill_(target.std(correction=0))
        norm.bias.fill_(target.mean())
    made = norm(target + bias)
    made.square().sum().backward()
    assert bias.grad is not None
    count = trial.pick(quick=2, normal=5)
    plain = [_fitted(u, target, False, trial.torch("start", i)) for i in range(count)]
    free = [_fitted(u, target, True, trial.torch("start", i)) for i in range(count)]
    checks = [
        at_most(
            "γ = σ, β = μ against the unit without normalization", (made - target).abs().max().item(), 1e-6, claimed=0
        ),
        at_most("gradient of a bias before the normalization", bias.grad.abs().item(), 1e-9, claimed=0),
        within("least error with γ = 1, β = 0, over μ² + (σ - 1)²", min(min(x) for x in plain) / residual, 1, rel=1e-3),
        at_least("no run falls below it: the least over it", min(min(x) for x in plain) / residual, 1 - 1e-9),
        at_most("largest last error with γ and β trained", max(x[-1] for x in free), 1e-3 * residual, claimed=0),
    ]
    steps = [1, *range(10, STEPS + 1, 10)]
    lines = [
        Series(name, steps, [runs[0][k - 1] for k in steps])
        for name, runs in (("γ = 1, β = 0", plain), ("trained", free))
    ]
    lines.append(Series("μ² + (σ - 1)²", [1, STEPS], [residual, residual], kind="reference"))
    caption = "A linear unit behind batch normalization fits a linear target with a scale and a shift, and not without."
    return Findings(checks, [Figure(caption, [Panel("step", "mean squared error", lines, log="y")])])


claim = Claim(
    slide=(53,),
    kind="EXACT",
    statement="Normalization takes away what a layer can express; γH' + β gives it back, and makes the bias before it "
    "redundant.",
    source="Kan Ren's slides, slide 53; Goodfellow, Bengio & Courville 2016, sec. 8.7.1",
    equation="γH' + β with γ = σ, β = μ is H;   min over W of E(BN(Wu) - t)² = μ² + (σ - 1)² for a linear target t",
    claimed="with γ = σ and β = μ the same function; with γ = 1, β = 0 an error of μ² + (σ - 1)²; the gradient of the "
    "bias 0",
    setting=f"{EXAMPLES} examples of {INPUTS} inputs, a linear target with mean near 2; a linear unit and its "
    "normalization trained by Adam from 5 starts; float64.",
    measure=_measure,
    seconds=11,
)
