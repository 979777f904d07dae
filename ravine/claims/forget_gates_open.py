"""Slide 36: a gate that starts open lets learn what it guards: the forget gate of an LSTM with a bias of 1."""

import math

import numpy as np
import torch
from torch import Tensor

from ravine.claims._adding import sequences, wrong
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_most, reported, within
from ravine.core.figure import Figure, Panel, Series
from ravine.optimizer import Optimizer
from ravine.rules import Adam

STEPS, UNITS, BATCH = 30, 24, 32
LENGTH, SHORT = 60, 30
OPEN = 1 / (1 + math.exp(-1))  # σ(1)


def _through(bias: float) -> float:
    """dc_T/dc_0 of a torch LSTM whose weights are 0 and whose forget gate has that bias."""
    cell = torch.nn.LSTMCell(2, 1, dtype=torch.float64)
    with torch.no_grad():
        for part in cell.parameters():
            part.zero_()
        cell.bias_ih[1] = bias  # gates in the order input, forget, cell, output
    h, c = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    state = (h, c)
    for _ in range(STEPS):
        state = cell(torch.zeros(1, 2, dtype=torch.float64), state)
    return float(torch.autograd.grad(state[1].sum(), c)[0])


def _start(bias: float, seeds: list[int]) -> list[Tensor]:
    """Input and recurrent weights, biases, output weights of every copy; torch's uniform scale 1/√units."""

    def drawn(*shape: int) -> Tensor:
        rows = [(torch.rand(shape, generator=chance) * 2 - 1) / UNITS**0.5 for chance in chances]
        return torch.stack(rows)

    chances = [torch.Generator().manual_seed(seed) for seed in seeds]
    parts = [drawn(2, 4 * UNITS), drawn(UNITS, 4 * UNITS), torch.zeros(len(seeds), 1, 4 * UNITS), drawn(UNITS, 1)]
    parts[2][:, :, UNITS : 2 * UNITS] = bias
    return parts


def _answers(parts: list[Tensor], x: Tensor) -> Tensor:
    """(copies, batch) for sequences (copies, batch, length, 2)."""
    into, recurrent, bias, out = parts
    driven = x.flatten(1, 2) @ into + bias
    driven = driven.view(*x.shape[:3], -1)
    h = c = driven.new_zeros(*x.shape[:2], UNITS)
    for t in range(x.shape[2]):
        gates = driven[:, :, t] + h @ recurrent
        i, f, o = torch.sigmoid(gates[..., : 3 * UNITS]).chunk(3, 2)
        c = f * c + i * torch.tanh(gates[..., 3 * UNITS :])
        h = o * torch.tanh(c)
    return (h @ out)[..., 0]


def _train(trial: Trial, seeds: list[int], length: int, steps: int) -> np.ndarray:
    """Share of wrong answers to fresh sequences, every fifty steps: (looks, 2 biases, seeds)."""
    pairs = zip(_start(0.0, seeds), _start(1.0, seeds), strict=True)
    parts = [torch.cat(pair).requires_grad_() for pair in pairs]
    optimizer = Optimizer(parts, Adam(), lr=0.01)
    chance, found = trial.torch("sequences", length), []
    for step in range(steps + 1):
        x, y = (part.repeat(2, *[1] * (part.ndim - 1)) for part in sequences(len(seeds), BATCH, length, chance))
        if step % 50 == 0:
            with torch.no_grad():
                a, b = (part.repeat(2, *[1] * (part.ndim - 1)) for part in sequences(len(seeds), 200, length, chance))
                found.append(wrong(_answers(parts, a), b).view(2, -1))
        loss = (_answers(parts, x) - y).square().mean(1).sum()
        gradients = torch.autograd.grad(loss, parts)
        norms = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
        for part, gradient in zip(parts, gradients, strict=True):
            part.grad = gradient / norms.clamp(min=1.0)[:, None, None]
        optimizer.step()
    return torch.stack(found).numpy()


def _measure(trial: Trial) -> Findings:
    closed, opened = _through(0.0), _through(1.0)
    checks: list[Check] = [
        within(f"gradient of the cell through {STEPS} steps, forget bias 0", closed, 0.5**STEPS, rel=1e-9),
        within(f"gradient of the cell through {STEPS} steps, forget bias 1", opened, OPEN**STEPS, rel=1e-9),
    ]
    seeds, steps = trial.seeds(trial.pick(quick=1, normal=3, full=5)), trial.pick(quick=50, normal=1000, full=3000)
    shares = _train(trial, seeds, LENGTH, steps)
    at = range(0, steps + 1, 50)
    solved = [_solved(shares[:, bias]) for bias in (0, 1)]
    if trial.scale == "quick":
        checks.append(
            reported(f"share of wrong answers after {steps} steps, forget bias 1", float(shares[-1, 1].mean()))
        )
    else:
        short = [_solved(run) for run in _train(trial, seeds, SHORT, steps // 2).swapaxes(0, 1)]
        what = "adding problem: median steps to solve it, forget bias 1 over 0, length"
        checks.append(at_most(f"{what} {LENGTH}", _ratio(solved, steps), 0.5))
        checks.append(at_most(f"{what} {SHORT}", _ratio(short, steps // 2), 0.5, role="condition"))
        for bias in (1, 0):
            what = f"adding problem: seeds that solve it with forget bias {bias}, of {len(seeds)}"
            checks.append(reported(what, sum(math.isfinite(k) for k in solved[bias])))
    series = [
        Series(f"forget bias {i}", at, shares[:, i].mean(1), shares[:, i].min(1), shares[:, i].max(1)) for i in (0, 1)
    ]
    ways = [Series(f"forget bias {i}", [0, STEPS], [1, share**STEPS]) for i, share in ((0, 0.5), (1, OPEN))]
    panels = [
        Panel("steps of time", "dc_T/dc_0 at the start", ways, log="y"),
        Panel("training step", "share of wrong answers", series, f"adding problem, T = {LENGTH}"),
    ]
    caption = "Left: what is left of a gradient through the cell. Right: mean of the seeds, and their range."
    table = Table(
        "Steps until fewer than 10 % of the answers are wrong",
        ("forget bias", *(f"seed {i + 1}" for i in range(len(seeds)))),
        [(i, *("never" if math.isinf(k) else k for k in solved[i])) for i in (0, 1)],
    )
    return Findings(checks, [Figure(caption, panels)], [table], NOTES)


def _solved(shares: np.ndarray) -> list[float]:
    """The first step at which fewer than 10 % of the answers are wrong, of each seed: shares (looks, seeds)."""
    return [next((50.0 * k for k, wrong in enumerate(run) if wrong < 0.1), math.inf) for run in shares.T]


def _ratio(solved: list[list[float]], steps: int) -> float:
    """Median steps with bias 1 over those with bias 0; never is counted as twice all steps."""
    zero, one = (min(float(np.median(runs)), 2.0 * steps) for runs in solved)
    return one / zero


NOTES = (
    "With weights near 0 the forget gate is σ(bias): at a bias of 0 half of the cell is forgotten at every step, and a "
    "gradient through 30 steps is a billionth. torch.nn.LSTM has two biases, which add up, and starts both near 0.",
    "Who never solves the problem counts as twice all steps. At half the length Adam opens the gates by itself before "
    "the bias could save much: there a bias of 1 is no faster.",
)

claim = Claim(
    slide=(36,),
    kind="ARCH",
    statement="Where a unit h gates another, its bias should make h ≈ 1 at the start, or the other has no chance to "
    "learn: the forget gate of an LSTM gets a bias of 1.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.4, p. 305-306, citing Jozefowicz et al. 2015",
    equation="dc_T/dc_0 = Π f_t = σ(b)^T with weights 0:   0.5^T against 0.731^T",
    claimed="9.3e-10 against 8.3e-5 over 30 steps; the adding problem in at most half of the steps",
    setting="torch's LSTMCell with weights 0, float64, 30 steps; LSTM of 24 units on the adding problem, length 60, "
    "Adam at 0.01, gradients clipped to norm 1, batches of 32, 1,000 steps (quick: 50; full: 3,000), 3 seeds (quick: "
    "1; full: 5), the same starts but for the bias; length 30 beside it.",
    measure=_measure,
    seconds=75,
)
