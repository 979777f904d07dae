"""From `path/to/file.py:function` or `package.module:function` to the task it makes."""

import hashlib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from ravine.core.errors import RavineError, unknown
from ravine.core.task import Task


def resolve(reference: str) -> Task:
    """Call the function that `reference` names; raises `RavineError` with what is wrong with it."""
    place, _, name = reference.rpartition(":")
    if not place or not name:
        raise RavineError(f"'{reference}' names no task: write path/to/file.py:function or package.module:function")
    module = _file(place) if place.endswith(".py") else _module(place)
    made = getattr(module, name, None)
    if made is None:
        public = [key for key, value in vars(module).items() if not key.startswith("_") and callable(value)]
        raise unknown(f"function in {place}", name, public)
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
        raise RavineError(f"{reference} raised {_where(error)}") from error


def _file(place: str) -> ModuleType:
    path = Path(place)
    if not path.is_file():
        raise RavineError(f"there is no file {place}; a task of your own is written path/to/file.py:function")
    # The name depends on the place, so that two files of one name live side by side and unpickling finds its module.
    name = f"ravine_task_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:  # as if it were run as a script: it may import its neighbours
        sys.path.append(folder)
    try:
        found.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise RavineError(f"{place} cannot be imported: it raised {_where(error)}") from error
    return module


def _module(place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except (Exception, SystemExit) as error:
        raise RavineError(f"module '{place}' cannot be imported: it raised {_where(error)}") from error


def _where(error: BaseException) -> str:
    """The error with the last line of the user's code that it came from, where it came from there."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_USERS)]
    line = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
    return f"{type(error).__name__}: {error}{line}"


_NOT_USERS = ("<", str(Path(__file__).parents[1]), *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
