"""Records: written and read back, sealed, and named where they are damaged."""

import errno
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.core import record
from ravine.core.machine import PACKAGES, machine, versions
from ravine.core.record import Damaged, Record, Writer, content_id, plain, read, read_json, write_json

HEADER = {"spec": "adam(lr=0.001)", "seed": 3, "name": "naïve ∂"}
ROWS = [
    {"step": 0, "loss": None, "metric": 0.1, "observed": {"seconds": 0.5}},
    {"step": 10, "loss": 2.25, "metric": 1 / 3, "grad_norm": 1e-300, "observed": {"seconds": 1.5}},
]


def write(path: Path, status: str | None = "done") -> Path:
    with Writer(path, HEADER) as writer:
        for row in ROWS:
            writer.row(row)
        if status:
            writer.end(status, best=2)
    return path


# ---------------------------------------------------------------- the round trip


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    found = read(write(tmp_path / "deep" / "down" / "record.jsonl"))
    assert found == Record(HEADER, ROWS, {"status": "done", "best": 2})
    assert (found.finished, found.status) == (True, "done")


def test_a_record_without_its_closing_row_is_unfinished(tmp_path: Path) -> None:
    found = read(write(tmp_path / "record.jsonl", None))
    assert found == Record(HEADER, ROWS, None)
    assert (found.finished, found.status) == (False, "unfinished")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
rows = st.dictionaries(st.text(max_size=5).filter(lambda key: key not in ("line", "checksum")), json_values, max_size=3)


@given(rows, st.lists(rows, max_size=3), st.dictionaries(st.sampled_from(["a", "b"]), json_values))
def test_any_json_is_read_back_and_sealed(
    tmp_path_factory: pytest.TempPathFactory, header: dict, several: list[dict], more: dict
) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("record") / "record.jsonl"
    with Writer(path, header, several) as writer:
        writer.end("done", **more)
    assert read(path) == Record(header, several, {"status": "done"} | more)


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    with Writer(path, {"goal": math.inf}) as writer:
        writer.row({"loss": math.nan, "metric": -math.inf, "deep": [math.nan, {"x": math.inf}], "n": np.float64("nan")})
        writer.row({"loss": 1.5})
    assert "NaN" not in path.read_text()
    found = read(path)
    assert found.header == {"goal": None}
    assert found.rows[0] == {"loss": None, "metric": None, "deep": [None, {"x": None}], "n": None}
    assert [math.isnan(value) for value in found.column("loss")] == [True, False]
    assert all(math.isnan(value) for value in found.column("no such column"))
    assert plain({1: (2, math.inf)}) == {"1": [2, None]}


def test_every_row_is_on_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    writer = Writer(path, HEADER)
    assert read(path) == Record(HEADER)
    for count in (1, 2):
        writer.row(ROWS[0])
        assert len(read(path).rows) == count
    writer.close()


def test_going_on_keeps_the_rows_that_are_known_and_the_old_file_until_they_are_written(tmp_path: Path) -> None:
    path = write(tmp_path / "record.jsonl", None)
    with Writer(path, HEADER, ROWS[:1]) as writer:
        assert read(path).rows == ROWS[:1]
        writer.row(ROWS[1])
        writer.end("done")
    assert read(path).rows == ROWS
    with pytest.raises(TypeError):
        Writer(path, {"header": object()})
    assert read(path).finished  # what could not be written did not replace what was there
    assert not [file for file in tmp_path.iterdir() if file.suffix not in (".jsonl", ".part")]


# ---------------------------------------------------------------- damage


def test_a_last_line_cut_anywhere_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "record.jsonl")
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found = read(path)
        complete = sum(end <= length for end in ends)
        assert not found.finished
        assert found.header == (HEADER if complete else {})
        assert found.rows == ROWS[: max(complete - 1, 0)]


def test_a_changed_byte_anywhere_in_a_finished_record_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "record.jsonl")
    whole = path.read_bytes()
    for at in range(len(whole) - 1):
        for byte in {whole[at] ^ 1, whole[at] ^ 32, ord("\n"), ord("\r"), ord("0"), 0xFF} - {whole[at]}:
            path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
            with pytest.raises(Damaged, match=r"record\.jsonl: "):
                read(path)
    path.write_bytes(whole[:-1] + b" ")
    assert not read(path).finished  # as if the last line had been cut short


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["nonsense"], "line 1 is no row of a record"),
        (["[1]"], "line 1 is no row of a record"),
        (["3"], "line 1 is no row of a record"),
        (["{}"], "line 1 is no row of a record"),
        ([""], "line 1 is no row of a record"),
        (["\udcff"], "line 1 is no row of a record"),
        (['{"line": "row"}'], "line 1 is a 'row' where none belongs"),
        (['{"line": "header"}', '{"line": "header"}'], "line 2 is a 'header' where none belongs"),
        (['{"line": "header"}', '{"line": "rows"}'], "line 2 is a 'rows' where none belongs"),
        (
            ['{"line": "header"}', '{"line": "end"}'],
            "the checksum of its closing row does not match what stands before",
        ),
        (['{"line": "header"}', '{"line": "end", "checksum": 3}'], "the checksum of its closing row does not match"),
    ],
)
def test_what_is_damaged_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "record.jsonl"
    path.write_text("\n".join(lines) + "\n", errors="surrogateescape")
    with pytest.raises(Damaged) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_nothing_may_follow_the_closing_row(tmp_path: Path) -> None:
    path = write(tmp_path / "record.jsonl")
    with path.open("a") as file:
        file.write('{"line": "row"}\n')
    with pytest.raises(Damaged, match=r"record\.jsonl: line 5 is a 'row' where none belongs"):
        read(path)


def test_the_seal_covers_the_closing_row_too(tmp_path: Path) -> None:
    path = write(tmp_path / "record.jsonl")
    path.write_text(path.read_text().replace('"status": "done"', '"status": "late"'))
    with pytest.raises(Damaged, match="the checksum of its closing row does not match"):
        read(path)


def test_the_checksum_is_what_it_says(tmp_path: Path) -> None:
    body, _, seal = write(tmp_path / "record.jsonl").read_text().rpartition(', "checksum": "')
    assert seal == hashlib.sha256((body + "}").encode()).hexdigest() + '"}\n'


# ---------------------------------------------------------------- names and small files


def test_a_content_id_is_of_the_content(tmp_path: Path) -> None:
    assert content_id({"a": 1, "b": [0.1, None]}) == content_id({"b": (0.1, math.nan), "a": 1})
    assert content_id({"a": 1}) != content_id({"a": 2})
    assert content_id({"a": 1}) != content_id({"a": "1"})
    text = (
        '{"goal":null,"lr":0.001,"seed":0,"task":"digits-mlp"}'  # a name that changes orphans the records that bear it
    )
    content = {"task": "digits-mlp", "seed": 0, "lr": 0.001, "goal": math.inf}
    assert content_id(content) == hashlib.sha256(text.encode()).hexdigest()[:16]
    code = "from ravine.core.record import content_id; print(content_id({'b': 2, 'a': 0.1}))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert other.strip() == content_id({"a": 0.1, "b": 2})


def test_json_is_written_at_once_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.json"
    write_json(path, {"goal": math.nan, "seeds": (1, 2)})
    assert read_json(path) == {"goal": None, "seeds": [1, 2]}
    with pytest.raises(TypeError):
        write_json(path, {"goal": 1, "bad": object()})
    assert read_json(path)["seeds"] == [1, 2]

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(record.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_json(path, {"seeds": [3]})
    assert read_json(path)["seeds"] == [1, 2]


def test_a_json_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"seeds": [1,')
    with pytest.raises(Damaged) as error:
        read_json(path)
    assert str(error.value).startswith(f"{path} is not JSON: ")


def test_versions_and_machine_go_into_a_header() -> None:
    found = versions() | machine()
    assert {"python", *PACKAGES, "system", "processor", "cores"} <= set(found)
    assert versions()["torch"].startswith("2.")
    assert json.loads(json.dumps(found)) == found
    assert found["cores"] >= 1  # type: ignore[operator]
