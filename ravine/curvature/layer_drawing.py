"""Curvature layer by layer as a picture: the largest eigenvalue and the trace of each."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ravine.core.errors import RavineError
from ravine.curvature.survey import Layer
from ravine.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _LONGEST = "#2b2b2b", 34


def plot_layers(layers: Mapping[str, Layer], path: str | Path | None = None, *, title: str = "") -> "Figure":
    """A bar for each layer in the model's order, from the top: left the largest eigenvalue of its own block, right the
    trace. Whiskers are the bound on the eigenvalue and the 95 % interval of the trace; hatched bars did not converge.
    It is written to `path` where that is given.
    """
    from matplotlib.figure import Figure

    if not layers:
        raise RavineError("there is no layer to draw")
    made = Figure(figsize=(9.6, 1.7 + 0.34 * len(layers)), layout="constrained")
    left, right = made.subplots(1, 2, sharey=True)
    found = list(layers.values())
    tops = [(float(one.top.value[0]), float(one.top.error[0]), one.top.converged) for one in found]
    traces = [(float(one.trace.value), float(one.trace.error), one.trace.converged) for one in found]
    _bars(left, tops, LIGHT[0], "largest eigenvalue")
    _bars(right, traces, LIGHT[1], "trace (sum of eigenvalues)")
    left.set_yticks(range(len(layers)), [f"{_short(name)} ({one.size:,})" for name, one in layers.items()])
    left.set_ylabel("layer (numbers in it)")
    left.set_ylim(len(layers) - 0.4, -0.6)
    if title:
        made.suptitle(title)
    if path is not None:
        made.savefig(path, dpi=120, facecolor="white")
    return made


def _bars(axes: "Axes", told: list[tuple[float, float, bool]], color: str, label: str) -> None:
    places = range(len(told))
    values, errors = [one[0] for one in told], [one[1] for one in told]
    bars = axes.barh(places, values, height=0.62, color=color, alpha=0.75, lw=0)
    for bar, (_, _, converged) in zip(bars, told, strict=True):
        if not converged:
            bar.set(hatch="////", facecolor="white", edgecolor=color, alpha=1.0, linewidth=1.0)
    axes.errorbar(values, places, xerr=errors, fmt="none", ecolor=_INK, elinewidth=1.2, capsize=3)
    axes.axvline(0.0, color=_INK, lw=0.8)
    axes.set_xlabel(label)
    missed = sum(not converged for _, _, converged in told)
    axes.set_title(f"hatched: {missed} of {len(told)} did not converge" if missed else "", fontsize=10, loc="left")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25, lw=0.7)
    axes.set_axisbelow(True)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"
