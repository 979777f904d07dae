"""What tuning saw: the best value after k points, the value against lr, and what became of it on fresh seeds."""

import math
from typing import Any, NamedTuple

import numpy as np

from ravine.report import words
from ravine.report.drawing import SMALL, Sheet, draw
from ravine.report.palette import DOTS, INK, style
from ravine.report.read import Race
from ravine.report.winner import ranked

SIZE = (440, 330)
_ROW, _TOP, _BOTTOM = 46, 6, 48
_LOOKS: dict[str, dict[str, Any]] = {
    "value": {},
    "not reached": {"open": True},
    "diverged": {"marker": "x", "mew": 1.8},
}


class Scale(NamedTuple):
    """The value that tuning is shown in: work where any point reached the goal, else the final metric."""

    label: str
    field: str
    more: bool
    low: float
    high: float
    logarithmic: bool = False

    @property
    def worst(self) -> float:
        return self.low if self.more else self.high

    def past(self, share: float) -> float:
        """The place beyond the worst value, by `share` of the axis."""
        if self.logarithmic:
            return self.high * math.exp(share * math.log(self.high / self.low))  # only where less is better
        return self.worst + (-share if self.more else share) * (self.high - self.low)


_LOST = 0.1  # how far past the worst value a point that diverged is drawn


def best_of_k(race: Race, name: str) -> str | None:
    """The best tuning value after k points, as SVG; None where nothing was tuned."""
    scale = _scale(race)
    if scale is None:
        return None
    label = f"Best {scale.label} after k points of tuning"
    return draw(name, label, SIZE, lambda sheet: _paint_best(sheet, race, scale))


def sensitivity(race: Race, name: str) -> str | None:
    """The tuning value against the learning rate, as SVG; None where no optimizer's lr was tuned."""
    scale = _scale(race)
    rates = {optimizer: _rated(found["tuning"]["points"]) for optimizer, found in race.optimizers.items()}
    if scale is None or not any(rates.values()):
        return None
    label = f"{scale.label.capitalize()} against learning rate, a line per optimizer"
    return draw(name, label, SIZE, lambda sheet: _paint_sensitivity(sheet, race, scale, rates))


def winners_curse(race: Race, name: str) -> str | None:
    """The tuning value beside the value on fresh seeds, as SVG; None where neither is known."""
    rows = [optimizer for optimizer in ranked(race) if None not in _gap(race, optimizer)]
    kinds = sorted({race.optimizers[optimizer]["tuning"]["value"] for optimizer in rows}, reverse=True)
    if not rows:
        return None
    size = (SIZE[0], _ROW * len(rows) + (_TOP + _BOTTOM) * len(kinds))
    label = f"Winner's curse: the value seen in tuning and the value on fresh seeds for {len(rows)} optimizers"
    return draw(name, label, size, lambda sheet: _paint_curse(sheet, race, rows, kinds))


def rate(setting: dict[str, Any]) -> float | None:
    """The learning rate in a setting; with several groups the first one's."""
    found = [value for key, value in setting.items() if key.rsplit(".", 1)[-1] == "lr"]
    usable = found and isinstance(found[0], int | float) and found[0] > 0
    return float(found[0]) if usable else None


def _gap(race: Race, optimizer: str) -> tuple[float | None, float | None]:
    tuning = race.optimizers[optimizer]["tuning"]
    return tuning["tuning_value"], tuning["rerun_value"]


def _rated(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that ended and have a rate, by it; `place` is where they stand in the list."""
    found = [point | {"lr": rate(point["setting"]), "place": place} for place, point in enumerate(points)]
    usable = [point for point in found if point["lr"] is not None and point["status"] != "failed"]
    return sorted(usable, key=lambda point: float(point["lr"]))


def tuned_by_work(race: Race) -> bool:
    """Whether the figures show work to the goal: at least one point reached it."""
    return any(point["work_to_goal"] is not None for point in _points(race))


def _points(race: Race) -> list[dict[str, Any]]:
    return [point for found in race.optimizers.values() for point in found["tuning"]["points"]]


def _scale(race: Race) -> Scale | None:
    points = _points(race)
    if tuned_by_work(race):
        return Scale("work to goal", "work_to_goal", False, 0, race.horizon)
    finals = [point["final_metric"] for point in points if point["final_metric"] is not None]
    if not finals:
        return None
    low, high = float(min(finals)), float(max(finals))
    far = float(np.quantile(finals, 0.1 if race.higher else 0.9))
    low, high = (far, high) if race.higher else (low, far)
    label = f"final {words.line(race.verdict['metric'], 24)}"
    if not race.higher and low > 0 and high / low > 20:
        return Scale(label, "final_metric", False, low / 1.15, high * 1.15, True)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return Scale(label, "final_metric", race.higher, low - margin, high + margin)


def _axes(sheet: Sheet, scale: Scale, lost: str) -> Any:
    axes = sheet.axes(58, 14, 74, 48)
    edge = scale.past(0.16 if lost else 0.06)
    axes.set(ylim=(edge, scale.high) if scale.more else (scale.low, edge))
    if scale.logarithmic:
        axes.set_yscale("log")
    unit = words.currency(None) if scale.field == "work_to_goal" else ""
    label = f"{scale.label} ({unit})" if unit else scale.label
    sheet.y_scale(axes, label, lambda value: words.tick(value) if scale.low <= value <= scale.high else "", 6)
    for height, text in ((scale.worst, "not reached" if not scale.more and unit else ""), (scale.past(_LOST), lost)):
        if text:
            axes.axhline(height, color=INK, alpha=0.5, lw=1, ls=DOTS, zorder=1)
            sheet.write(text, (1, height), axes.get_yaxis_transform(), dx=8, size=SMALL)
    return axes


def _paint_best(sheet: Sheet, race: Race, scale: Scale) -> None:
    axes = _axes(sheet, scale, "")
    for number, (optimizer, found) in enumerate(race.optimizers.items()):
        values = [point[scale.field] for point in found["tuning"]["points"]]
        worst = -math.inf if scale.more else math.inf
        best = (np.maximum if scale.more else np.minimum).accumulate([worst if v is None else v for v in values])
        heights = np.clip(np.nan_to_num(best, posinf=scale.worst, neginf=scale.worst), scale.low, scale.high)
        steps = np.arange(1, len(values) + 1)
        sheet.line(axes, steps, heights, number, ls=style(number).dash, drawstyle="steps-post", lw=1.8)
        seen = np.isfinite(best)
        for known in (True, False):
            places = [(float(k), float(h)) for k, h, s in zip(steps, heights, seen, strict=True) if s == known]
            value = [words.count(best[int(k) - 1]) if known else "not reached" for k, _ in places]
            tips = [f"{optimizer}, {int(k)} points: {said}" for (k, _), said in zip(places, value, strict=True)]
            sheet.points(axes, places, number, tips=tips, open=not known, ms=6)
    longest = max(len(found["tuning"]["points"]) for found in race.optimizers.values())
    axes.set_xlim(0.7, longest + 0.3)
    sheet.x_scale(axes, "points tried, in the order of the plan", lambda value: f"{value:.0f}", 8, whole=True)


def _paint_sensitivity(sheet: Sheet, race: Race, scale: Scale, rates: dict[str, list[dict[str, Any]]]) -> None:
    axes = _axes(sheet, scale, "diverged")
    axes.set_xscale("log")
    for number, (optimizer, points) in enumerate(rates.items()):
        heights = [_height(point, scale) for point in points]
        alone = all(len(point["setting"]) == 1 for point in points)  # else what differs is not the rate alone
        look = {"ls": style(number).dash, "lw": 1.4, "alpha": 0.8 if alone else 0.35}
        sheet.line(axes, [point["lr"] for point in points], heights, number, **look)
        for kind, marks in _LOOKS.items():
            mine = [point for point in points if _kind(point, scale) == kind]
            places = [(point["lr"], _height(point, scale)) for point in mine]
            tips = [f"{point['spec']}: {_said(point, scale)}" for point in mine]
            sheet.points(axes, places, number, tips=tips, ms=6, **marks)
        chosen = race.optimizers[optimizer]["tuning"]["chosen"]
        ring = [(point["lr"], _height(point, scale)) for point in points if point["place"] == chosen]
        sheet.points(axes, ring, number, marker="o", ms=14, mfc="none")
    sheet.x_scale(axes, "learning rate", words.tick, 6)


def _kind(point: dict[str, Any], scale: Scale) -> str:
    if point["status"] == "diverged":
        return "diverged"
    return "not reached" if point[scale.field] is None else "value"


def _height(point: dict[str, Any], scale: Scale) -> float:
    kind = _kind(point, scale)
    if kind == "diverged":
        return scale.past(_LOST)
    return scale.worst if kind == "not reached" else float(np.clip(point[scale.field], scale.low, scale.high))


def _said(point: dict[str, Any], scale: Scale) -> str:
    kind = _kind(point, scale)
    if kind != "value":
        return kind
    value = point[scale.field]
    return words.count(value) if scale.field == "work_to_goal" else words.metric(value)


def _paint_curse(sheet: Sheet, race: Race, rows: list[str], kinds: list[str]) -> None:
    numbers = {optimizer: number for number, optimizer in enumerate(race.optimizers)}
    top = 0.0
    for kind in kinds:
        mine = [optimizer for optimizer in rows if race.optimizers[optimizer]["tuning"]["value"] == kind]
        height = _ROW * len(mine) + _TOP + _BOTTOM
        axes = sheet.axes(14, top + _TOP, 30, sheet.height - top - height + _BOTTOM)
        top += height
        axes.set(ylim=(len(mine), 0))
        axes.spines["left"].set_visible(False)
        shown = words.count if kind == "work to goal" else words.metric
        for row, optimizer in enumerate(mine):
            tuned, rerun = (float(value or 0) for value in _gap(race, optimizer))
            number = numbers[optimizer]
            sheet.line(axes, [tuned, rerun], [row + 0.72] * 2, number, lw=2)
            sheet.points(axes, [(tuned, row + 0.72)], number, open=True, ms=8, tips=[f"tuning: {shown(tuned)}"])
            sheet.points(axes, [(rerun, row + 0.72)], number, ms=8, tips=[f"fresh seeds: {shown(rerun)}"])
            place = axes.get_yaxis_transform()
            sheet.write(words.line(optimizer, 34), (0, row + 0.32), place, bold=True)
            sheet.write(f"{shown(tuned)} → {shown(rerun)}", (1, row + 0.32), place, anchor="end", size=SMALL)
        unit = f" ({words.currency(None)})" if kind == "work to goal" else ""
        named = kind.replace("metric", words.line(race.verdict["metric"], 24))
        axes.margins(x=0.06)
        sheet.x_scale(axes, named + unit, words.tick, 5, lines=True)
