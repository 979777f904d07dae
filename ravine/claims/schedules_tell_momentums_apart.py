"""Slide 24: the book keeps the learning rate inside the velocity, torch outside, which shows when the rate changes."""

import torch
from torch import Tensor

from ravine.claims._descent import seen, walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_most, within
from ravine.core.figure import Figure, Panel, Series
from ravine.rules import Momentum
from ravine.schedules import step

ALPHA, LR, CHANGE, STEPS = 0.9, 0.05, 500, 1000


def _torchs(start: Tensor, gradients: Tensor, curvature: Tensor, gamma: float) -> Tensor:
    """The places of torch.optim.SGD itself, whose rate changes by `gamma` once, after CHANGE steps."""
    x = start.clone().requires_grad_()
    optimizer = torch.optim.SGD([x], lr=LR, momentum=ALPHA)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, CHANGE, gamma)
    places = [x.detach().clone()]
    for gradient in gradients:
        x.grad = curvature * x.detach() + gradient
        optimizer.step()
        scheduler.step()
        places.append(x.detach().clone())
        if len(places) == 2 * CHANGE:  # StepLR would change it again
            scheduler.step_size = 10 * STEPS
    return torch.stack(places)


def _books(start: Tensor, gradients: Tensor, curvature: Tensor, gamma: float) -> Tensor:
    """The places of the book's momentum under the same change."""
    drawn = iter(gradients)
    rule = Momentum(ALPHA, form="book")
    path = walk(rule, LR, start, lambda x: curvature * x + next(drawn), step(CHANGE, gamma))
    return seen(path, range(len(gradients) + 1))


def _apart_at_constant_rate(trial: Trial) -> float:
    """The largest distance between the two on a noisy valley of ten dimensions."""
    noise = torch.randn(STEPS, 10, generator=trial.torch("noise"), dtype=torch.float64)
    curvature = torch.logspace(-2, 0, 10, dtype=torch.float64)
    start = torch.ones(10, dtype=torch.float64)
    walks = [walked(start, noise, curvature, 1.0) for walked in (_torchs, _books)]
    return float((walks[0] - walks[1]).abs().max())


def _speeds(gamma: float) -> tuple[Tensor, Tensor]:
    """Lengths of the steps of torch's and the book's form under a constant gradient, in units of the first ε‖g‖."""
    start, zero = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    ones = torch.ones(2 * CHANGE - 1, dtype=torch.float64)
    return -_torchs(start, ones, zero, gamma).diff() / LR, -_books(start, ones, zero, gamma).diff() / LR


def _measure(trial: Trial) -> Findings:
    checks: list[Check] = [
        at_most("largest distance at a constant ε", _apart_at_constant_rate(trial), 1e-12, claimed=0)
    ]
    rows, panels = [], []
    terminal = 1 / (1 - ALPHA)
    for gamma, name in ((0.1, "ε falls to a tenth"), (10.0, "ε rises tenfold")):
        outside, inside = _speeds(gamma)
        foretold = gamma * terminal, ALPHA * terminal + gamma
        checks.append(within(f"{name}: next step, torch", float(outside[CHANGE]), foretold[0], rel=1e-9))
        checks.append(within(f"{name}: next step, book", float(inside[CHANGE]), foretold[1], rel=1e-9))
        further = (1 - gamma) * ALPHA * terminal**2
        checks.append(
            within(f"{name}: how much further the book goes", float((inside - outside).sum()), further, rel=1e-9)
        )
        rows.append(
            [name, f"{float(outside[CHANGE - 1]):.4g}", *(f"{float(v[CHANGE]):.4g}" for v in (outside, inside))]
        )
        shown = range(-20, 80)
        curves = [
            Series(label, shown, v[CHANGE - 20 : CHANGE + 80].tolist())
            for label, v in (("torch", outside), ("book", inside))
        ]
        panels.append(Panel("steps since the change", "length of a step / first ε‖g‖", curves, title=name, log="y"))
    columns = ["change", "step before", "next step, torch", "next step, book"]
    table = Table("Length of a step under a constant gradient, in units of the first ε‖g‖", columns, rows)
    caption = (
        "When the learning rate changes, torch's momentum changes its step at once; the book's comes round over "
        "1/(1 - α) steps."
    )
    notes = [
        "At a constant rate the two are one method, and a recipe can be carried over unchanged.",
        "Under a schedule they are not: a velocity that holds ε remembers the rates of the past. After a cut by ten "
        "the book's first step is nine times as long as torch's; with a warm-up torch's form takes the long steps at "
        "once.",
    ]
    return Findings(checks, [Figure(caption, panels)], [table], notes)


claim = Claim(
    slide=(24,),
    kind="EXACT",
    statement="The book's momentum, with the learning rate inside the velocity, and torch.optim.SGD's, with it "
    "outside, are the same at a constant rate and differ as soon as the rate changes.",
    source="Goodfellow, Bengio & Courville 2016, eq. 8.15-8.16, against the documentation of torch.optim.SGD; "
    "Sutskever, Martens, Dahl & Hinton 2013, eq. 1-2, have the book's form",
    equation="book: v ← αv - εg, θ ← θ + v;   torch: m ← αm + g, θ ← θ - εm",
    claimed="After ε → γε in terminal motion the next step is γε/(1 - α) in torch, αε/(1 - α) + γε in the book; the "
    "book goes (1 - γ)εα/(1 - α)² further",
    setting="α = 0.9: a noisy ten-dimensional valley at a constant rate, and a constant gradient whose rate changes "
    f"once, after {CHANGE} steps, by a tenth or tenfold; float64, torch.optim.SGD itself with StepLR.",
    measure=_measure,
    seconds=2,
)
