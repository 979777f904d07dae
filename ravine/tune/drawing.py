"""The picture of a test: what the loss did while the lr climbed, the short runs at fixed rates, and the answer."""

import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravine.core.errors import RavineError
from ravine.report.palette import LIGHT
from ravine.tune.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")
BLUE, ORANGE, GREEN, GREY = LIGHT[0], LIGHT[1], LIGHT[2], LIGHT[6]


def check_place(out: Path) -> None:
    """Raise unless a picture can be written to `out`."""
    if out.suffix not in SUFFIXES:
        raise RavineError(f"--out must end in .png or .svg, got '{out}'")
    if out.parent.exists() and not out.parent.is_dir():
        raise RavineError(f"'{out.parent}' is no folder: the picture cannot be written there")


def draw(result: Result, out: str | Path) -> Path:
    """Write the picture of `result` to `out`, a .png or .svg; raises `RavineError` for another ending."""
    from matplotlib.figure import Figure

    out = Path(out)
    check_place(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(8, 5.2), dpi=140, layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    if result.method == "range":
        _sweeps(axes, result.curve["sweeps"])
    _runs(axes, result)
    _answer(axes, result)
    _frame(axes, result)
    said = "" if result.suggestion is not None else ": no learning rate can be told"
    axes.set_title(f"{result.task}, {result.spec or 'live optimizer'}{said}", loc="left", fontsize=11)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(out, facecolor="white")
    return out


def _sweeps(axes: "Axes", sweeps: list[dict[str, Any]]) -> None:
    """Every seed's smoothed loss thin, and their median, as far as most seeds got."""
    for number, sweep in enumerate(sweeps):
        label = "sweep of one seed, smoothed" if number == 0 else None
        axes.plot(sweep["lr"], sweep["smoothed"], color=BLUE, lw=0.9, alpha=0.55, label=label)
    longest = max(sweeps, key=lambda sweep: len(sweep["lr"]))
    middle = []
    for i in range(len(longest["lr"])):
        there = [s["smoothed"][i] for s in sweeps if i < len(s["smoothed"]) and _finite(s["smoothed"][i])]
        if len(there) <= len(sweeps) / 2:
            break
        middle.append(statistics.median(there))
    axes.plot(longest["lr"][: len(middle)], middle, color=BLUE, lw=2.4, label="their median")


def _runs(axes: "Axes", result: Result) -> None:
    """Where the runs at fixed lrs ended: hollow those of the shorter first round, filled the longer, crosses failed."""
    tries = result.curve["validation"]
    lengths = sorted({one["evaluations"] for one in tries if not one["failed"]})
    for number, length in enumerate(lengths):
        some = [one for one in tries if one["evaluations"] == length and not one["failed"]]
        longest = number == len(lengths) - 1
        look: dict[str, Any] = {"color": ORANGE} if longest else {"facecolors": "white", "edgecolors": ORANGE}
        ends = [one["end"] for one in some]
        label = f"fixed lr, loss after {length} evaluations"
        axes.scatter([one["lr"] for one in some], ends, s=44, zorder=4, label=label, **look)
    if failed := [one["lr"] for one in tries if one["failed"]]:
        look = {"marker": "x", "color": ORANGE, "s": 44, "zorder": 4, "clip_on": False}
        axes.scatter(
            failed, [0.97] * len(failed), transform=axes.get_xaxis_transform(), label="fixed lr, failed", **look
        )


def _answer(axes: "Axes", result: Result) -> None:
    if result.low is not None and result.high is not None:
        axes.axvspan(result.low, result.high, color=GREEN, alpha=0.15, lw=0, label="interval")
    if result.suggestion is not None:
        axes.axvline(result.suggestion, color=GREEN, lw=2, label=f"suggested, {result.suggestion:.2g}")
    if result.diverges_at is not None:
        axes.axvline(
            result.diverges_at, color=GREY, lw=1.4, ls=(0, (4, 3)), label=f"diverges at {result.diverges_at:.2g}"
        )


def _frame(axes: "Axes", result: Result) -> None:
    """The heights that matter: from the lowest end of a run to a bit above the start, where diverging curves leave."""
    starts = [sweep["level"] for sweep in result.curve["sweeps"] if _finite(sweep["level"])]
    ends = [one["end"] for one in result.curve["validation"] if not one["failed"] and _finite(one["end"])]
    seen = [loss for sweep in result.curve["sweeps"] for loss in sweep["smoothed"] if _finite(loss)]
    if starts and (ends or seen):
        top, bottom = max([*starts, *ends]), min([*ends, *seen])
        room = max(top - bottom, 0.02 * abs(top), 1e-12)
        axes.set_ylim(bottom - 0.08 * room, top + 0.3 * room)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25, lw=0.7)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_xlabel("learning rate" + (" of the first group" if len(result.lrs) > 1 else ""))
    axes.set_ylabel("training loss of a batch")


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
