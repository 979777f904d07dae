"""Slide 52: steps until nine tenths of the best accuracy, with batch normalization and without."""

import torch
from torch import Tensor

from ravine.claims._normalized import Copies, arms, digits, network, steps
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_most, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean, ratio

RATES = tuple(2.0**k for k in range(-2, 6))
KINDS = {"without": (False, 1.0), "with": (True, 1.0), "without, weights times 4": (False, 4.0)}
SHARE = 0.9


def _looks(count: int) -> list[int]:
    """Steps after which accuracy is taken: every fifth, then ever more rarely (by 4 %)."""
    found = [5]
    while found[-1] < count:
        found.append(min(count, max(found[-1] + 5, round(1.04 * found[-1]))))
    return found


def _curves(kind: str, rates: tuple[float, ...], seeds: list[int], count: int) -> Tensor:
    """Accuracies in percent on the 500 test images: (looks, rates, seeds)."""
    norm, scale = KINDS[kind]
    copies: Copies = arms([network(seed, norm, scale=scale) for seed in seeds], rates)
    data, looks, found = digits(seeds), set(_looks(count)), []
    for k, _ in enumerate(steps(copies, data, seeds, count), 1):
        if k in looks:
            found.append(copies.accuracies(data.test).view(len(rates), -1))
    return torch.stack(found)


def _reached(curves: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """The step at which each run is first at 0.9 of its seed's best accuracy of all; infinite where it never is."""
    target = SHARE * torch.stack([one.amax((0, 1)) for one in curves.values()]).amax(0)
    looks = torch.tensor(_looks(count), dtype=torch.float64)[:, None, None]
    return {kind: torch.where(one >= target, looks, torch.inf).amin(0) for kind, one in curves.items()}


def _measure(trial: Trial) -> Findings:
    few, many, count = trial.pick(quick=(1, 2, 200), normal=(3, 10, 1600), full=(10, 30, 3200))
    tuning, seeds = trial.seeds(few + many)[:few], trial.seeds(few + many)[few:]
    rates = trial.pick(quick=RATES[2:5], normal=RATES)
    tuned = _reached({kind: _curves(kind, rates, tuning, count) for kind in KINDS}, count)
    scores = {kind: one.clamp(max=2 * count).log().mean(1).exp() for kind, one in tuned.items()}
    best = {kind: rates[int(one.argmin())] for kind, one in scores.items()}
    curves = {kind: _curves(kind, (best[kind],), seeds, count) for kind in KINDS}
    reached = {kind: one[0] for kind, one in _reached(curves, count).items()}
    first = {kind: one.clamp(max=count) for kind, one in reached.items()}
    over = {kind: ratio((first["with"] / first[kind]).tolist()) for kind in KINDS if kind != "with"}
    what = f"steps to {SHARE:g} of the best accuracy, with over"
    checks = [
        at_most(f"{what} without", over["without"], 0.5),
        at_most(f"{what} without, weights times 4", over["without, weights times 4"], 0.5, role="condition"),
    ]
    for kind in KINDS:
        checks.append(reported(f"steps, {kind} (geometric mean)", ratio(first[kind].tolist())))
        checks.append(reported(f"best accuracy within {count} steps (%), {kind}",
                               mean(curves[kind].amax((0, 1)).tolist())))  # fmt: skip
    rows = [
        (kind, f"{best[kind]:g}", str(ratio(first[kind].tolist())), f"{int(reached[kind].isfinite().sum())} of {many}")
        for kind in KINDS
    ]
    columns = ("batch normalization", "learning rate", "steps", "seeds that got there")
    title = f"Steps to {SHARE:g} of the best accuracy of the seed; not there counts as {count}"
    return Findings(checks, [_figure(curves, scores, rates, count)], [Table(title, columns, rows)], NOTES)


def _figure(curves: dict[str, Tensor], scores: dict[str, Tensor], rates: tuple[float, ...], count: int) -> Figure:
    lines = [
        Series(kind, _looks(count), one.mean((1, 2)).tolist(), one.amin((1, 2)).tolist(), one.amax((1, 2)).tolist())
        for kind, one in curves.items()
    ]
    tuning = [Series(kind, rates, one.tolist(), kind="both") for kind, one in scores.items()]
    panels = [
        Panel("step", "test accuracy / %", lines, title="each at its best rate", log="x"),
        Panel("learning rate", "steps to 0.9 of the best accuracy", tuning, title="choosing the rate", log="xy"),
    ]
    caption = (
        "Left: test accuracy, mean and range of the seeds. Right: the steps by which each rate was chosen, on other "
        f"seeds; a run that does not get there counts as {2 * count}."
    )
    return Figure(caption, panels)


NOTES = (
    "The target is the same for all: 0.9 of the best accuracy that any of the three reaches with that seed. A run "
    "that does not get there counts as if it did at the last step, which favours it.",
    "1 / √fan-in is small for sigmoid units, whose slope is 1/4 at most: without normalization the net spends most of "
    "its steps on a plateau. Weights 4 times as large, which cost nothing, shorten that; what is left of the gain "
    "beside them is the condition.",
    "The grid of rates was written down after a trial of seven rates on two other seeds.",
    "Steps are not time: one with batch normalization took about 1.5 times as long here.",
    "On ImageNet, to 72.2 %: 31.0 million steps without, 13.3 with, 2.1 at 5 times the rate (Ioffe & Szegedy 2015, "
    "sec. 4.2.2).",
    "Why it helps is not measured here. Ioffe & Szegedy 2015 held that inputs of a layer shift less; Santurkar, "
    "Tsipras, Ilyas & Madry 2018 (arXiv:1805.11604) made them shift behind the normalization, saw training as good as "
    "before, and point to a smoother loss instead.",
)

claim = Claim(
    slide=(52,),
    kind="ARCH",
    statement="With batch normalization a network gets to the same accuracy in far fewer steps.",
    source="Kan Ren's slides, slide 52; Ioffe & Szegedy 2015 (arXiv:1502.03167), sec. 4.1 and 4.2",
    claimed="half the steps or fewer to 0.9 of the best accuracy, each side at its own best learning rate",
    setting="MLP 64-100-100-100-10 of sigmoid units on scikit-learn's digits, 960 to train on and 500 to judge by, "
    "drawn anew for each seed; weights normal with standard deviation 1 / √fan-in; SGD, 1,600 minibatches of 60; rates "
    "of 1/4 to 32 by factors of 2, the one with the fewest steps on 3 seeds; judged on 10 others. Condition: without "
    "it, but with weights 4 times as large, as the sigmoid's slope of 1/4 asks.",
    measure=_measure,
    seconds=100,
)
