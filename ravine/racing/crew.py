"""The coordinator's crew: one process per unit of work, from a fork server that has torch and the task loaded.

The coordinator alone writes records. A trial that crashes, hangs or grows too large is killed, recorded with its
reason, and tried once more before that. Trials die with the coordinator.
"""

import contextlib
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, TypeVar

from ravine.core.errors import RavineError
from ravine.core.record import Row, Writer
from ravine.racing import server, worker

ATTEMPTS = 2
Target = Callable[..., None]
Unit = TypeVar("Unit")


@dataclass
class Trial(Generic[Unit]):
    """A trial that is running."""

    unit: Unit
    attempt: int
    process: BaseProcess
    pipe: connection.Connection
    writer: Writer
    started: float = field(default_factory=time.monotonic)
    peak_mb: float = 0.0


@dataclass(frozen=True)
class Limits:
    """What one trial may take: seconds, and resident memory in MB. None is no limit."""

    seconds: float | None = None
    memory_mb: float | None = None


class Crew:
    """Runs units of work, `workers` at a time."""

    def __init__(self, source: str, workers: int) -> None:
        self.source = source
        self.workers = workers
        self._context = server.start(source)

    def inspect(self, specs: Sequence[str], steps: int, device: str) -> dict[str, Any]:
        """What a trial process sees of the task; raises `RavineError` with what is wrong with it."""
        try:
            process, pipe = self._start(worker.inspect, list(specs), steps, device)
        except (EOFError, OSError):
            # The task ended the fork server as it was loaded. The next one loads none, so that the trial meets it.
            self._context = server.start("")
            process, pipe = self._start(worker.inspect, list(specs), steps, device)
        try:
            message, content = pipe.recv()
        except EOFError:
            process.join()
            raise RavineError(f"trying the task once ended the process: {_death(process.exitcode)}") from None
        finally:
            pipe.close()
        _bury(process)
        if message == "failed":
            raise RavineError(content["reason"])
        found: dict[str, Any] = content
        return found

    def run(
        self,
        units: Sequence[Unit],
        limits: Limits,
        open_record: Callable[[Unit], Writer],
        finished: Callable[[Unit], None],
        perform: Target = worker.run,
    ) -> None:
        """Run all units to their closing rows.

        `open_record(unit)` gives the writer of a unit's record, `finished` is called after each, and `perform` is what
        the process does: it is called with the pipe, the crew's source and the unit.
        """
        queue = [(unit, 1) for unit in reversed(units)]
        running: list[Trial[Unit]] = []
        try:
            while queue or running:
                while queue and len(running) < self.workers:
                    with _undisturbed():  # until it is among those that are killed at the end
                        running.append(self._launch(*queue.pop(), open_record, perform))
                connection.wait([trial.pipe for trial in running], timeout=1.0)
                for trial in list(running):
                    end = _follow(trial, limits)
                    if end is None:
                        continue
                    running.remove(trial)
                    if end["status"] == "failed" and trial.attempt < ATTEMPTS:
                        trial.writer.close()
                        queue.append((trial.unit, trial.attempt + 1))
                        continue
                    end.setdefault("observed", {})["attempts"] = trial.attempt
                    trial.writer.end(**end)
                    finished(trial.unit)
        finally:
            for trial in running:
                _kill(trial)
            for trial in running:
                trial.writer.close()

    def _launch(
        self, unit: Unit, attempt: int, open_record: Callable[[Unit], Writer], perform: Target
    ) -> Trial[Unit]:
        writer = open_record(unit)
        try:
            process, pipe = self._start(perform, unit)
        except BaseException:
            writer.close()
            raise
        return Trial(unit, attempt, process, pipe, writer)

    def _start(self, target: Target, *arguments: Any) -> tuple[BaseProcess, connection.Connection]:
        here, there = self._context.Pipe(duplex=False)
        process = self._context.Process(target=target, args=(there, self.source, *arguments), daemon=True)
        with _nameless_main():
            process.start()
        there.close()
        return process, here


def _follow(trial: Trial[Any], limits: Limits) -> Row | None:
    """Take what the trial has sent; its closing row if it has ended, in whatever way."""
    while trial.pipe.poll():
        try:
            message, content = trial.pipe.recv()
        except (EOFError, OSError):
            _bury(trial.process)
            trial.pipe.close()
            return {"status": "failed", "reason": _death(trial.process.exitcode)}
        if message == "row":
            trial.writer.row(content)  # an error here is the disk's, not the trial's
            continue
        _bury(trial.process)
        trial.pipe.close()
        status: Row = {"status": "failed"} if message == "failed" else {}
        end: Row = status | content
        return end
    reason = _over(trial, limits)
    if reason:
        _kill(trial)
        return {"status": "failed", "reason": reason}
    return None


def _over(trial: Trial[Any], limits: Limits) -> str | None:
    """The limit that the trial has passed, in words."""
    if limits.seconds is not None and time.monotonic() - trial.started > limits.seconds:
        return f"time limit: not done after {limits.seconds:.0f} s"
    if limits.memory_mb is not None:
        used = _resident_mb(trial.process.pid)
        if used > limits.memory_mb:
            return f"memory limit: {used:.0f} MB of {limits.memory_mb:.0f} MB"
    return None


def _resident_mb(pid: int | None) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0  # gone, or a system without /proc
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _bury(process: BaseProcess) -> None:
    """Wait for a process that has said its last; one that a thread of the user's keeps alive is killed."""
    process.join(1)
    if process.is_alive():
        process.kill()
        process.join()


def _kill(trial: Trial[Any]) -> None:
    trial.process.kill()
    trial.process.join()
    trial.pipe.close()


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        hint = ", as the system does when memory runs out" if code == -9 else ""
        return f"killed by signal {-code}{hint}"
    return f"the process ended by itself with exit code {code}"


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold Ctrl-C back: a process that is half started when it comes would die with a traceback of its own.

    By a handler, since a mask would hold it back from this thread only, and the progress bar has another.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    caught: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if caught:
            before(*caught[0])


@contextlib.contextmanager
def _nameless_main() -> Iterator[None]:
    """Keep a trial from importing the user's script again: multiprocessing would, and the script would race again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
