"""The spectrum as a picture: its density, and the share of eigenvalues up to each place."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ravine.curvature.spectrum import Spectrum
from ravine.report.palette import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NARROW, _FINE = 100, 8  # a bell is a hundredth of the range wide, and drawn by that many points
_TOLD = 0.01  # of the largest |eigenvalue|: the share below minus this is told, as by `survey`
_LINEAR = 1e-4  # the share of the largest |eigenvalue| up to which the axis of the right panel is linear, at least


def plot_spectrum(
    found: Spectrum, path: str | Path | None = None, *, width: float | None = None, title: str = ""
) -> "Figure":
    """Left the density on a logarithmic axis, each eigenvalue spread to a bell of standard deviation `width` (a
    hundredth of the range unless given); right the share of eigenvalues up to x, on an axis that is logarithmic on
    either side of zero, and no finer there than `resolution`, within which no places are told apart. Bands are the 95 %
    intervals. It is written to `path` where that is given.
    """
    from matplotlib.figure import Figure

    made = Figure(figsize=(9.6, 3.9), layout="constrained")
    left, right = made.subplots(1, 2)
    _density(left, found, width or _width(found))
    _shares(right, found)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.axvline(0.0, color="#5b5b5b", lw=0.9, ls=(0, (1, 2)), zorder=0.5)
    if title:
        made.suptitle(title)
    if path is not None:
        made.savefig(path, dpi=120)
    return made


def _width(found: Spectrum) -> float:
    span = float(found.nodes[-1] - found.nodes[0])
    return (span or max(1.0, abs(float(found.nodes[0])))) / _NARROW


def _density(axes: "Axes", found: Spectrum, width: float) -> None:
    at = _places(found, width)
    value, error = found.density(at, width), found.density_error(at, width)
    alone = 1 / (found.size * width * math.sqrt(2 * math.pi))  # the height of a single eigenvalue
    look = style(0)
    axes.set_yscale("log")
    axes.fill_between(at, (value - error).clamp(min=alone / 1e3), value + error, color=look.color, alpha=0.2, lw=0)
    axes.plot(at, value.clamp(min=alone / 1e3), color=look.color, lw=1.6)
    axes.set_ylim(alone / 20, 3 * float((value + error).max()))
    axes.set_xlabel("eigenvalue")
    axes.set_ylabel("density (share of eigenvalues per unit)")
    axes.set_title(f"bells of width {width:.2g}; shaded: 95 %", fontsize=10, loc="left")


def _places(found: Spectrum, width: float) -> Tensor:
    low, high = float(found.nodes[0]) - 5 * width, float(found.nodes[-1]) + 5 * width
    return torch.linspace(low, high, min(4000, math.ceil((high - low) / width * _FINE)), dtype=torch.float64)


def _shares(axes: "Axes", found: Spectrum) -> None:
    largest = float(found.nodes.abs().max()) or 1.0
    linear = max(_LINEAR * largest, found.resolution)
    x = torch.cat([found.nodes[:1] - 0.2 * largest, found.nodes, found.nodes[-1:] + 0.2 * largest])
    share = found.cumulative(x)
    assert isinstance(share, Tensor)
    look = style(1)
    axes.set_xscale("symlog", linthresh=linear, linscale=0.6)
    low, high = (share - found.error).clamp(min=0), (share + found.error).clamp(max=1)
    axes.fill_between(x, low, high, step="post", color=look.color, alpha=0.2, lw=0)
    axes.step(x, share, where="post", color=look.color, lw=1.6)
    _decades(axes, largest, linear, float(found.nodes[0]), float(found.nodes[-1]))
    axes.set_ylim(-0.02, 1.04)
    coarse = ", the resolution" if found.resolution > _LINEAR * largest else ""
    axes.set_xlabel(f"eigenvalue (linear up to {linear:.2g}{coarse})")
    axes.set_ylabel("share of eigenvalues up to here")
    cut = max(_TOLD * largest, found.resolution) if coarse else _LINEAR * largest
    negative = found.below(-cut)
    told = f"{100 * float(negative.value):.3g} ± {100 * float(negative.error):.2g} % below {-cut:.0e}"
    axes.set_title(told, fontsize=10, loc="left")


def _decades(axes: "Axes", largest: float, linear: float, low: float, high: float) -> None:
    """Ticks at zero and at every second power of ten: a symmetric logarithmic axis crowds them."""
    top = math.floor(math.log10(largest))
    powers = [10.0**e for e in (top - 2, top) if 10.0**e >= linear]
    places = [-p for p in reversed(powers) if low <= -p] + [0.0] + [p for p in powers if p <= high]
    axes.set_xticks(places)
    axes.minorticks_off()
    edge = 0.15 * largest
    axes.set_xlim(low - edge if low < 0 else -linear, high + edge if high > 0 else linear)
