"""The page and its picture, from the records alone."""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deep_parts.ledger import CHANCE, Ledger, final, reached
from deep_parts.treatments import SHALLOW, TREATMENTS, Treatment
from ravine.core.evidence import Estimate
from ravine.racing.estimate import mean
from ravine.racing.statistics import median_interval
from ravine.report.palette import LIGHT, style

BLUE, ORANGE, GREY = LIGHT[0], LIGHT[1], LIGHT[6]
BELOW = 0.25  # where the dots of single runs stand, beside their mean's line


@dataclass(frozen=True)
class Row:
    """One treatment on its fresh seeds; `works` are infinite where the goal was not reached."""

    treatment: Treatment
    setting: str
    finals: list[float]
    accuracy: Estimate
    within: int
    works: list[float]
    work: int
    seconds: float

    @property
    def median(self) -> float:
        """Of the work to the goal."""
        return statistics.median(self.works)

    @property
    def interval(self) -> tuple[float, float]:
        """Of that median, by order statistics."""
        return median_interval(np.array(self.works))


def goal(ledger: Ledger) -> float:
    """The mean of the shallow net, less the points that may be lacking."""
    return statistics.fmean(map(final, ledger.fresh(SHALLOW))) - ledger.header["points"] / 100


def rows(ledger: Ledger) -> list[Row]:
    """The shallow net, then the treatments from the best down."""
    enough = goal(ledger)

    def row(name: str) -> Row:
        runs = ledger.fresh(name)
        finals = [final(run) for run in runs]
        return Row(
            TREATMENTS[name], ledger.tuned(name), finals, mean(finals), sum(value >= enough for value in finals),
            [reached(run, enough) for run in runs], round(statistics.median(run["curve"][-1][0] for run in runs)),
            statistics.median(run["observed"]["seconds"] for run in runs),
        )  # fmt: skip

    others = [row(name) for name in TREATMENTS if name != SHALLOW]
    return [row(SHALLOW), *sorted(others, key=lambda one: -one.accuracy.value)]


def write(ledger: Ledger, page: Path) -> None:
    """Write the page, and its picture beside it."""
    page.write_text(text(ledger, page.with_suffix(".png").name), encoding="utf-8")
    draw(ledger, page.with_suffix(".png"))


def text(ledger: Ledger, picture: str) -> str:
    """The page."""
    head, found = ledger.header, rows(ledger)
    spent = sum(run["observed"]["seconds"] for run in ledger.runs) / 60
    spread, seeds = head["untrained"]["spread"], len(head["seeds"])
    table = "\n".join(_line(row, seeds, head["budget"]) for row in found)
    points = f"{head['points']:g} points"
    columns = ("treatment", "setting", "test accuracy", f"runs within {points}", "work to get there")
    columns = (*columns, "work in all", "seconds")
    tried = {row.treatment.name: _grid(ledger.grid(row.treatment.name)) for row in found}
    what = "\n".join(f"- **{r.treatment.label}**: {r.treatment.what}. Tried: {tried[r.treatment.name]}." for r in found)
    return f"""# A net that does not train

Twenty hidden layers of 64 sigmoids on 8x8 digits, weights uniform in ±1/8 and biases 0 (the task
`{head["task"]}`), stay at chance. Before training, images differ by {spread[0]:.2g} behind the first hidden layer
(the standard deviation over images, the mean over units), by {spread[9]:.1g} behind the tenth and by {spread[-1]:.1g}
behind the last; float32 tells numbers near 1/2 apart from 6e-8 on. So the output layer is given the same numbers for
every image, and the gradient of the first layer's weights is {head["untrained"]["gradient_ratio"]:.0e} times that of
the last's. What brings the net within {points} of a shallow one, at equal work?

{_answer(found, seeds)}

![Test accuracy of every treatment, and the work until it is within {points}]({picture})

| {" | ".join(columns)} |
|{"---|" * len(columns)}
{table}

Accuracy is the mean over {seeds} seeds with Student's interval at 95 %. *Within {points}* means {goal(ledger):.3f} or
more at the end: the shallow net's mean less {head["points"] / 100:g}. Work is counted in gradient evaluations of 64
images, products with curvature as such. *Work to get there* is the median over the runs of the first point that is good
enough, of points {head["every"]} evaluations apart, with the 95 % interval from order statistics; *> {head["budget"]}*
where the budget ended before. Seconds are the processor's, on one thread, without judging, of the median run.
{_fell_back(found, seeds)}
One budget is one budget: what learns here without getting there may do so with more. A treatment is used as the library
gives it; heads in other places, say, may do better.

## The treatments

{what}

Each is used alone and as the library gives it, with momentum 0.9 unless it is another optimizer. Its setting is found
by the accuracy on the validation data after {head["budget"]} evaluations: the grid on one seed, which goes on by half a
decade where the best stands at an end of it and learns at all; the two best on a second seed; the better mean. The
table's runs have {seeds} other seeds and are judged on the test data. The work of a
teacher, of pretraining, and of the search's passes is part of the budget. Of treatments in stages only the deep net
itself is judged, not the shallower ones on the way.

## Again

```
make deep
```

runs `benchmarks/deep_sigmoid.py`, which makes this page from the {len(ledger.runs)} runs in
`benchmarks/results/deep-sigmoid.jsonl` and carries out those that are lacking: these took {spent:.0f}
minutes of one core's time, judging apart, on a machine with other work to do ({head["machine"]["processor"]}, torch
{head["versions"]["torch"]}).
"""


def _fell_back(found: list[Row], seeds: int) -> str:
    """That more runs were near at some point than are at the end, where it is so."""
    more = [(row, there) for row in found if (there := sum(map(math.isfinite, row.works))) > row.within]
    if not more:
        return ""
    listed = ", ".join(f"{row.treatment.label} {there} of {seeds}, {row.within} of them" for row, there in more)
    return (
        "\nThe right half of the picture counts runs that were within at some point, the table those at the end:\n"
        f"{listed}.\n"
    )


def _answer(found: list[Row], seeds: int) -> str:
    """What the table says, in sentences."""
    others = found[1:]
    all_of_them = [row for row in others if row.within == seeds]
    some = [row for row in others if 0 < row.within < seeds]
    none = [row for row in others if row.within == 0]
    learn = [row for row in none if row.accuracy.low > 2 * CHANCE]
    stuck = [row for row in none if row not in learn]
    said = []
    if all_of_them:
        said.append(f"In all {seeds} runs: **{_named(all_of_them)}**.")
    if some:
        listed = ", ".join(f"{row.treatment.label} ({row.within} of {seeds})" for row in some)
        said.append(f"In some: {listed}.")
    if not all_of_them and not some:
        said.append("Nothing does.")
    if learn:
        said.append(f"It learns with {_named(learn)}, too little or too slowly to get there.")
    if stuck:
        said.append(f"It stays at chance, or near it, with {_named(stuck)}.")
    return "\n".join(said)


def _named(some: list[Row]) -> str:
    names = [f"{row.treatment.label} ({row.accuracy.value:.2f})" for row in some]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _line(row: Row, seeds: int, budget: int) -> str:
    accuracy = f"{row.accuracy.value:.3f} [{row.accuracy.low:.3f}, {row.accuracy.high:.3f}]"
    low, high = row.interval
    told = [f"{value:.0f}" if math.isfinite(value) else f"> {budget}" for value in (low, row.median, high)]
    lower, middle, upper = told
    work = middle if low == high == row.median else f"{middle} [{lower}, {upper}]"
    return (
        f"| {row.treatment.label} | `{row.setting}` | {accuracy} | {row.within} of {seeds} | {work} | {row.work} | "
        f"{row.seconds:.1f} |"
    )


def _grid(settings: list[str]) -> str:
    name, key = settings[0].partition("=")[0].split("(")
    values = ", ".join(setting.partition("=")[2].rstrip(")") for setting in settings)
    return f"`{name}`, {key} {values}"


def draw(ledger: Ledger, out: Path) -> None:
    """Accuracy beside the work to get there, a line for each treatment."""
    from matplotlib.figure import Figure

    found, head = rows(ledger), ledger.header
    figure = Figure(figsize=(10, 0.36 * len(found) + 1.7), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = [-number for number in range(len(found))]
    _accuracies(left, found, places, goal(ledger), head["points"])
    _works(right, found, places, head["budget"])
    left.set_yticks(places, [row.treatment.label for row in found])
    left.set_ylim(-len(found) + 0.4, 0.6)
    for axes in (left, right):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", alpha=0.2, lw=0.7)
    figure.suptitle(
        f"Twenty sigmoid layers on digits, {head['budget']} gradient evaluations, {len(head['seeds'])} seeds",
        x=0.01, ha="left", fontsize=11,
    )  # fmt: skip
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(out, dpi=130, facecolor="white")


def _accuracies(axes: object, found: list[Row], places: list[int], enough: float, points: float) -> None:
    """Means with intervals, every run a dot below, and the two lines that matter."""
    axes.axvline(CHANCE, color=GREY, lw=1.2, ls=style(3).dash, label="chance")
    axes.axvline(enough, color=ORANGE, lw=1.4, ls=style(1).dash, label=f"shallow net less {points:g} points")
    for number, (row, y) in enumerate(zip(found, places, strict=True)):
        each = "one run" if number == 0 else None
        axes.plot(row.finals, [y - BELOW] * len(row.finals), "o", ms=4, color=GREY, alpha=0.5, mew=0, label=each)
        bars = [[row.accuracy.value - row.accuracy.low], [row.accuracy.high - row.accuracy.value]]
        axes.errorbar(
            [row.accuracy.value], [y], xerr=bars, fmt="D", ms=5, color=BLUE, elinewidth=1.8, capsize=3,
            label="mean or median, 95 % interval" if number == 0 else None,
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_xlabel("test accuracy at the end")


def _works(axes: object, found: list[Row], places: list[int], budget: int) -> None:
    """Medians with intervals as far as the budget reaches, every run that got there a dot below."""
    for row, y in zip(found, places, strict=True):
        there = [work for work in row.works if math.isfinite(work)]
        axes.plot(there, [y - BELOW] * len(there), "o", ms=4, color=GREY, alpha=0.5, mew=0)
        low, high = row.interval
        if math.isfinite(row.median):
            axes.plot([low, min(high, budget)], [y, y], color=BLUE, lw=1.8)
            axes.plot([row.median], [y], "D", ms=5, color=BLUE)
            if not math.isfinite(high):
                axes.plot([budget], [y], ">", ms=6, color=BLUE, clip_on=False)
        else:
            said = f"{len(there)} of {len(row.works)} runs at some point" if there else "no run"
            axes.text(0.02 * budget, y, said, va="center", fontsize=8.5, color=GREY)
    axes.set_xlim(0, 1.02 * budget)
    axes.set_xlabel("work until it is that near (gradient evaluations)")
