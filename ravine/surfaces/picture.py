"""A surface and the ways on it as one picture: contours on the left, loss against work on the right."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ravine.report.palette import style
from ravine.surfaces.definition import Surface
from ravine.surfaces.grid import Values, grid, levels
from ravine.surfaces.scale import crossing, loss_limits
from ravine.surfaces.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, DPI = 11.0, 100
INK, SOFT, CONTOUR = "#1b1f23", "#59626b", "#5d7891"
HIGH, LOW = "#f9fbfc", "#bfd0df"
LEFT, COLUMNS = 0.7, 3


def png(surface: Surface, walked: Sequence[Trajectory], path: Path, scale: float = 2.0) -> None:
    """Write the picture, at twice the usual number of dots."""
    with plain_style():
        picture = Picture(surface, walked)
        picture.show(None)
        picture.figure.savefig(path, format="png", dpi=scale * DPI, metadata={"Software": "ravine"})


class Picture:
    """The figure: what stands still is drawn once, the ways as far as `show` says."""

    def __init__(self, surface: Surface, walked: Sequence[Trajectory]) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.surface, self.walked = surface, walked
        rows = -(-len(walked) // COLUMNS)
        below, above, plot = 0.78 + 0.42 * rows, 0.95, 4.9
        height = above + plot + below
        self.figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)
        bottom, tall = below / height, plot / height
        self.map = self.figure.add_axes((LEFT / WIDTH, bottom, 5.45 / WIDTH, tall))
        self.curve = self.figure.add_axes((7.05 / WIDTH, bottom, 3.75 / WIDTH, tall))
        self.moving: list[tuple[Any, Any, Any, Any]] = []
        self._title(height)
        self._map()
        self._curve()
        self._legend(height, below - 0.72)
        for number in range(len(walked)):
            self._way(number)

    def _title(self, height: float) -> None:
        at = LEFT / WIDTH
        name = self.surface.name.replace("_", " ").capitalize()
        self.figure.text(at, 1 - 0.36 / height, name, size=17, weight="bold", color=INK, va="center", parse_math=False)
        told = self.surface.summary
        self.figure.text(at, 1 - 0.68 / height, told, size=11, color=SOFT, va="center", parse_math=False)

    def _map(self) -> None:
        axes, (left, right, low, high) = self.map, self.surface.window
        contours(axes, self.surface)
        axes.set(xlim=(left, right), ylim=(low, high))
        first, second = self.surface.axes
        axes.set_xlabel(first, parse_math=False)
        axes.set_ylabel(second, parse_math=False, rotation=0, labelpad=6)
        for x, y in self.surface.minima:
            axes.plot(x, y, marker="*", ms=13, mfc="white", mec=INK, mew=1.1, ls="none", zorder=5.9)
        x, y = self.walked[0].x[0], self.walked[0].y[0]
        axes.plot(x, y, marker="o", ms=9, mfc="white", mec=INK, mew=1.6, ls="none", zorder=4)
        beside = 9 if x < (left + right) / 2 else -9
        self.label = axes.annotate(
            "start", (x, y), (beside, 9), textcoords="offset points", size=10, color=INK, zorder=9,
            ha="left" if beside > 0 else "right", path_effects=halo(3),
        )  # fmt: skip

    def _curve(self) -> None:
        from matplotlib.ticker import NullFormatter

        axes = self.curve
        low, high, logarithmic = loss_limits([one.loss for one in self.walked])
        axes.set_yscale("log" if logarithmic else "linear")
        axes.yaxis.set_minor_formatter(NullFormatter())
        end = max(one.work[-1] for one in self.walked)
        axes.set(xlim=(0, max(1, end)), ylim=(low, high))
        axes.set_xlabel("gradient evaluations")
        axes.set_title("loss", loc="left", size=10, color=INK, pad=6)
        axes.grid(axis="y", color=INK, alpha=0.1, lw=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(which="minor", length=0)

    def _legend(self, height: float, from_top: float) -> None:
        """A row of keys below: a line and a marker, the name, and what is to be said of it."""
        from matplotlib.lines import Line2D

        for number, one in enumerate(self.walked):
            row, column = divmod(number, COLUMNS)
            x, y = (LEFT + column * 3.45) / WIDTH, (from_top - 0.42 * row) / height
            look = style(number)
            key = Line2D(
                [x, x + 0.36 / WIDTH], [y, y], color=look.color, lw=2.6, marker=look.marker, markevery=[1], ms=7.5,
                mec="white", mew=0.9, transform=self.figure.transFigure,
            )  # fmt: skip
            self.figure.add_artist(key)
            write: dict[str, Any] = {"va": "center_baseline", "parse_math": False}
            at = x + 0.5 / WIDTH
            self.figure.text(at, y + 0.075 / height, cut(one.name), size=10.5, color=INK, weight="bold", **write)
            self.figure.text(at, y - 0.095 / height, cut("; ".join(one.notes), 48), size=9, color=SOFT, **write)

    def _way(self, number: int) -> None:
        look, order = style(number), 5 + number / 100
        common: dict[str, Any] = {"color": look.color, "solid_capstyle": "round", "solid_joinstyle": "round"}
        (line,) = self.map.plot([], [], lw=2.4, zorder=order, path_effects=halo(4.2), **common)
        (curve,) = self.curve.plot([], [], lw=2, zorder=order, **common)
        head: dict[str, Any] = {"marker": look.marker, "ms": 9, "mfc": look.color, "mec": "white", "mew": 1.2}
        (end,) = self.map.plot([], [], ls="none", zorder=order + 1, clip_on=False, **head)
        (mark,) = self.curve.plot([], [], ls="none", zorder=order + 1, clip_on=False, **(head | {"ms": 7.5}))
        self.moving.append((line, end, curve, mark))

    def show(self, until: float | None) -> None:
        """The ways until so many gradient evaluations; to their ends for None."""
        lowest = self.curve.get_ylim()[0]
        for one, (line, end, curve, mark) in zip(self.walked, self.moving, strict=True):
            n = len(one.work) if until is None else int(np.searchsorted(one.work, until, side="right"))
            loss = np.maximum(one.loss[:n], lowest)
            line.set_data(one.x[:n], one.y[:n])
            curve.set_data(one.work[:n], loss)
            last, before = (one.x[n - 1], one.y[n - 1]), max(0, n - 2)
            x, y = crossing(self.surface.window, (one.x[before], one.y[before]), last)
            end.set_data([x], [y])
            mark.set_data([one.work[n - 1]], [min(loss[-1], self.curve.get_ylim()[1])])


def contours(axes: "Axes", surface: Surface) -> None:
    """The surface as thin lines over bands of grey blue, the darker the lower."""
    from matplotlib.colors import LinearSegmentedColormap

    x, y, values = grid(surface)
    rising = levels(surface, values)
    axes.set_facecolor(HIGH)
    if len(rising) == 0:
        return
    bands: Values = np.concatenate(([min(np.nanmin(values), rising[0]) - 1], rising, [np.nanmax(values) + 1]))
    shades = LinearSegmentedColormap.from_list("ravine", [LOW, HIGH])(np.linspace(0, 1, len(bands) - 1))
    axes.contourf(x, y, values, bands, colors=list(shades))
    axes.contour(x, y, values, rising, colors=CONTOUR, linewidths=0.6, alpha=0.6, negative_linestyles="solid")


def halo(width: float) -> list[Any]:
    """A white edge, so that ways can be told apart where they cross."""
    from matplotlib.patheffects import Normal, Stroke

    return [Stroke(linewidth=width, foreground="white", alpha=0.85), Normal()]


def cut(text: str, most: int = 36) -> str:
    """`text` on one line, without its middle where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 12]}…{text[-11:]}"


@contextmanager
def plain_style() -> Iterator[None]:
    """Matplotlib's defaults, whatever the user's own are: the same ways give the same picture everywhere."""
    import matplotlib

    with matplotlib.rc_context():
        dict.update(matplotlib.rcParams, matplotlib.rcParamsDefault)
        colors = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
        settings: dict[str, Any] = {"axes.edgecolor": "#8a949e", "axes.linewidth": 0.8, "font.size": 10, **colors}
        matplotlib.rcParams.update(settings)  # type: ignore[arg-type]  # its keys are typed one by one
        yield
