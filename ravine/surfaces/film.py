"""A surface and the ways on it as a short film, drawn by `Picture` and written as a GIF."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ravine.report.palette import LIGHT
from ravine.surfaces.definition import Surface
from ravine.surfaces.picture import Picture, plain_style
from ravine.surfaces.trajectory import Trajectory

if TYPE_CHECKING:
    from PIL.Image import Image

FRAMES, PER_SECOND, LAST = 80, 20, 2.5
DPI, COLORS = 82, 64


def gif(surface: Surface, walked: Sequence[Trajectory], path: Path) -> None:
    """Write the film: at most `FRAMES` pictures, the last of which stays for a while; it begins again without end."""
    with plain_style():
        picture = Picture(surface, walked)
        picture.figure.set_dpi(DPI)
        first, *rest = _shared_colors(list(_frames(picture, walked)))
    pause = round(1000 / PER_SECOND)
    lengths = [pause] * len(rest) + [round(1000 * LAST)]
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=lengths, loop=0, optimize=False)


def _frames(picture: Picture, walked: Sequence[Trajectory]) -> Iterator["Image"]:
    """What stands still is kept, and only the ways are drawn anew."""
    from PIL import Image

    canvas: Any = picture.canvas  # its methods have no types
    moving = [picture.label, *(artist for artists in picture.moving for artist in artists)]
    for artist in moving:
        artist.set_visible(False)
    canvas.draw()
    still = canvas.copy_from_bbox(picture.figure.bbox)
    for artist in moving:
        artist.set_visible(True)
    end = max(one.work[-1] for one in walked)
    for until in np.linspace(0, end, min(FRAMES, end + 1)):
        picture.show(float(until))
        canvas.restore_region(still)
        for artist in sorted(moving, key=lambda artist: artist.get_zorder()):
            artist.axes.draw_artist(artist)
        yield Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _shared_colors(frames: list["Image"]) -> list["Image"]:
    """The frames with one palette: so only what moves is written.

    The first frame gives the colours of what stands still. Those of the ways are put in as they are, with their
    blends into white: a way has too few dots to win a colour where they are counted.
    """
    from PIL import Image, ImageColor

    still = frames[0].quantize(COLORS, method=Image.Quantize.MEDIANCUT).getpalette() or []
    blends = [
        round(255 + share * (part - 255))
        for color in LIGHT
        for share in (1.0, 0.8, 0.6, 0.4, 0.2)
        for part in ImageColor.getrgb(color)
    ]
    palette = Image.new("P", (1, 1))
    palette.putpalette(still[: 3 * COLORS] + blends)
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
