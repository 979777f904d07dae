"""The fork server that a race's trials come from: a process with torch and the task loaded, started before all else.

Only the standard library is imported here, so that a command can start the server first and import torch itself while
the server does the same.
"""

import contextlib
import multiprocessing
import os
import time
from multiprocessing import forkserver
from typing import Any

WARM = "RAVINE_WARM"

_started: dict[str, str] = {}  # the source that the running server was started for


def start(source: str) -> Any:
    """The multiprocessing context of this race's own fork server; of fresh processes where systems have no fork.

    `source` is the task that the server loads. A server started for it moments ago is taken; one that an earlier race
    has used is not: it holds the task as it was before the user edited it.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    if _started.pop("source", None) != source:
        _launch(context, source)
    return context


def start_early(source: str) -> None:
    """Start the server for a race that is about to begin in this process."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        _launch(multiprocessing.get_context("forkserver"), source)
        _started["source"] = source


def _launch(context: Any, source: str) -> None:
    _retire()
    context.set_forkserver_preload(["ravine.racing.preload"])
    before = os.environ.get(WARM)
    os.environ[WARM] = source
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ[WARM]
        else:
            os.environ[WARM] = before


def _retire() -> None:
    """Let the server that runs now end, so that the next process asked for starts another.

    The standard library's own way waits until it has ended, and so for ever where a process of somebody else's still
    lives in it. Here it is forgotten: it ends by itself with the last of its processes.
    """
    holder: Any = forkserver._forkserver
    with holder._lock:
        pid = holder._forkserver_pid
        if pid is None:
            return
        os.close(holder._forkserver_alive_fd)
        holder._forkserver_alive_fd = holder._forkserver_pid = holder._forkserver_address = None
    with contextlib.suppress(ChildProcessError):  # somebody else has waited for it
        for _ in range(100):  # it usually ends at once; a second at most is spent on not leaving a zombie
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(0.01)
