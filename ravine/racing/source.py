"""How a task gets from the caller to the trials' processes: as a name that they look up, or pickled into a file."""

import contextlib
import functools
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cloudpickle

from ravine.core.errors import RavineError
from ravine.core.task import Task
from ravine.tasks import task as find_task

_PICKLED = "pickle:"


@contextlib.contextmanager
def sent(task: Task | str) -> Iterator[str]:
    """The source from which `load` takes the task in another process, for as long as the block lasts."""
    if isinstance(task, str):
        yield task
        return
    if not isinstance(task, Task):
        raise RavineError(f"race needs a ravine.Task, a task's name or file.py:function, got {type(task).__name__}")
    try:
        pickled = cloudpickle.dumps(task)
    except Exception as error:
        raise RavineError(
            f"task '{task.name}' cannot be sent to the trials' processes ({type(error).__name__}: {error}); "
            "put the function that makes it into a file and race 'file.py:function'"
        ) from error
    with tempfile.TemporaryDirectory(prefix="ravine-") as folder:
        file = Path(folder) / "task.pkl"
        file.write_bytes(pickled)
        yield f"{_PICKLED}{file}"


@functools.cache
def load(source: str) -> Task:
    """The task behind a source that `sent` gave."""
    if source.startswith(_PICKLED):
        task: Task = pickle.loads(Path(source.removeprefix(_PICKLED)).read_bytes())
        return task
    return find_task(source)
