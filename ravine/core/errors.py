"""One form for every error a user can cause: what was given, what is allowed, the nearest match, what to do."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


class RavineError(ValueError):
    """Something the user gave cannot be used; raised before anything has changed."""


def nearest(given: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that looks most like `given`, or None where nothing does."""
    given = given.lower()
    names = {name.lower(): name for name in allowed}
    found = difflib.get_close_matches(given, names, n=3, cutoff=0.5)

    def likeness(name: str) -> tuple[float, int]:  # of two that are about as near, letters are swapped, not left out
        return round(difflib.SequenceMatcher(None, given, name).ratio(), 1), -abs(len(name) - len(given))

    return names[max(found, key=likeness)] if found else None


def unknown(kind: str, given: str, allowed: Iterable[str], hint: str = "") -> RavineError:
    """The error for a name that does not exist.

    >>> print(unknown("optimizer", "adamm", ["adam", "sgd"]))
    unknown optimizer 'adamm': did you mean 'adam'? Allowed: adam, sgd.
    """
    names = sorted(allowed)
    match = nearest(given, names)
    guess = f"did you mean '{match}'? " if match else ""
    listed = f"Allowed: {', '.join(names)}." if names else "None is allowed here."
    return RavineError(f"unknown {kind} '{given}': {guess}{listed}{' ' + hint if hint else ''}")


@contextmanager
def indices_told(where: Callable[[], str]) -> Iterator[None]:
    """An index that is out of bounds inside, such as a label outside the classes, is told with where it was."""
    try:
        yield
    except IndexError as error:
        if "out of" not in str(error):  # torch's words for its own
            raise
        raise RavineError(
            f"{where()} failed: {error}. The batch holds a label that is none of the model's classes, or an index that "
            "has no row in a table of it"
        ) from error
