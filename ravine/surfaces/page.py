"""A surface and the ways on it as one page of HTML to play with, which needs no network and no other file."""

import base64
import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ravine.report.palette import DARK, LIGHT, outline
from ravine.surfaces.definition import Surface
from ravine.surfaces.grid import Values, grid, levels
from ravine.surfaces.scale import loss_limits
from ravine.surfaces.trajectory import Trajectory

_HERE = Path(__file__).parent
UNITS = 2000
"""Width and height of the map in the units of its contours."""
BEYOND = 20
"""How far outside the map an outline closes that is cut off by its edge: no line is seen there."""
MOST_POINTS = 24_000
"""Of all ways together; longer ones are thinned out, so that the page stays small and quick."""


def html(surface: Surface, walked: Sequence[Trajectory], path: Path) -> None:
    """Write the page."""
    path.write_text(page(surface, walked), encoding="utf-8", errors="replace")


def page(surface: Surface, walked: Sequence[Trajectory]) -> str:
    """The page: the same text for the same ways, to the bit."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = (_HERE / "script.html").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    stride = _stride(walked)
    return environment.get_template("page.html").render(
        surface=surface,
        title=surface.name.replace("_", " ").capitalize(),
        contours=_contours(surface),
        units=UNITS,
        walked=walked,
        markers=[outline(number) for number in range(len(walked))],
        tunings=any(one.tuned for one in walked),
        stride=stride,
        data=_data(surface, walked, stride),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        light=LIGHT,
        dark=DARK,
    )


def _stride(walked: Sequence[Trajectory]) -> int:
    return -(-sum(len(one.x) for one in walked) // MOST_POINTS)


def _data(surface: Surface, walked: Sequence[Trajectory], stride: int) -> dict[str, Any]:
    """What the script draws, in a form that JSON can hold."""
    low, high, logarithmic = loss_limits([one.loss for one in walked])
    left, right, bottom, top = surface.window
    return {
        "window": surface.window,
        "axes": surface.axes,
        "ticks": [_ticks(left, right), _ticks(bottom, top)],
        "minima": [place for place in surface.minima if surface.holds(*place)],
        "end": max(one.work[-1] for one in walked),
        "loss": {"low": low, "high": high, "log": logarithmic, "ticks": _loss_ticks(low, high, logarithmic)},
        "ways": [_way(number, one, stride) for number, one in enumerate(walked)],
    }


def _way(number: int, one: Trajectory, stride: int) -> dict[str, Any]:
    kept = [*range(0, len(one.x) - 1, stride), len(one.x) - 1]
    columns = {key: [_short(getattr(one, key)[i]) for i in kept] for key in ("step", "work", "x", "y", "loss")}
    return {"name": one.name, "ending": one.ending, "marker": outline(number), "series": number % len(LIGHT), **columns}


def _short(value: float) -> float:
    """Five digits: more than a picture shows."""
    return value if isinstance(value, int) else float(f"{value:.5g}")


def _ticks(low: float, high: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(f"{value:.6g}") for value in found if low <= value <= high]


def _loss_ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Round losses: a handful of powers of ten, where the axis is one of powers."""
    if not logarithmic:
        return _ticks(low, high)
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    every = -(-len(powers) // 7)
    return [float(f"1e{power}") for power in powers if power % every == 0]


def _contours(surface: Surface) -> list[Markup]:
    """For each level, from the highest to the lowest, the outline of all that lies below it, in SVG's language.

    One translucent colour, laid over itself, makes the bands: so they follow the page's theme.
    """
    from matplotlib.figure import Figure

    x, y, values = grid(surface)
    rising = levels(surface, values)
    if len(rising) == 0:
        return []
    across, up = (np.linspace(0, UNITS, len(part)) for part in (x, y))
    axes = Figure().add_subplot()
    bottom = min(float(np.nanmin(values)), float(rising[0])) - 1.0
    return [
        Markup(_outline(axes.contourf(across, UNITS - up, values, [bottom, level]).get_paths()[0]))
        for level in rising[::-1]
    ]


def _outline(path: Any) -> str:
    """The path in whole units, each point as its distance from the one before, those in between left out."""
    found = []
    for polygon in path.to_polygons(closed_only=False):
        corners: Values = np.rint(polygon).astype(int)
        corners[corners <= 0] = -BEYOND
        corners[corners >= UNITS] = UNITS + BEYOND
        kept = [corners[0], *(b for a, b in pairwise(corners) if (a != b).any())]
        if len(kept) > 3:
            (x, y), moves = kept[0], np.diff(np.array(kept), axis=0)
            found.append(f"M{x} {y}l" + " ".join(f"{a} {b}" for a, b in moves).replace(" -", "-") + "z")
    return "".join(found)
