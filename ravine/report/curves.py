"""Learning curves: the metric against work, the median of the reruns and the band that holds their middle half."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ravine.report import words
from ravine.report.drawing import SMALL, Sheet, draw
from ravine.report.palette import DOTS, INK, style
from ravine.report.read import Race

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = NDArray[np.float64]

_POINTS = 300  # on a curve: more than a screen shows
_WORST = 1e300  # stands for "diverged": past every value, yet quantiles between it and a value are defined


class Band(NamedTuple):
    """Quartiles and median of the metric at each `work`; NaN where so many runs had diverged that there is none."""

    work: Values
    low: Values
    median: Values
    high: Values


def learning_curves(race: Race, bands: dict[int, Band], name: str, size: tuple[float, float]) -> str | None:
    """The figure as SVG, or None where there is not one record to draw."""
    if not bands:
        return None
    metric = words.line(race.verdict["metric"], 30)
    label = f"Learning curves: {metric} against work for {len(bands)} optimizers, with the goals as lines"
    return draw(name, label, size, lambda sheet: _paint(sheet, race, bands, metric))


def bands(race: Race) -> dict[int, Band]:
    """What can be drawn of each optimizer, by its number in the plan."""
    found = {number: band(race, optimizer) for number, optimizer in enumerate(race.optimizers)}
    return {number: one for number, one in found.items() if np.isfinite(one.median).any()}


def band(race: Race, optimizer: str) -> Band:
    """What the reruns of `optimizer` did. A run that diverged counts as the worst from there on: it is not dropped."""
    worst = -_WORST if race.higher else _WORST
    runs = [race.records[run["id"]] for run in race.optimizers[optimizer]["runs"] if run["id"] in race.records]
    runs = [run for run in runs if run.rows]
    grid = sorted({float(row["work"]) for run in runs for row in run.rows})
    place = {work: column for column, work in enumerate(grid)}
    values = np.full((len(runs), len(grid)), math.nan)
    for line, run in zip(values, runs, strict=True):
        columns = [place[float(row["work"])] for row in run.rows]
        line[columns] = [worst if row.get("metric") is None else row["metric"] for row in run.rows]
        if run.status == "diverged":
            line[columns[-1] + 1 :] = worst
    if not grid:
        return Band(*[np.empty(0)] * 4)
    low, median, high = np.nanquantile(values, (0.25, 0.5, 0.75), axis=0)
    median = np.where(np.abs(median) < _WORST / 1e6, median, math.nan)
    keep = np.unique(np.linspace(0, len(grid) - 1, min(len(grid), _POINTS)).round().astype(int))
    return Band(*(part[keep] for part in (np.array(grid), low, median, high)))


def _paint(sheet: Sheet, race: Race, bands: dict[int, Band], metric: str) -> None:
    axes = sheet.axes(60, 14, 100, 48)
    low, high, logarithmic = _limits(race, list(bands.values()))
    if logarithmic:
        axes.set_yscale("log")
    axes.set(xlim=(0, race.horizon), ylim=(low, high))
    for number, found in bands.items():
        ends = np.clip(found.low, low, high), np.clip(found.high, low, high)
        shown = np.isfinite(found.median)
        area = axes.fill_between(
            found.work, *ends, where=shown.tolist(), color=style(number).color, alpha=0.16, linewidth=0
        )
        area.set_gid(f"series-{number}-{len(sheet.tips)}")
        sheet.tips.append(())
        every = max(1, len(found.work) // 8)
        first = (number * every) // max(1, len(bands)) % every
        marks: dict[str, Any] = {"marker": style(number).marker, "ms": 6, "mew": 0, "markevery": (first, every)}
        sheet.line(axes, found.work, found.median, number, ls=style(number).dash, **marks)
    _goals(axes, race, (low, high), sheet)
    sheet.x_scale(axes, words.currency(race.verdict.get("batch_size")), words.count, 10 if sheet.width > 600 else 4)
    sheet.y_scale(axes, metric, words.tick, 7)


def _limits(race: Race, bands: list[Band]) -> tuple[float, float, bool]:
    """The axis shows the region where the race is decided: the first, steepest part of the curves may lie outside."""
    medians = np.concatenate([found.median for found in bands])
    medians = medians[np.isfinite(medians)]
    goals = [goal for goal in race.verdict["goals"].values() if goal is not None]
    edges = np.concatenate([found.high if race.higher else found.low for found in bands])
    edges = edges[np.abs(edges) < _WORST / 1e6]
    finals = [found.median[np.isfinite(found.median)][-1] for found in bands]
    best, worst = (np.max, np.min) if race.higher else (np.min, np.max)
    good = float(best([*edges, *medians, *goals]))
    bad = float(worst([np.quantile(medians, 0.2 if race.higher else 0.8), np.median(finals), *goals]))
    if not race.higher and good > 0 and bad / good > 20:
        return good / 1.15, bad * 1.15, True
    margin = 0.05 * abs(good - bad) or 0.05 * abs(good) or 0.05
    return min(good, bad) - margin, max(good, bad) + margin, False


def _goals(axes: "Axes", race: Race, limits: tuple[float, float], sheet: Sheet) -> None:
    """The goals as lines, labelled in the right margin; labels that would touch are moved apart."""
    goals = sorted((value, key) for key, value in race.verdict["goals"].items() if value is not None)
    main = race.verdict["goal"]
    if main is not None and main not in [value for value, _ in goals]:
        goals = sorted([*goals, (main, "")])
    places = [float(axes.transAxes.inverted().transform(axes.transData.transform((0, value)))[1]) for value, _ in goals]
    gap = 15 / (axes.get_position().height * sheet.height)
    for (value, key), place in zip(goals, _apart(places, gap), strict=True):
        strong = value == main
        axes.axhline(value, color=INK, alpha=0.9 if strong else 0.45, lw=1.3 if strong else 1, ls=DOTS, zorder=1)
        text = f"goal {words.plain(value)}" if strong else f"{key + '%: ' if key.isdigit() else ''}{words.plain(value)}"
        sheet.write(text, (1, place), axes.transAxes, dx=10, size=SMALL, bold=strong)


def _apart(places: list[float], gap: float) -> list[float]:
    """`places`, ascending, moved as little as leaves `gap` between neighbours."""
    moved = list(places)
    for _ in range(50):
        for below in range(len(moved) - 1):
            lack = gap - (moved[below + 1] - moved[below])
            if lack > 1e-9:
                moved[below] -= lack / 2
                moved[below + 1] += lack / 2
    return moved
