"""Slide 33: deep linear nets learn in the same number of steps at any depth from orthogonal weights, and no others."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ravine.claims._deep import descend
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_least, at_most, within
from ravine.core.figure import Figure, Panel, Series
from ravine.init import LeCun, Orthogonal

SIZE, OUT = 20, 10
DEPTHS = (2, 4, 8, 16, 32)
RATES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
NEVER = float("inf")
STARTS = {"orthogonal": Orthogonal(), "Gaussian": LeCun("normal")}


def _start(name: str, depth: int, seeds: Sequence[int]) -> list[Tensor]:
    """Layers (seeds, out, in): 20 to 20, the last 20 to 10; Gaussian ones of variance 1/fan-in."""
    found = []
    chances = [torch.Generator().manual_seed(seed) for seed in seeds]
    for layer in range(depth):
        shape = (OUT if layer + 1 == depth else SIZE, SIZE)
        found.append(torch.stack([STARTS[name](shape, generator=g, dtype=torch.float64) for g in chances]))
    return found


def _targets(seeds: Sequence[int]) -> Tensor:
    """Matrices (seeds, 10, 20) of singular values from 0.5 to 1.5."""
    found = []
    for seed in seeds:
        chance = torch.Generator().manual_seed(seed + 1)
        u, v = (torch.linalg.qr(torch.randn(n, OUT, generator=chance, dtype=torch.float64)).Q for n in (OUT, SIZE))
        found.append((u * torch.linspace(0.5, 1.5, OUT, dtype=torch.float64)) @ v.T)
    return torch.stack(found)


def _losses(layers: Sequence[Tensor], target: Tensor) -> Tensor:
    """½ ‖W_L ... W_1 - T‖²: the loss over white inputs."""
    product = layers[0]
    for layer in layers[1:]:
        product = layer @ product
    return (product - target).square().sum((1, 2)) / 2


def _steps(name: str, depth: int, seeds: Sequence[int], most: int) -> np.ndarray:
    """Steps of gradient descent to 1 % of ½ ‖T‖², at the best of the rates for each seed."""
    copies = len(RATES)
    layers = [part.repeat_interleave(copies, 0).requires_grad_() for part in _start(name, depth, seeds)]
    target = _targets(seeds).repeat_interleave(copies, 0)
    goal = target.square().sum((1, 2)) / 200
    lr, found = torch.tensor(RATES, dtype=torch.float64).repeat(len(seeds)) / depth, torch.full((len(target),), NEVER)
    for k in range(most + 1):
        losses = _losses(layers, target)
        found = torch.where(found.isinf() & (losses.detach() < goal), float(k), found)
        best = found.view(len(seeds), -1).min(1).values
        if float(best.max()) <= k:
            break
        descend(layers, losses, lr)
    return best.numpy()


def _measure(trial: Trial) -> Findings:
    seeds, most = trial.seeds(trial.pick(quick=3, normal=3, full=5)), trial.pick(quick=600, normal=1000, full=3000)
    depths = trial.pick(quick=DEPTHS[:4], normal=DEPTHS)
    runs = {name: [_steps(name, depth, seeds, most) for depth in depths] for name in STARTS}
    medians = {name: [float(np.median(run)) for run in found] for name, found in runs.items()}
    deep = medians["orthogonal"][1:]
    at = depths.index(16)
    gaussian = min(medians["Gaussian"][at], float(most))
    checks: list[Check] = [
        at_most(f"orthogonal: most steps over fewest, depth 4 to {depths[-1]}", max(deep) / min(deep), 2),
        at_least(
            "depth 16: steps from Gaussian weights over orthogonal ones", gaussian / medians["orthogonal"][at], 20
        ),
    ]
    if depths[-1] == 32:
        reached = int(np.isfinite(runs["Gaussian"][-1]).sum())
        checks.append(
            within(f"Gaussian, depth 32: seeds that are there in {most} steps", reached, 0, tol=0, role="condition")
        )
    rows = [(name, *(_said(run) for run in found)) for name, found in runs.items()]
    table = Table(
        f"Steps to 1 % of the loss, from the quickest to the slowest of {len(seeds)} seeds",
        ("weights", *(f"depth {d}" for d in depths)),
        rows,
    )
    series = []
    for name, found in medians.items():
        there = [(d, s) for d, s in zip(depths, found, strict=True) if np.isfinite(s)]
        series.append(Series(name, [d for d, _ in there], [s for _, s in there], kind="both"))
    caption = f"Steps to 1 % of the loss (medians); Gaussian weights are left out where {most} steps were not enough."
    panel = Panel("depth (layers)", "steps", series, log="xy")
    return Findings(checks, [Figure(caption, [panel])], [table], NOTES)


def _said(run: np.ndarray) -> str:
    low, high = float(run.min()), float(run.max())
    return f"{low:g} to {high:g}" if np.isfinite(high) else (f"{low:g} to never" if np.isfinite(low) else "never")


NOTES = (
    "The learning rate is c/depth with the best c of seven for every net, since the curvature of the loss grows with "
    "the depth (Saxe et al. 2013, sec. 2).",
    "A product of Gaussian matrices keeps the length of a vector on average, as one of orthogonal matrices does; but "
    "its singular values spread over many orders of magnitude, and the small ones are learnt last.",
)

claim = Claim(
    slide=(33,),
    kind="ARCH",
    statement="Random orthogonal weights make the number of training iterations independent of depth, in a model of "
    "matrix products without nonlinearities.",
    source="Saxe, McClelland & Ganguli 2013, abstract and sec. 3 (arXiv:1312.6120); Goodfellow, Bengio & Courville "
    "2016, sec. 8.4",
    equation="J = ½ ‖W_L ... W_1 - T‖²,   W_l' W_l = I at the start",
    claimed="steps that differ by less than a factor of 2 from depth 4 to 32; Gaussian weights need 20 times as many "
    "at depth 16",
    setting="Deep linear nets of width 20 with 10 outputs, targets of singular values from 0.5 to 1.5, gradient "
    "descent in float64 at the best of seven rates c/depth, 3 seeds (full: 5), at most 1,000 steps (quick: 600, to "
    "depth 16; full: 3,000).",
    measure=_measure,
    seconds=19,
)
