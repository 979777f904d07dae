"""From `path/to/file.py:name` or `package.module:name` to what stands under that name."""

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


def load(reference: str, kind: str) -> Any:
    """What `reference` names, for something of that `kind`; raises `RavineError` with what is wrong with it."""
    place, _, name = reference.rpartition(":")
    if not place or not name:
        raise RavineError(f"'{reference}' names no {kind}: write path/to/file.py:function or package.module:function")
    module = _file(place, kind) if place.endswith(".py") else _module(place)
    found = getattr(module, name, None)
    if found is None:
        public = [key for key, value in vars(module).items() if not key.startswith("_") and callable(value)]
        raise unknown(f"function in {place}", name, public)
    return found


def _file(place: str, kind: str) -> ModuleType:
    path = Path(place)
    if not path.is_file():
        raise RavineError(f"there is no file {place}; a {kind} of your own is written path/to/file.py:function")
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
        raise RavineError(f"{place} cannot be imported: it raised {raised_at(error)}") from error
    return module


def _module(place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except (Exception, SystemExit) as error:
        raise RavineError(f"module '{place}' cannot be imported: it raised {raised_at(error)}") from error


def raised_at(error: BaseException) -> str:
    """The error with the last line of the user's code that it came from, where it came from there."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_USERS)]
    line = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
    return f"{type(error).__name__}: {error}{line}"


_NOT_USERS = ("<", str(Path(__file__).parents[1]), *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
