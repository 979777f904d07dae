"""A training run's folder: its record and its last checkpoint, from which a run that was cut off goes on."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from ravine.core.errors import RavineError
from ravine.core.machine import machine, versions
from ravine.core.record import Damaged, Record, Row, Writer, read

# A checkpoint is written when the last one is this many seconds old, or this many times its own cost.
_EVERY_SECONDS, _EVERY_COSTS = 2.0, 20.0


class Resumable(Protocol):
    """What has a state that can be saved and loaded."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Folder:
    """`record.jsonl` and `checkpoint.pt` of one run. Opening a folder that holds another run is an error."""

    def __init__(self, path: Path, settings: Row) -> None:
        self.path = path
        self.settings = settings
        self.finished = False
        self._writer: Writer | None = None
        self._saved, self._cost = time.monotonic(), 0.0
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / "record.jsonl.part").write_text("")
            (path / "record.jsonl.part").unlink()
        except OSError as error:
            raise _cannot_write(path, error) from error
        found = self._read()
        others = [name for name in settings if found.header and found.header.get(name) != settings[name]]
        if others:
            differ = ", ".join(f"{name} is {found.header.get(name)!r}, not {settings[name]!r}" for name in others)
            raise RavineError(f"{path} holds another run ({differ}): choose another --out, or remove the folder")
        strangers = [file.name for file in path.iterdir() if file.name in ("plan.json", "verdict.json")]
        if strangers:
            raise RavineError(f"{path} holds a race: choose another --out")

    def _read(self) -> Record:
        file = self.path / "record.jsonl"
        try:
            return read(file) if file.exists() else Record({})
        except Damaged as error:
            raise Damaged(f"{error}; remove the folder to start again") from error

    def open(self, run: Resumable) -> list[Row]:
        """Bring `run` to where the last one was cut off; the rows up to there."""
        record = self._read()
        checkpoint = self.path / "checkpoint.pt"
        rows: list[Row] = []
        if record.rows and checkpoint.exists():
            try:
                state = torch.load(checkpoint, weights_only=True)
                if len(record.rows) >= state["rows"]:
                    run.load_state_dict(state["run"])
                    rows = record.rows[: state["rows"]]
            except Exception as error:
                why = str(error).split("\n")[0]
                raise Damaged(f"{checkpoint} cannot be used ({why}); remove the folder to start again") from error
        self.finished = record.finished and len(rows) == len(record.rows)
        if not self.finished:
            with self._writing():
                self._writer = Writer(self.path / "record.jsonl", self._header(record), rows)
            self._rows = len(rows)
        return rows

    def _header(self, record: Record) -> Row:
        return record.header or self.settings | {"versions": versions(), "machine": machine()}

    def add(self, row: Row, run: Resumable, ended: str | None) -> None:
        """Write the row of a moment, a checkpoint when one is due, and the closing row when the run has ended."""
        assert self._writer is not None
        with self._writing():
            self._writer.row(row)
            self._rows += 1
            if ended or time.monotonic() - self._saved > max(_EVERY_SECONDS, _EVERY_COSTS * self._cost):
                self._save(run)
        if ended:
            self.end(ended)

    def end(self, status: str) -> None:
        """Write the closing row."""
        assert self._writer is not None
        with self._writing():
            self._writer.end(status)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def _save(self, run: Resumable) -> None:
        started = time.monotonic()
        part = self.path / "checkpoint.pt.part"
        state = {"run": run.state_dict(), "rows": self._rows}
        try:
            torch.save(state, part)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(str(error).split("\n")[0]) from error
        os.replace(part, self.path / "checkpoint.pt")
        self._saved = time.monotonic()
        self._cost = self._saved - started

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _cannot_write(path: Path, error: OSError) -> RavineError:
    return RavineError(
        f"cannot write to {path}: {error.strerror or error}. Nothing written before is lost: make room or choose "
        "another --out, then run the same command again"
    )
