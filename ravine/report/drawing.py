"""From matplotlib to an SVG that belongs to the page: its colours are the page's, its names its own, its text text."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from ravine.report import words
from ravine.report.palette import INK, PAPER, VARIABLES, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

TEXT, SMALL = 12, 11
_COLOR = re.compile("|".join(VARIABLES))


@dataclass
class Sheet:
    """The axes to draw on, `width` x `height` CSS pixels, and what the browser says over single points."""

    figure: "Figure"
    width: float
    height: float
    tips: list[Sequence[str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def axes(self, left: float, top: float, right: float, bottom: float) -> "Axes":
        """Axes inside these margins, in pixels, without any scale yet."""
        w, h = self.width, self.height
        made = self.figure.add_axes((left / w, bottom / h, (w - left - right) / w, (h - top - bottom) / h))
        made.spines[["top", "right"]].set_visible(False)
        made.xaxis.set_visible(False)
        made.yaxis.set_visible(False)
        return made

    def write(self, text: str, at: tuple[float, float], through: "Transform", **look: Any) -> None:
        """`text` beside the place `at`, moved by `dx` and `dy` pixels; `anchor` says which of its ends is there.

        It is put into the SVG as it is: matplotlib would spend most of its time on finding out how wide it is.
        """
        x, y = through.transform(at)
        x, y = x + look.get("dx", 0), self.height - y + look.get("dy", 0)
        size = look.get("size", TEXT)
        weight = ' font-weight="bold"' if look.get("bold") else ""
        turn = f' transform="rotate(-90 {x:.2f} {y:.2f})"' if look.get("turned") else ""
        self.texts.append(
            f'<text x="{x:.2f}" y="{y + 0.35 * size * (not turn):.2f}" font-size="{size}" fill="currentColor"'
            f' text-anchor="{look.get("anchor", "start")}"{weight}{turn}>{escape(words.line(text))}</text>'
        )

    def x_scale(self, axes: "Axes", label: str, text: Callable[[float], str], most: int, **options: bool) -> None:
        """Round numbers below `axes`, at most `most` + 1, written by `text`: a few artists, which take a third of the
        time of matplotlib's own ticks. `lines` puts a line at each, `whole` allows whole numbers only.
        """
        axes.set_xlim(axes.get_xlim())  # what is drawn from here on shall not move it
        places = _round(axes.get_xlim(), axes.get_xscale() == "log", most, options.get("whole", False))
        across = axes.get_xaxis_transform()
        feet: dict[str, Any] = {"marker": 3, "ms": 4, "mew": 1, "ls": "none", "color": INK}
        axes.plot(places, [0] * len(places), transform=across, clip_on=False, **feet)
        if options.get("lines"):
            axes.vlines(places, 0, 1, transform=across, color=INK, alpha=0.13, lw=1, zorder=0.5)
        for place in places:
            self.write(text(place), (place, 0), across, dy=13, anchor="middle")
        self.write(label, (0.5, 0), axes.transAxes, dy=32, anchor="middle")

    def y_scale(self, axes: "Axes", label: str, text: Callable[[float], str], most: int) -> None:
        """Round numbers to the left of `axes`, with a line at each for which `text` has one."""
        places = _round(axes.get_ylim(), axes.get_yscale() == "log", most, False)
        places = [place for place in places if text(place)]
        along = axes.get_yaxis_transform()
        axes.hlines(places, 0, 1, transform=along, color=INK, alpha=0.13, lw=1, zorder=0.5)
        for place in places:
            self.write(text(place), (0, place), along, dx=-6, anchor="end")
        left = axes.get_position().x0 * self.width
        self.write(label, (0, 0.5), axes.transAxes, dx=14 - left, anchor="middle", turned=True)

    def points(self, axes: "Axes", at: Sequence[tuple[float, float]], number: int, **options: Any) -> None:
        """Markers of the optimizer `number`; `tips`, one text for each, is shown when the pointer rests there.

        `open` leaves them empty. Points are never clipped by the axes' edge.
        """
        tips, color = options.pop("tips", ()), style(number).color
        look: dict[str, Any] = {"marker": style(number).marker, "ms": 7, "mew": 1.4, "ls": "none", "clip_on": False}
        look |= {"mec": color, "mfc": PAPER if options.pop("open", False) else color} | options
        self.line(axes, [x for x, _ in at], [y for _, y in at], number, tips=tips, **look)

    def line(self, axes: "Axes", x: Any, y: Any, number: int, tips: Sequence[str] = (), **look: Any) -> None:
        """A line, or markers, that belongs to the optimizer `number`."""
        if len(x):
            (made,) = axes.plot(x, y, **{"color": style(number).color} | look)
            made.set_gid(f"series-{number}-{len(self.tips)}")
            self.tips.append(tips)


def _round(limits: tuple[float, float], logarithmic: bool, most: int, whole: bool) -> list[float]:
    """Round numbers within `limits`."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = sorted(limits)
    if logarithmic:
        found = LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,), numticks=most + 1).tick_values(low, high)
    else:
        found = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(low, high)
    slack = 0 if logarithmic else 1e-9 * (high - low)
    return [float(place) for place in found if low - slack <= place <= high + slack]


def draw(name: str, label: str, size: tuple[float, float], paint: Callable[[Sheet], None]) -> str:
    """The SVG that `paint` draws. `name` keeps its ids apart from other figures', `label` is read out to the blind."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    file = io.StringIO()
    with _settings():
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72)
        FigureCanvasSVG(figure)
        sheet = Sheet(figure, *size)
        paint(sheet)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return _clean(file.getvalue(), name, label, sheet)


@contextmanager
def _settings() -> Iterator[None]:
    """Matplotlib's defaults, whatever the user's own are: the same race gives the same page everywhere."""
    import matplotlib

    with matplotlib.rc_context():
        dict.update(matplotlib.rcParams, matplotlib.rcParamsDefault)
        settings: dict[str, Any] = {"svg.hashsalt": "ravine", "axes.edgecolor": INK, "axes.linewidth": 1}
        settings |= {"lines.linewidth": 2, "lines.scale_dashes": False}
        settings |= {"axes.titley": 1.0}  # no title: do not look for its place
        matplotlib.rcParams.update(settings)  # type: ignore[arg-type]  # its keys are typed one by one
        yield


def _clean(svg: str, name: str, label: str, sheet: Sheet) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.S)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    for number, texts in enumerate(sheet.tips):
        svg = _tip(svg, number, texts)
    svg = re.sub(r"<[^/][^>]*>", lambda tag: _clean_tag(tag[0], name, used), svg)  # the text between is the user's
    svg = re.sub(r">\s+<", "><", svg).strip()
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {sheet.width:g} {sheet.height:g}" role="img" '
        f'aria-label="{escape(label)}" stroke-linejoin="round">'
    )
    return root + svg[svg.index(">") + 1 :].removesuffix("</svg>") + "".join(sheet.texts) + "</svg>"


def _clean_tag(tag: str, name: str, used: set[str]) -> str:
    tag = re.sub(r'\b(d|x|y)="([^"]*)"', lambda found: f'{found[1]}="{_short(found[2])}"', tag)
    tag = tag.replace("xlink:href", "href")
    tag = re.sub(r' id="series-(\d+)-\d+"', r' data-series="\1"', tag)
    tag = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", tag)
    tag = re.sub(r'(href="|url\()#', rf"\g<1>#{name}-", tag)
    return _COLOR.sub(lambda found: VARIABLES[found[0]], tag)


def _short(numbers: str) -> str:
    """Coordinates to a hundredth of a pixel."""
    rounded = re.sub(r"-?\d+\.\d+", lambda found: f"{round(float(found[0]), 2):g}", numbers)
    return re.sub(r"\s*\n\s*", "", rounded)


def _tip(svg: str, number: int, texts: Sequence[str]) -> str:
    """Give the markers of the drawing `number` their texts, in turn."""
    found = re.search(rf'<g id="series-\d+-{number}".*?</g>\s*</g>', svg, flags=re.S)
    if not texts or not found or found[0].count("<use") != len(texts):
        return svg
    waiting = iter(texts)
    told = re.sub(
        r"(<use[^>]*?)/>", lambda use: f"{use[1]}><title>{escape(words.line(next(waiting)))}</title></use>", found[0]
    )
    return svg[: found.start()] + told + svg[found.end() :]
