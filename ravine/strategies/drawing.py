"""Pictures of strategies: a run in stages, and the matrix of a transfer."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravine.core.errors import RavineError
from ravine.report.palette import LIGHT, style
from ravine.strategies.transferring import Matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")
GREY = LIGHT[6]


def draw_stages(
    rows: Sequence[Mapping[str, Any]], out: str | Path, *, title: str, metric_name: str, direct: Sequence[Any] = ()
) -> Path:
    """What was judged on the way through the stages, from rows as `StageMoment.row` gives them, to a .png or .svg.

    A stage that is judged by something else than the last one (the hint's loss) is drawn in a panel of its own.
    direct: rows of a plain run to compare with.
    """
    figure, out = _figure(out)
    names = list(dict.fromkeys(row["stage"] for row in rows))
    panels = [["hint"], [name for name in names if name != "hint"]] if "hint" in names else [names]
    axes = figure.subplots(1, len(panels), squeeze=False)
    for panel, among in zip(axes[0], panels, strict=True):
        _stages(panel, [row for row in rows if row["stage"] in among], among)
        panel.set_xlabel("work (gradient evaluations)")
        panel.set_ylabel(f"{'hint loss' if among == ['hint'] else metric_name} on the validation data")
    if direct:
        finite = [(row["work"], row["metric"]) for row in direct if _finite(row["metric"])]
        look = {"color": GREY, "lw": 1.8, "ls": (0, (4, 3)), "label": "directly, at equal work"}
        axes[0][-1].plot(*zip(*finite, strict=True), **look)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(out, facecolor="white")
    return out


def _stages(axes: "Axes", rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Each stage a line; the last in the strongest colour, so that it is found among many."""
    for number, name in enumerate(names):
        points = [(row["work"], row["metric"]) for row in rows if row["stage"] == name and _finite(row["metric"])]
        if not points:
            continue
        last = number == len(names) - 1
        color = LIGHT[1] if last else LIGHT[0]
        label = name if last or number == 0 or len(names) <= 2 else None
        label = f"{name} to {names[-2]}" if number == 0 and len(names) > 2 else label
        axes.plot(*zip(*points, strict=True), color=color, lw=2.2 if last else 1.6, label=label)
        if number:
            axes.axvline(points[0][0], color=GREY, lw=0.7, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25, lw=0.7)


def draw_matrix(matrix: Matrix, out: str | Path) -> Path:
    """The matrix of a transfer as lines over the number of copied layers, with intervals, to a .png or .svg."""
    figure, out = _figure(out)
    axes = figure.subplots()
    base = matrix.estimate("baseB")
    axes.axhline(base.value, color=GREY, lw=1.6, ls=(0, (4, 3)), label="baseB, nothing copied")
    if _finite(base.low):
        axes.axhspan(base.low, base.high, color=GREY, alpha=0.12, lw=0)
    treatments = list(dict.fromkeys(name for name, k in matrix.values if k))
    for number, treatment in enumerate(treatments):
        found = [(k, matrix.estimate(treatment, k)) for k in matrix.layers]
        look = style(number)
        places = [k + 0.06 * (number - (len(treatments) - 1) / 2) for k, _ in found]  # intervals side by side
        values = [e.value for _, e in found]
        bars: Any = [[e.value - e.low for _, e in found], [e.high - e.value for _, e in found]]
        axes.errorbar(
            places, values, yerr=bars if all(map(math.isfinite, bars[0])) else None, color=look.color, ls=look.dash,
            marker=look.marker, lw=1.8, ms=6, elinewidth=1, label=f"{treatment}, {_said(treatment)}",
        )  # fmt: skip
    axes.set_xticks(matrix.layers)
    axes.set_xlim(min(matrix.layers) - 0.4, max(matrix.layers) + 0.4)
    axes.set_xlabel("copied layers n")
    axes.set_ylabel(f"{matrix.metric_name} on {matrix.task_b} (validation)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25, lw=0.7)
    seeds = f"{len(matrix.seeds)} seed{'s' if len(matrix.seeds) > 1 else ''}"
    bars_said = ", bars: 95 % intervals of the mean" if len(matrix.seeds) > 1 else ""
    axes.set_title(f"{matrix.task_a} to {matrix.task_b}, {seeds}{bars_said}", loc="left", fontsize=11)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(out, facecolor="white")
    return out


def _said(treatment: str) -> str:
    whence = "from A" if treatment.startswith("A") else "from B itself"
    return f"{whence}, {'fine-tuned' if treatment.endswith('+') else 'frozen'}"


def _figure(out: str | Path) -> tuple[Any, Path]:
    from matplotlib.figure import Figure

    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise RavineError(f"a picture must end in .png or .svg, got '{out}'")
    out.parent.mkdir(parents=True, exist_ok=True)
    return Figure(figsize=(8, 5), dpi=140, layout="constrained"), out


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
