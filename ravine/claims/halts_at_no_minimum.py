"""Slide 8 against the book: where training halts is not a local minimum of what it minimizes."""

import torch
from torch import Tensor

from ravine.claims._halting import SETTING, Halt, halted
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import above, at_least, reported, shown
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean, ratio, share

REACH = torch.linspace(-1.5, 1.5, 151, dtype=torch.float64)  # along an eigenvector, in the weights' own units


def _cut(run: Halt, direction: Tensor) -> Tensor:
    """The training loss on a line through the stop, less that of the stop."""
    return torch.stack([run.loss(run.stop + t * direction) for t in REACH]) - run.loss(run.stop)


def _measure(trial: Trial) -> Findings:
    runs = [halted(trial.torch, i) for i in range(trial.pick(quick=4, normal=10))]
    spectra, cuts = [], []
    for run in runs:
        values, vectors = torch.linalg.eigh(run.hessian(run.stop))
        spectra.append(values)
        cuts.append(_cut(run, vectors[:, 0]))
    negative = [int((values < -1e-6 * values[-1]).sum()) for values in spectra]
    norms = [[run.gradient(theta).norm().item() for theta in (run.start, run.stop)] for run in runs]
    ends = [(run.loss(run.stop).item(), run.loss(run.minimized(1e-6)[0]).item()) for run in runs]
    checks = [
        at_least("share of runs with a negative eigenvalue at the stop", share(sum(map(bool, negative)), len(runs)), 1),
        at_least("smallest ‖g‖ at the stop over that at the start", min(stop / start for start, stop in norms), 0.05),
        above("fall of the loss along the most negative direction, nats", mean([-cut.min().item() for cut in cuts])),
        reported("negative eigenvalues of 1,210", mean(negative)),
        reported("most negative over largest eigenvalue", mean([(v[0] / v[-1]).item() for v in spectra])),
        reported("training loss at the stop, nats", ratio([stop for stop, _ in ends])),
        reported("training loss that L-BFGS reaches from there, nats", ratio([end for _, end in ends])),
    ]
    found = f"{min(negative)} to {max(negative)} negative eigenvalues, ‖g‖ {shown(min(n for _, n in norms))} or more"
    rows = [
        ("the deck, slide 8", "training may drop into a local minimum", "‖g‖ = 0, no negative eigenvalue"),
        ("the book, sec. 8.1.2", "training does not usually halt at a local minimum", "‖g‖ large"),
        (f"measured, {len(runs)} runs", f"{sum(map(bool, negative))} of them at no local minimum", found),
    ]
    table = Table("What is said of the place where training halts", ["who", "what", "gradient and Hessian"], rows)
    return Findings(checks, [_picture(spectra, cuts)], [table], NOTES)


def _picture(spectra: list[Tensor], cuts: list[Tensor]) -> Figure:
    lowest = [Series(f"run {i}", range(1, 301), v[:300].tolist()) for i, v in enumerate(spectra[:4], 1)]
    lines = [Series(f"run {i}", REACH.tolist(), cut.tolist()) for i, cut in enumerate(cuts[:4], 1)]
    panels = [
        Panel("rank from the lowest", "eigenvalue of the Hessian", lowest, title="curvature at the stop"),
        Panel("distance from the stop", "change of training loss, nats", lines, title="most negative direction"),
    ]
    return Figure(
        "Where training halts hundreds of directions curve downwards, and the loss does fall along them.", panels
    )


NOTES = (
    "A local minimum of a smooth loss has gradient 0 and no negative eigenvalue: either finding excludes it.",
    "The slide also says that training converges while the gradient is large, which the book says too "
    "(claim stops-with-large-gradient) and which excludes a local minimum by itself.",
)

claim = Claim(
    slide=(8,),
    kind="ARCH",
    statement='The deck has training "drop into a local minima"; the book says that training algorithms do not usually '
    "halt at a local minimum.",
    source="Kan Ren's slides, slide 8; Goodfellow, Bengio & Courville 2016, sec. 8.1.2 (p. 277)",
    claimed="the book's: at the stop the gradient is large; then the Hessian need not be positive semidefinite either",
    setting=f"{SETTING}. Eigenvalues of the dense Hessian there, and the loss along the lowest one's eigenvector; "
    "those below -1e-6 of the largest count as negative. 10 runs.",
    disagreement="D2",
    holds="DECK MISQUOTES BOOK",
    because='The deck says that training may "drop into a local minima"; the book that training algorithms "do not '
    'usually halt at a local minimum" (p. 277).',
    measure=_measure,
    seconds=20,
)
