"""The signal through depth as a picture, forward and backward, and through time for recurrent layers."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravine.core.errors import RavineError
from ravine.init import Findings
from ravine.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _MUTED = "#2b2b2b", "#8a8a8a"
_MOST_NAMES = 24
_MARKS = {"warn": ("^", LIGHT[4]), "fail": ("X", LIGHT[1])}
_FORWARD, _BACKWARD = ("activation std", "likeness", "effective rank", "dead", "saturated"), ("gradient std",)


def plot_signal(found: Findings, path: str | Path | None = None, *, title: str = "") -> "Figure":
    """Layer by layer in the order of execution: the standard deviation of outputs, of the gradient in them, and the
    root mean square of the weights' gradient, on logarithmic axes; below, for recurrent layers, the state and what
    arrives of a gradient at each step. Triangles warn, crosses fail. It is written to `path` where that is given.
    """
    from matplotlib.figure import Figure

    if not found.signals:
        raise RavineError("there is no layer to draw")
    rows = 3 if found.time else 2
    made = Figure(figsize=(9.6, 2.5 * rows + 1.4), layout="constrained")
    axes = made.subplots(rows, 1)
    for above in axes[:2]:
        above.sharex(axes[0])
    signals = found.signals
    _line(axes[0], [one.std for one in signals], LIGHT[0], "outputs", "-", "o")
    _line(axes[0], [one.across for one in signals], LIGHT[2], "outputs, across examples", (0, (6, 2)), "s")
    _line(axes[1], [one.gradient for one in signals], LIGHT[0], "gradient in outputs", "-", "o")
    _line(axes[1], [one.per_weight for one in signals], LIGHT[2], "gradient in weights", (0, (6, 2)), "s")
    _marks(axes[0], found, [one.std for one in signals], _FORWARD)
    _marks(axes[1], found, [_either(one.gradient, one.per_weight) for one in signals], _BACKWARD)
    axes[0].axhline(1.0, color=_MUTED, lw=0.8, zorder=0.5)
    _finish(axes[0], "forward: std")
    _finish(axes[1], "backward: std")
    _names(axes[0], axes[1], [one.name for one in signals])
    if found.time:
        _through_time(axes[2], found)
    made.suptitle(f"{title}\nverdict: {found.verdict}" if title else f"verdict: {found.verdict}", fontsize=11)
    if path is not None:
        made.savefig(path, dpi=120, facecolor="white")
    return made


def _either(a: float | None, b: float | None) -> float | None:
    return b if a is None else a


def _drawn(values: Sequence[float | None]) -> list[float]:
    return [value if value is not None and 0 < value < math.inf else math.nan for value in values]


def _line(axes: "Axes", values: Sequence[float | None], color: str, label: str, dash: Any, marker: str) -> None:
    few = len(values) <= 60
    axes.plot(range(len(values)), _drawn(values), color=color, ls=dash, marker=marker if few else "", ms=4, lw=1.6,
              label=label)  # fmt: skip


def _marks(axes: "Axes", found: Findings, values: Sequence[float | None], names: Sequence[str]) -> None:
    """Verdicts at their layers; where a value is zero or not finite, at the foot of the axes."""
    verdicts: dict[str, str] = {}
    for line in found.wrong:
        if line.name in names:
            verdicts.setdefault(line.layer, line.verdict)
    for verdict, (marker, color) in _MARKS.items():
        at = [n for n, one in enumerate(found.signals) if verdicts.get(one.name) == verdict]
        drawn = _drawn(values)
        inside = [n for n in at if not math.isnan(drawn[n])]
        outside = [n for n in at if math.isnan(drawn[n])]
        look: dict[str, Any] = {"marker": marker, "color": color, "ls": "none", "ms": 8, "zorder": 5, "mec": "white"}
        label = f"{verdict}" if at else None
        if at:
            axes.plot(inside, [drawn[n] for n in inside], label=label, **look)
        if outside:
            axes.plot(outside, [0.04] * len(outside), transform=axes.get_xaxis_transform(), clip_on=False, **look)


def _finish(axes: "Axes", label: str) -> None:
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high / max(low, 1e-300) < 100:  # a decade and more, so that what is even looks even
        middle = math.sqrt(low * high)
        axes.set_ylim(middle / 10, middle * 10)
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25, lw=0.7)
    axes.set_axisbelow(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)


def _names(above: "Axes", below: "Axes", names: Sequence[str]) -> None:
    above.tick_params(axis="x", labelbottom=False)
    every = math.ceil(len(names) / _MOST_NAMES)
    places = range(0, len(names), every)
    long = max(len(name) for name in names) * len(places) > 80
    below.set_xticks(list(places), [_short(names[n]) for n in places], rotation=40 if long else 0,
                     ha="right" if long else "center", fontsize=9)  # fmt: skip
    below.set_xlabel("layer, in the order of execution" + (f" (every {every}th is named)" if every > 1 else ""))


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"…{name[-21:]}"


def _through_time(axes: "Axes", found: Findings) -> None:
    for number, one in enumerate(found.time):
        color = LIGHT[number % len(LIGHT)]
        steps = range(1, len(one.std) + 1)
        axes.plot(steps, _drawn(one.arrives), color=color, lw=1.8, label=f"{one.name}: what arrives of a gradient")
        axes.plot(steps, _drawn(one.std), color=color, lw=1.4, ls=(0, (2, 1.6)), label=f"{one.name}: std of h")
        for line in found.wrong:
            if line.layer == one.name and line.name == "through time" and 0 < one.ratio < math.inf:
                marker, mark = _MARKS[line.verdict]
                axes.plot(1, one.ratio, marker=marker, color=mark, ms=8, mec="white", zorder=5, ls="none",
                          label=line.verdict)  # fmt: skip
    axes.set_xlabel("step t (the last one is T)")
    _finish(axes, "through time")
