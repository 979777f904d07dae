"""A race's folder: the plan, one record a trial, the verdict, and an index that can always be rebuilt.

    plan.json          settings, points, seeds, frozen goals
    records/ID.jsonl   one trial each, the truth; records/damaged/ holds what could not be trusted
    index.sqlite       the same trials as a table, for queries; rebuilt whenever a race starts
    verdict.json, report.html
"""

import contextlib
import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ravine.core.errors import RavineError
from ravine.core.machine import machine, versions
from ravine.core.record import Damaged, Record, Row, Writer, read, read_json, write_json
from ravine.racing.folder import cannot_write, claimed, set_aside
from ravine.racing.unit import Unit

_COLUMNS = ("id", "kind", "optimizer", "spec", "seed", "status", "work", "metric", "seconds", "memory_mb")


class Store:
    """The folder of one race, locked against a second coordinator while it is open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self._circumstances = {"versions": versions(), "machine": machine()}
        _check_free(folder)
        try:
            self._lock = claimed(folder)
        except OSError as error:
            raise cannot_write(folder, error) from error

    def adopt(self, plan: dict[str, Any]) -> dict[str, Any]:
        """The plan in this folder, which becomes `plan` if there is none. Another race's plan is an error."""
        path = self.folder / "plan.json"
        if not path.exists():
            write_json(path, plan)
            return plan
        found: dict[str, Any] = read_json(path)
        if found.get("id") != plan["id"]:
            differ = "; ".join(_differences(found, plan)) or "its settings differ"
            raise RavineError(f"{self.folder} holds another race ({differ}): choose another --out, or remove it")
        return found

    def save_plan(self, plan: dict[str, Any]) -> None:
        write_json(self.folder / "plan.json", plan)

    def path(self, unit_id: str) -> Path:
        return self.folder / "records" / f"{unit_id}.jsonl"

    def open_record(self, unit: Unit) -> Writer:
        return Writer(self.path(unit.id), unit.header() | self._circumstances)

    def record(self, unit: Unit) -> Record:
        return read(self.path(unit.id))

    def end(self, unit_id: str) -> Row | None:
        """The closing row of a trial."""
        return read(self.path(unit_id)).end

    def finished(self) -> set[str]:
        """The ids of all finished trials. Damaged records are set aside and noted; unfinished ones do not count."""
        done: set[str] = set()
        with _index(self.folder / "index.sqlite") as index:
            index.execute("drop table if exists trials")
            index.execute(f"create table trials ({', '.join(_COLUMNS)}, primary key (id))")
            for path in sorted((self.folder / "records").glob("*.jsonl")):
                try:
                    record = read(path)
                    if record.finished and (Unit.of(record.header) is None or record.header["id"] != path.stem):
                        raise Damaged(f"{path}: its header does not belong to its name")
                except Damaged as error:
                    self.notes.append(set_aside(path, error, "trial"))
                    continue
                if record.finished:
                    done.add(path.stem)
                    _insert(index, record)
        return done

    def add(self, unit: Unit) -> None:
        """Put a trial that has just finished into the index."""
        with _index(self.folder / "index.sqlite") as index:
            _insert(index, self.record(unit))

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_free(folder: Path) -> None:
    """Raise where `folder` holds something that is no race; nothing has been made in it yet."""
    if folder.is_dir() and not (folder / "plan.json").exists():
        strangers = any((folder / name).exists() for name in ("record.jsonl", "checkpoint.pt"))
        if strangers or any((folder / "records").glob("*.jsonl")):
            raise RavineError(f"{folder} holds something else than this race: choose another --out")


def _differences(found: Row, wanted: Row, path: str = "") -> Iterator[str]:
    """Where two plans differ, in words; what is found or changes later is passed over."""
    for key in sorted((found.keys() | wanted.keys()) - {"id", "goals", "machine", "format"}):
        a, b = found.get(key), wanted.get(key)
        where = f"{path}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{where}.")
        elif a != b:
            yield f"{where} is {_short(a)}, not {_short(b)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else text[:57] + "..."


def _insert(index: sqlite3.Connection, record: Record) -> None:
    last = record.rows[-1] if record.rows else {}
    observed = (record.end or {}).get("observed", {})
    values = record.header | {"status": record.status} | last | observed
    row = [values.get(column) for column in _COLUMNS]
    index.execute(f"insert or replace into trials values ({', '.join('?' * len(_COLUMNS))})", row)


@contextlib.contextmanager
def _index(path: Path) -> Iterator[sqlite3.Connection]:
    """The index, committed at the end; one that cannot be read is made anew, since records are the truth."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("pragma journal_mode = wal")
    except sqlite3.OperationalError as error:
        connection.close()
        raise _disk_error(error, path) from error
    except sqlite3.DatabaseError:
        connection.close()
        path.unlink()
        connection = sqlite3.connect(path)
    try:
        with connection:
            yield connection
    except sqlite3.OperationalError as error:
        raise _disk_error(error, path) from error
    finally:
        connection.close()


def _disk_error(error: sqlite3.OperationalError, path: Path) -> OSError:
    """What sqlite makes of a full or failing disk, as the system would have said it."""
    # On a full disk sqlite speaks of an I/O error when it is its shared memory that cannot grow.
    full = error.sqlite_errorcode == sqlite3.SQLITE_FULL or shutil.disk_usage(path.parent).free < 2**16
    return OSError(errno.ENOSPC if full else errno.EIO, f"the index cannot be written ({error})")
