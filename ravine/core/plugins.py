"""Rules, schedules and probes of other packages: entry points, imported when a name is asked for that is not known."""

import warnings
from functools import cache
from importlib.metadata import entry_points


@cache
def load(group: str) -> None:
    """Import what other packages declare under `group`, once; that makes its names known.

    In the other package's pyproject.toml:

        [project.entry-points."ravine.rules"]
        mine = "package.module"

    One that cannot be imported is warned of and left out: it must not take ravine with it.
    """
    for found in entry_points(group=group):
        try:
            found.load()
        except Exception as error:
            warnings.warn(
                f"{group}: '{found.name}' ({found.value}) cannot be imported: {type(error).__name__}: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
