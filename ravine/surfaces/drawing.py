"""The picture of a surface and the ways on it, in the form that the file's name asks for."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ravine.core.errors import RavineError, unknown
from ravine.surfaces.definition import Surface
from ravine.surfaces.film import gif
from ravine.surfaces.page import html
from ravine.surfaces.picture import png
from ravine.surfaces.trajectory import Trajectory

FORMS: dict[str, Callable[[Surface, Sequence[Trajectory], Path], None]] = {".png": png, ".gif": gif, ".html": html}


def draw(surface: Surface, walked: Sequence[Trajectory], out: str | Path) -> Path:
    """Write the picture to `out`, at once or not at all: .png, .gif (a film) or .html (a page to play with).

    Raises `RavineError` where that cannot be.

    >>> import ravine
    >>> valley = ravine.surfaces.find("valley")
    >>> ravine.surfaces.draw(valley, ravine.surfaces.trajectories(valley), "runs/valley.html")    # doctest: +SKIP
    """
    path = check_out(out)
    if not walked:
        raise RavineError("there is no trajectory to draw: give those that ravine.surfaces.trajectories returns")
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        FORMS[path.suffix.lower()](surface, walked, temporary)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RavineError(f"cannot write {path}: {error.strerror or error}. Make room, or name another file") from error
    return path


def check_out(out: str | Path) -> Path:
    """`out` as a path, if a picture can be written there: its ending is known and its folder is one, or can be made."""
    path = Path(out)
    if path.suffix.lower() not in FORMS:
        hint = "The file's name says what is drawn: a picture, a film or a page."
        raise unknown("ending of --out", path.suffix or path.name, FORMS, hint)
    if path.is_dir():
        raise RavineError(f"cannot write {path}: it is a folder. Name a file in it, such as {path / 'surface.html'}")
    folder = next(above for above in path.absolute().parents if above.exists())
    if not folder.is_dir():
        raise RavineError(f"cannot write {path}: {folder} is a file, not a folder. Name another place")
    if not os.access(folder, os.W_OK):
        raise RavineError(f"cannot write {path}: the folder {folder} may not be written to. Name another place")
    return path
