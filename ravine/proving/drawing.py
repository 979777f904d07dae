"""From a claim's figure, which is numbers, to an SVG: panels side by side, each with its legend below."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ravine.core.figure import Figure, Panel, Series
from ravine.report import words
from ravine.report.drawing import SMALL, Sheet, draw
from ravine.report.palette import INK, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE, PANEL = 760, 460
"""Width of the figure in pixels, and of a panel that stands alone."""
_HEIGHT, _LEFT, _RIGHT, _TOP, _BELOW, _LINE = 300, 66, 20, 30, 48, 19
_CONTOURS = "#7a94ab"
_FONT = "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"


def svg(figure: Figure, name: str) -> str:
    """The figure; `name` keeps its ids apart from those of others on the page."""
    count = len(figure.panels)
    width = WIDE if count > 1 else PANEL + 100
    rows = max(-(-len(_entries(panel)) // _columns(count)) for panel in figure.panels)
    height = _HEIGHT + _LINE * rows + 8

    def paint(sheet: Sheet) -> None:
        share = width / count
        for number, panel in enumerate(figure.panels):
            _paint(sheet, panel, (share * number, share), _LINE * rows + 8, _columns(count))

    return draw(name, figure.caption, (width, height), paint)


def alone(drawn: str) -> str:
    """The SVG as a file of its own, which has no page to take its colours from: on a white ground."""
    end = drawn.index(">") + 1
    root = drawn[: end - 1] + f' font-family="{_FONT}">'
    return f'{root}<rect width="100%" height="100%" fill="#ffffff"/>{drawn[end:]}\n'


def _columns(panels: int) -> int:
    """Those of the legend."""
    return 2 if panels == 1 else 1


def _paint(sheet: Sheet, panel: Panel, place: tuple[float, float], legend: float, columns: int) -> None:
    left, width = place
    axes = sheet.axes(left + _LEFT, _TOP if panel.title else 10, sheet.width - left - width + _RIGHT, _BELOW + legend)
    axes.set_xscale("log" if "x" in panel.log else "linear")
    axes.set_yscale("log" if "y" in panel.log else "linear")
    if panel.ground:
        ground = panel.ground
        axes.contour(ground.x, ground.y, ground.z, levels=ground.levels, colors=_CONTOURS, linewidths=0.7, alpha=0.7)
    numbers = _numbers(panel.series)
    bars = [series for series in panel.series if series.kind == "bars"]
    for series in panel.series:
        if series.kind == "bars":
            _bars(sheet, axes, series, numbers[id(series)], bars.index(series), len(bars))
        else:
            _curve(sheet, axes, series, numbers.get(id(series)), "y" in panel.log)
    _limit(axes, panel)
    few = 5 if width < PANEL else 7
    if panel.at:
        _names(sheet, axes, panel)
    else:
        sheet.x_scale(axes, panel.x, words.tick, few)
    sheet.y_scale(axes, "", words.tick, 6)
    sheet.write(panel.y, (0, 0.5), axes.transAxes, dx=12 - _LEFT, anchor="middle", turned=True)
    if panel.title:
        sheet.write(panel.title, (0, 1), axes.transAxes, dy=-15, bold=True)
    for number, series in enumerate(_entries(panel)):
        row, column = divmod(number, columns)
        at = (column * (width - _LEFT - _RIGHT) / columns, 54 + _LINE * row)
        _entry(sheet, axes, series, numbers.get(id(series)), at)


def _limit(axes: "Axes", panel: Panel) -> None:
    if panel.limits:
        axes.set(xlim=panel.limits[:2], ylim=panel.limits[2:])
        return
    axes.margins(0.04, 0.06)
    axes.autoscale_view()
    if any(series.kind == "bars" for series in panel.series) and "y" not in panel.log:
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 0), max(high, 0))


def _numbers(series: Sequence[Series]) -> dict[int, int]:
    """The number in the palette of each series that is no reference."""
    own = [one for one in series if one.kind != "reference"]
    return {id(one): number for number, one in enumerate(own)}


def _entries(panel: Panel) -> list[Series]:
    """The series that the legend names: of several with the same label, the first."""
    named = {series.label: series for series in reversed(panel.series) if series.label}
    return [series for series in panel.series if named.get(series.label) is series]


def _curve(sheet: Sheet, axes: "Axes", series: Series, number: int | None, log: bool) -> None:
    if number is None:
        axes.plot(series.x, series.y, color=INK, alpha=0.55, lw=1.2, ls=(0, (4, 3)), zorder=1.8)
        return
    look = style(number)
    if series.low is not None and series.high is not None:
        if series.kind == "line":
            axes.fill_between(series.x, series.low, series.high, color=look.color, alpha=0.16, linewidth=0)
        else:
            axes.vlines(series.x, series.low, series.high, color=look.color, lw=1.4)
    y = [value if not log or value > 0 else math.nan for value in series.y]
    marks: dict[str, Any] = {"marker": look.marker, "ms": 5, "mew": 0}
    if series.kind == "points":
        sheet.line(axes, series.x, y, number, ls="none", **marks)
    else:
        if series.kind == "line":
            marks["markevery"] = _sparse(number)
        sheet.line(axes, series.x, y, number, ls=look.dash, lw=1.8, **marks)


def _sparse(number: int) -> tuple[float, float]:
    """Where on a line its markers stand, in shares of the axes: few, and at other places than a neighbour's."""
    return 0.05 + 0.04 * (number % 4), 0.2


def _bars(sheet: Sheet, axes: "Axes", series: Series, number: int, place: int, count: int) -> None:
    gap = min((abs(b - a) for a, b in zip(series.x, series.x[1:], strict=False)), default=1.0)
    width = 0.72 * gap / count
    x = [value + (place - (count - 1) / 2) * width for value in series.x]
    made = axes.bar(x, series.y, 0.9 * width, color=style(number).color, alpha=0.85, zorder=2)
    for bar in made:
        bar.set_linewidth(0)
    if series.low is not None and series.high is not None:
        axes.vlines(x, series.low, series.high, color=INK, lw=1.3, zorder=3)


def _names(sheet: Sheet, axes: "Axes", panel: Panel) -> None:
    across = axes.get_xaxis_transform()
    axes.set_xlim(axes.get_xlim())
    for name, place in panel.at.items():
        sheet.write(name, (place, 0), across, dy=13, anchor="middle", size=SMALL)
    sheet.write(panel.x, (0.5, 0), axes.transAxes, dy=32, anchor="middle")


def _entry(sheet: Sheet, axes: "Axes", series: Series, number: int | None, at: tuple[float, float]) -> None:
    """An entry of the legend, `at` so many pixels right of and below the axes' corner: a sample, and the label."""
    pixel = 1 / (axes.get_position().width * sheet.width)
    x, y = at[0] * pixel, -at[1] / (axes.get_position().height * sheet.height)
    ends = ([x, x + 26 * pixel], [y, y])
    where: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    if number is None:
        axes.plot(*ends, color=INK, alpha=0.55, lw=1.2, ls=(0, (4, 3)), **where)
    elif series.kind == "bars":
        axes.plot(*ends, color=style(number).color, lw=8, solid_capstyle="butt", alpha=0.85, **where)
    else:
        look = style(number)
        lines = {"ls": "none"} if series.kind == "points" else {"ls": look.dash, "lw": 1.8}
        middle = [x + 13 * pixel]
        axes.plot(*ends, color=look.color, **(lines | where))
        axes.plot(middle, [y], color=look.color, marker=look.marker, ms=5, mew=0, ls="none", **where)
    sheet.write(series.label, (x + 33 * pixel, y), axes.transAxes, size=SMALL)
