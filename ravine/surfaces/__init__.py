"""Surfaces of two numbers, and how optimizers walk on them. One surface: a file, and a line in `SURFACES`.

Other packages add theirs as entry points `ravine.surfaces`.
"""

from importlib.metadata import entry_points

from ravine.core.errors import RavineError, unknown
from ravine.core.reference import load
from ravine.surfaces.definition import Surface as Surface
from ravine.surfaces.definition import surface as surface
from ravine.surfaces.drawing import draw as draw
from ravine.surfaces.trajectory import Trajectory as Trajectory
from ravine.surfaces.trajectory import trajectories as trajectories

SURFACES = {
    "beale": "ravine.surfaces.beale:beale",
    "rosenbrock": "ravine.surfaces.rosenbrock:rosenbrock",
    "himmelblau": "ravine.surfaces.himmelblau:himmelblau",
    "saddle": "ravine.surfaces.saddle:saddle",
    "valley": "ravine.surfaces.valley:valley",
    "cliff": "ravine.surfaces.cliff:cliff",
    "plateau": "ravine.surfaces.plateau:plateau",
    "many-minima": "ravine.surfaces.many_minima:many_minima",
}


def names() -> dict[str, str]:
    """The surfaces that have a name, with where each is: built-in ones, and those that other packages bring.

    A name has hyphens; `find` takes underscores as well.
    """
    return SURFACES | {hyphened(found.name): found.value for found in entry_points(group="ravine.surfaces")}


def hyphened(reference: str) -> str:
    """A name as it is listed; a place, `path/to/file.py:name`, as it is."""
    return reference if ":" in reference else reference.replace("_", "-")


def find(reference: str) -> Surface:
    """The surface of that name, or the one at `path/to/file.py:name` or `package.module:name`.

    That is a function of two 0-d tensors, or, where it needs a window and a start of its own, one under `surface`.

    >>> import ravine
    >>> ravine.surfaces.find("beale").minima
    ((3.0, 0.5),)
    """
    known, reference = names(), hyphened(reference)
    if ":" not in reference and reference not in known:
        hint = "Or a function of two tensors of your own: path/to/file.py:function or package.module:function."
        raise unknown("surface", reference, known, hint)
    found = load(known.get(reference, reference), "surface")
    if isinstance(found, Surface):
        return found
    if not callable(found):
        raise RavineError(f"{reference} must be a function of two 0-d tensors, got {type(found).__name__}")
    return Surface(found)
