"""Work to the goal, a row per optimizer: every run a dot, the median and its interval above them."""

from typing import Any

from ravine.report import words
from ravine.report.drawing import SMALL, Sheet, draw
from ravine.report.palette import DOTS, INK
from ravine.report.read import Race
from ravine.report.winner import ranked

_ROW, _TOP, _BOTTOM = 58, 6, 50


def work_to_goal(race: Race, name: str, width: float) -> str | None:
    """The figure as SVG, or None where the race had no goal."""
    if race.verdict["goal"] is None:
        return None
    rows = ranked(race)
    label = f"Work to the goal for {len(rows)} optimizers: each run, the median and its interval"
    size = (width, _TOP + _BOTTOM + _ROW * len(rows))
    return draw(name, label, size, lambda sheet: _paint(sheet, race, rows))


def _paint(sheet: Sheet, race: Race, rows: list[str]) -> None:
    axes = sheet.axes(12, _TOP, 34, _BOTTOM)
    axes.set(xlim=(0, race.horizon), ylim=(len(rows), 0))
    axes.spines["left"].set_visible(False)
    axes.axvline(race.horizon, color=INK, alpha=0.5, lw=1, ls=DOTS)
    numbers = {optimizer: number for number, optimizer in enumerate(race.optimizers)}
    for row, optimizer in enumerate(rows):
        _row(sheet, axes, race, row, optimizer, numbers[optimizer])
    most = 10 if sheet.width > 600 else 4
    sheet.x_scale(axes, words.currency(race.verdict.get("batch_size")), words.count, most, lines=True)


def _row(sheet: Sheet, axes: Any, race: Race, row: int, optimizer: str, number: int) -> None:
    found, limit, runs = race.optimizers[optimizer], race.horizon, race.optimizers[optimizer]["runs"]
    crossed = [run for run in runs if run["work_to_goal"] is not None]
    text = f"{words.crossing(found['work_to_goal'], limit, race.verdict['goal'])} · {len(crossed)} of {len(runs)}"
    title = words.line(optimizer, 60 if sheet.width > 600 else 24)
    sheet.write(title, (0, row + 0.2), axes.transData, bold=True)
    sheet.write(text, (limit, row + 0.2), axes.transData, anchor="end", size=SMALL)
    height = {run["id"]: row + 0.86 + 0.07 * (place % 3 - 1) for place, run in enumerate(runs)}
    tips = [f"{optimizer}, seed {run['seed']}: {words.count(run['work_to_goal'])}" for run in crossed]
    places = [(run["work_to_goal"], height[run["id"]]) for run in crossed]
    sheet.points(axes, places, number, tips=tips, ms=5.5, mew=0, alpha=0.55)
    _missed(sheet, axes, [run for run in runs if run["work_to_goal"] is None], (limit, row + 0.86), optimizer, number)
    _interval(sheet, axes, found["work_to_goal"] or {}, row + 0.56, number, limit)


def _missed(
    sheet: Sheet, axes: Any, runs: list[dict[str, Any]], at: tuple[float, float], optimizer: str, number: int
) -> None:
    """Marks piled up at the horizon, leftwards: open for runs that never crossed, crosses for those that broke off."""
    runs = sorted(runs, key=lambda run: run["status"] != "done")
    step = 0.03 / max(2, len(runs))  # however many: they must not be taken for crossings
    places = [(at[0] * (1 - step * place), at[1]) for place in range(len(runs))]
    for whole, look in ((True, {"open": True}), (False, {"marker": "x", "mew": 1.8})):
        mine = [place for run, place in zip(runs, places, strict=True) if (run["status"] == "done") == whole]
        said = ["not reached" if whole else run["status"] for run in runs if (run["status"] == "done") == whole]
        tips = [f"{optimizer}: {text}" for text in said]
        sheet.points(axes, mine, number, tips=tips, ms=6, **look)


def _interval(sheet: Sheet, axes: Any, work: dict[str, Any], height: float, number: int, limit: float) -> None:
    low, median, high = (work.get(key) for key in ("low", "median", "high"))
    if low is not None:
        end = limit if high is None else high
        ends = [0] if high is None else [0, 1]
        sheet.line(axes, [low, end], [height] * 2, number, lw=2.4, marker="|", ms=10, mew=2.4, markevery=ends)
        if high is None:
            sheet.points(axes, [(limit, height)], number, marker=">", ms=6, mew=0)
    if median is not None:
        sheet.points(axes, [(median, height)], number, ms=10, mew=0)
