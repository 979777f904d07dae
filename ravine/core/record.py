"""A record: what a run leaves behind. Append-only JSONL; the run is finished when its closing row is on disk.

    {"line": "header", ...}                     what was run: spec, seed, budget, versions, machine
    {"line": "row", "step": 0, "metric": ...}   one per evaluation
    {"line": "end", "status": "done", ...}      how it ended, sealed with a checksum of everything before it

Numbers that are not finite are written as null. Everything that depends on the clock or the machine's load stands
under the key `observed`, so that two records of the same run differ there and nowhere else.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ravine.core.errors import RavineError

Row = dict[str, Any]


class Damaged(RavineError):
    """A record that cannot be trusted; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class Record:
    """A run as read back: `end` is None while the run is not finished."""

    header: Row
    rows: list[Row] = field(default_factory=list)
    end: Row | None = None

    @property
    def finished(self) -> bool:
        return self.end is not None

    @property
    def status(self) -> str:
        return str(self.end["status"]) if self.end else "unfinished"

    def column(self, name: str) -> list[float]:
        """One value per row; NaN where a row has none."""
        return [math.nan if row.get(name) is None else float(row[name]) for row in self.rows]


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: numbers that are not finite become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def content_id(content: Mapping[str, Any]) -> str:
    """A name made of what is in `content`: the same content has the same name, everywhere."""
    text = json.dumps(plain(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Writer:
    """Writes one record; `rows` are those already known when a run that was cut off goes on, and are never at risk."""

    def __init__(self, path: Path, header: Row, rows: Iterable[Row] = ()) -> None:
        self.path = path
        self._checksum = hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        beginning = path.with_name(path.name + ".part")
        with beginning.open("w", encoding="utf-8") as self._file:
            self._put({"line": "header"} | header)
            for row in rows:
                self.row(row)
        os.replace(beginning, path)
        self._file = path.open("a", encoding="utf-8")

    def _put(self, content: Row) -> None:
        line = json.dumps(plain(content), allow_nan=False) + "\n"
        self._checksum.update(line.encode())
        self._file.write(line)
        self._file.flush()

    def row(self, row: Row) -> None:
        self._put({"line": "row"} | row)

    def end(self, status: str, **more: Any) -> None:
        """The closing row, on disk when this returns."""
        text = json.dumps(plain({"line": "end", "status": status, **more}), allow_nan=False)
        self._checksum.update(text.encode())
        try:
            self._file.write(text[:-1] + _seal(self._checksum.hexdigest()) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file. What could not be written was reported when it was tried."""
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _seal(checksum: str) -> str:
    """The end of a closing row; its checksum covers all that stands before it, the closing row's own words too."""
    return f', "checksum": "{checksum}"}}'


def read(path: Path) -> Record:
    """The record in `path`. A last line cut short by a kill is dropped; anything else wrong raises `Damaged`."""
    *lines, _ = path.read_bytes().split(b"\n")
    checksum = hashlib.sha256()
    header: Row | None = None
    rows: list[Row] = []
    end: Row | None = None
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
            kind = content.pop("line")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise Damaged(f"{path}: line {number} is no row of a record") from error
        if (kind == "header") != (number == 1) or end is not None or kind not in ("header", "row", "end"):
            raise Damaged(f"{path}: line {number} is a '{kind}' where none belongs")
        if kind == "header":
            header = content
        elif kind == "row":
            rows.append(content)
        else:
            end = content
            seal = _seal(str(end.pop("checksum", ""))).encode()
            checksum.update(line.removesuffix(seal) + b"}")
            if seal != _seal(checksum.hexdigest()).encode():
                raise Damaged(f"{path}: the checksum of its closing row does not match what stands before")
        checksum.update(line + b"\n")
    return Record(header or {}, rows, end)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON at once or not at all."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(plain(content), file, indent=1, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_json(path: Path) -> Any:
    """The JSON in `path`, or an error that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Damaged(f"{path} is not JSON: {error}") from error
