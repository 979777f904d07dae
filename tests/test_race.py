"""Whole races in real processes: A/A, resuming after kill -9, a user's own task, and what trials leave behind."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import ravine
from ravine.core.errors import RavineError
from ravine.core.record import read
from ravine.racing.store import Store

SMALL = ["quadratic", "--optimizers", "sgd,momentum,adam", "--points", "4", "--seeds", "5", "--steps", "150"]
ROOT = Path(__file__).parent.parent


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ravine", "race", *arguments]


def timeless(value):
    """Records without what depends on the clock: `observed`, and the checksum over it."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in ("observed", "checksum")}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def records(folder: Path) -> dict[str, list]:
    found = sorted((folder / "records").glob("*.jsonl"))
    return {path.stem: [timeless(json.loads(line)) for line in path.read_text().splitlines()] for path in found}


def finished(folder: Path) -> dict[str, int]:
    """When each finished record was last written."""
    found = (folder / "records").glob("*.jsonl")
    return {path.name: path.stat().st_mtime_ns for path in found if read(path).finished}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "race"
    subprocess.run(command(*SMALL, "--out", str(folder)), check=True, capture_output=True)
    return folder


def test_killed_ten_times_a_race_ends_as_if_undisturbed(undisturbed, tmp_path):
    chance = random.Random(0)
    folder = tmp_path / "race"
    wanted = len(records(undisturbed))
    before: dict[str, int] = {}
    for kill in range(10):
        # Two or three trials get done between kills, so that all ten fall within the race.
        target = min(wanted - 1, len(before) + chance.choice((2, 3)))
        process = subprocess.Popen(command(*SMALL, "--out", str(folder)), stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(list((folder / "records").glob("*.jsonl"))) < target and time.monotonic() < deadline:
            assert process.poll() is None, f"the race ended by itself before kill {kill}"
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.2))
        process.kill()
        process.wait()
        after = finished(folder)
        assert {name: after.get(name) for name in before} == before, "a finished trial was done again"
        before = after
    assert 0 < len(before) < wanted, "the kills did not fall within the race"
    subprocess.run(command(*SMALL, "--out", str(folder)), check=True, capture_output=True)
    after = finished(folder)
    assert {name: after[name] for name in before} == before
    assert records(folder) == records(undisturbed)


def test_workers_die_with_the_coordinator(tmp_path):
    file = tmp_path / "slow.py"
    file.write_text(
        textwrap.dedent(f"""
        import os, time, torch, ravine
        def task():
            x = torch.randn(64, 2); y = x.sum(1, keepdim=True)
            def loss(model, batch):
                open({str(tmp_path / "pids")!r}, "a").write(f"{{os.getpid()}}\\n")
                time.sleep(0.2)
                return ((model(batch[0]) - batch[1]) ** 2).mean()
            return ravine.Task(name="slow", model=lambda: torch.nn.Linear(2, 1), loss=loss, train=(x, y), valid=(x, y),
                               metric=lambda m, d: ((m(d[0]) - d[1]) ** 2).mean().item(), better="lower", goal=0.1)
        """)
    )
    arguments = [f"{file}:task", "--optimizers", "sgd", "--steps", "500", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command(*arguments), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out" / "records").glob("*.jsonl"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    pids = {int(line) for line in (tmp_path / "pids").read_text().split()}
    assert sum(alive(pid) for pid in pids) == 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_ctrl_c_ends_with_130_and_keeps_what_is_finished(tmp_path):
    folder = tmp_path / "race"
    process = subprocess.Popen(
        command(*SMALL, "--out", str(folder)), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while len(list((folder / "records").glob("*.jsonl"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on from here" in said
    assert "Traceback" not in said
    assert len(finished(folder)) >= 3


def test_an_optimizer_against_itself_is_identical_and_ties(tmp_path):
    verdict = ravine.race("quadratic", "a=sgd, b=sgd", points=3, seeds=6, steps=100, goal=1.0, out=tmp_path / "race")
    a, b = (verdict["optimizers"][name]["runs"] for name in "ab")
    for one, other in zip(a, b, strict=True):
        assert one["id"] != other["id"], "both must really be run"
        rows = [timeless(read(tmp_path / "race" / "records" / f"{run['id']}.jsonl").rows) for run in (one, other)]
        assert rows[0] == rows[1]
    (pair,) = verdict["pairs"]
    assert (pair["verdict"], pair["ratio"], pair["low"], pair["high"], pair["p"]) == ("tie", 1.0, 1.0, 1.0, 1.0)
    gates = {gate["name"]: gate["passed"] for gate in verdict["gates"]}
    assert gates["same seed, same numbers"] is True
    assert gates["same start, same data"] is True


def test_a_script_without_a_main_guard_races_a_task_of_lambdas_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import ravine, torch
        print("imported", flush=True)
        x = torch.randn(300, 5, generator=torch.Generator().manual_seed(0)); y = (x.sum(1) > 0).long()
        task = ravine.supervised(name="signs", model=lambda: torch.nn.Linear(5, 2), train=(x[:200], y[:200]),
                                 valid=(x[200:], y[200:]), criterion=torch.nn.CrossEntropyLoss(), batch_size=20)
        verdict = ravine.race(task, optimizers=["sgd", "adam"], points=2, seeds=6, steps=60, workers=2, out="race")
        print(sorted(verdict["optimizers"]))
        print({gate["name"]: gate["passed"] for gate in verdict["gates"]}["swapped labels do not learn"])
        """)
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["imported", "['adam', 'sgd']", "True"]
    assert (tmp_path / "race" / "report.html").stat().st_size > 10_000


def test_the_example_of_the_readme_is_the_file_and_races_end_to_end(tmp_path):
    example = ROOT / "examples" / "cancer.py"
    source = example.read_text()
    assert len(source.splitlines()) <= 25
    assert source.split('"""')[2].strip() in (ROOT / "README.md").read_text()
    arguments = [f"{example}:task", "--optimizers", "sgd,adam", "--points", "2", "--seeds", "2", "--steps", "100"]
    done = subprocess.run(
        command(*arguments, "--json", "--out", str(tmp_path / "race")), check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout)["task"] == "cancer"
    assert (tmp_path / "race" / "report.html").exists()


def test_a_finished_race_does_nothing_again_and_another_race_is_refused(undisturbed):
    before = finished(undisturbed)
    subprocess.run(command(*SMALL, "--out", str(undisturbed)), check=True, capture_output=True)
    assert finished(undisturbed) == before
    other = [*SMALL[:-1], "160", "--out", str(undisturbed)]
    done = subprocess.run(command(*other), capture_output=True, text=True)
    assert done.returncode == 2
    assert "settings.steps is 150, not 160" in " ".join(done.stderr.split())
    assert finished(undisturbed) == before


def test_a_folder_in_use_is_refused(tmp_path):
    with Store(tmp_path / "race"), pytest.raises(RavineError, match="in use by another command"):
        Store(tmp_path / "race")
    Store(tmp_path / "race").close()


def test_the_index_is_rebuilt_from_records(undisturbed):
    import sqlite3

    index = undisturbed / "index.sqlite"
    index.write_bytes(b"this is no database, and that does not matter")
    with Store(undisturbed) as store:
        done = store.finished()
    with sqlite3.connect(index) as connection:
        rows = connection.execute("select id, status from trials").fetchall()
    assert {row[0] for row in rows} == done == set(records(undisturbed))
    assert {row[1] for row in rows} <= {"done", "diverged"}
