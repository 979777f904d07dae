"""From `path/to/file.py:function` or `package.module:function` to the task it makes."""

from typing import Any

from ravine.core.errors import RavineError
from ravine.core.reference import load, raised_at
from ravine.core.task import Task


def resolve(reference: str) -> Task:
    """Call the function that `reference` names; raises `RavineError` with what is wrong with it."""
    made = load(reference, "task")
    if callable(made):
        made = _call(reference, made)
    if not isinstance(made, Task):
        raise RavineError(f"{reference} must return a ravine.Task (see ravine.supervised), got {type(made).__name__}")
    return made


def _call(reference: str, function: Any) -> Any:
    try:
        return function()
    except RavineError as error:
        raise RavineError(f"{reference}: {error}") from error
    except (Exception, SystemExit) as error:
        raise RavineError(f"{reference} raised {raised_at(error)}") from error
