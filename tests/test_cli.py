"""The command line: what it prints and where, its exit status, and that it is quick where nothing is computed.

What goes wrong with what is given is in test_bad_input.py.
"""

import ast
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from commands import Done, run

import ravine
from ravine import data, init, probes, rules, solving, surfaces, tasks
from ravine.assembly import parts
from ravine.core.composition import COMPOSITIONS
from ravine.core.record import read
from ravine.core.rule import Rule
from ravine.racing import server
from ravine.racing.crew import Crew
from ravine.schedules import Schedule

RACE = ["race", "quadratic", "--points", "2", "--seeds", "2", "--steps", "40", "--json", "--out", "runs/small"]
RAVINE = [sys.executable, "-m", "ravine"]


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """`ravine` with these arguments, in this process and an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("COLUMNS", "300")

    return lambda *arguments: run(capsys, monkeypatch, *arguments)


def strict(text: str):
    """`text` as JSON, without the NaN and Infinity that Python's reader would let pass."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


# quick where nothing is computed


def test_help_answers_within_half_a_second():
    """Processor time, which is what the command takes when the machine has nothing else to do."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([*RAVINE, "--help"], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert all(word in done.stdout for word in ("race", "train", "surface", "report", "list", "data"))
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert statistics.median(seconds() for _ in range(3)) <= 0.5


def loaded(*arguments, **options) -> set[str]:
    """The heavy packages that a command has imported when it ends well."""
    script = textwrap.dedent("""
        import sys
        from ravine.cli import main
        try:
            main()
        except SystemExit as stop:
            assert not stop.code, stop.code
        heavy = {"torch", "scipy", "numpy", "sklearn", "matplotlib"} & set(sys.modules)
        print("HEAVY", *heavy, file=sys.stderr)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=True, **options
    )
    return set(done.stderr.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["race", "--help"], ["surface", "--help"], ["data", "where"]])
def test_nothing_heavy_is_loaded_to_say_a_word(arguments):
    assert loaded(*arguments) == set()


def test_a_report_loads_neither_torch_nor_scipy(finished):
    folder, *_ = finished
    assert loaded("report", folder / "runs/small").isdisjoint({"torch", "scipy", "sklearn"})
    assert loaded("report", folder / "runs/small", "--best") == set()


# lists


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("tasks", sorted(tasks.TASKS)),
        ("optimizers", sorted(Rule.registry.keys() | COMPOSITIONS.keys() | {name for name, *_ in solving.catalogue()})),
        ("schedules", sorted(Schedule.registry)),
        ("probes", sorted(probes.Probe.registry)),
        ("surfaces", sorted(surfaces.SURFACES)),
        ("initializations", sorted(init.Strategy.registry)),
    ],
)
def test_lists_show_everything_with_a_name_and_a_word_on_what_it_is(command, kind, names):
    status, out, _ = command("list", kind, "--json")
    rows = strict(out)
    assert status == 0
    assert sorted(row["name"] for row in rows) == names
    assert all(row["what"] for row in rows)
    status, table, err = command("list", kind)
    assert (status, err) == (0, "")
    assert all(name in table for name in names)


def test_the_list_of_optimizers_shows_defaults_that_hold(command):
    rows = {row["name"]: row for row in strict(command("list", "optimizers", "--json").out)}
    assert rows["adam"]["default_lr"] == rules.Adam().lr
    assert rows["decay"]["default_lr"] is None
    for name, row in rows.items():
        if row["default_lr"] is not None:
            (shown,), (plain,) = parts(f"{name}({row['arguments']})"), parts(name)
            assert shown.rule.numbers() == plain.rule.numbers()


def test_data_where_and_list(command, monkeypatch, tmp_path):
    monkeypatch.setenv("RAVINE_DATA", str(tmp_path / "cache"))
    assert command("data", "where") == (0, f"{tmp_path / 'cache'}\n", "")
    status, out, _ = command("data", "list", "--json")
    found = strict(out)
    assert status == 0
    assert found.keys() == data.SETS.keys()
    assert {entry["here"] for entry in found.values()} == {False}
    assert "fashion_mnist" in command("data", "list").out


def test_fetching_looks_at_all_names_first_and_tells_failure_from_a_mistake(command, monkeypatch, tmp_path):
    monkeypatch.setenv("RAVINE_DATA", str(tmp_path / "cache"))
    asked = []

    def unreachable(name, *_):
        asked.append(name)
        raise ravine.RavineError("no network")

    monkeypatch.setattr(data, "fetch", unreachable)
    status, _, err = command("data", "fetch", "mnist", "minst")
    assert (status, asked) == (2, [])
    assert "did you mean 'mnist'" in err
    status, _, err = command("data", "fetch", "mnist")
    assert (status, asked) == (1, ["mnist"])
    assert "no network" in err


# train


def test_train_prints_only_json_with_finite_rows(command):
    status, out, _ = command(
        "train", "quadratic", "--optimizer", "sgd(lr=0.1)", "--steps", "30", "--seed", "3", "--json"
    )
    found = strict(out)
    assert status == 0
    assert {"task", "spec", "seed", "work", "metric", "best_metric", "loss", "diverged", "rows"} <= found.keys()
    assert (found["task"], found["spec"], found["seed"]) == ("quadratic", "sgd(lr=0.1)", 3)
    assert (found["work"], found["diverged"]) == (30, False)
    assert [row["work"] for row in found["rows"]] == list(range(31))
    assert all(isinstance(row["metric"], float) for row in found["rows"])
    assert all(isinstance(row["loss"], float) for row in found["rows"][1:])
    last = list(ravine.train(ravine.task("quadratic"), "sgd(lr=0.1)", steps=30, seed=3))[-1]
    assert found["metric"] == last.metric


def test_a_run_that_diverges_is_still_json(command):
    status, out, _ = command("train", "quadratic", "--optimizer", "sgd(lr=1000)", "--steps", "100", "--json")
    found = strict(out)
    assert status == 0
    assert found["diverged"] is True
    assert found["metric"] is None
    assert found["best_metric"] == min(row["metric"] for row in found["rows"] if row["metric"] is not None)
    assert "diverged" in command("train", "quadratic", "--optimizer", "sgd(lr=1000)", "--steps", "100").out


def test_train_shows_a_table_with_probes(command):
    status, out, _ = command("train", "quadratic", "--steps", "20", "--probe", "grad_norm", "--probe", "update_ratio")
    assert status == 0
    header = next(line for line in out.splitlines() if "work" in line)
    assert [cell.strip() for cell in header.strip("┃").split("┃")] == [
        "work", "loss", "excess loss", "grad_norm", "update_ratio",
    ]  # fmt: skip
    assert "excess loss 2.462 after 20 gradient evaluations" in " ".join(out.split())


def test_train_with_patience_stops_early_and_finds_its_best_weights_again(command):
    arguments = ["train", "quadratic", "--optimizer", "sgd(lr=1.9)", "--steps", "300", "--patience", "4", "--json"]
    found = strict(command(*arguments, "--out", "run").out)
    assert found["work"] < 300
    metrics = [row["metric"] for row in found["rows"]]
    assert metrics.index(min(metrics)) == len(metrics) - 5
    assert torch.load("run/best.pt", weights_only=True).keys() == {"x"}


def test_a_finished_run_is_shown_again_without_running(command):
    arguments = ["train", "quadratic", "--steps", "40", "--json", "--out", "run"]
    first = command(*arguments)
    written = Path("run/record.jsonl").stat().st_mtime_ns
    again = command(*arguments)
    assert strict(again.out) == strict(first.out)
    assert Path("run/record.jsonl").stat().st_mtime_ns == written


def test_a_task_beside_the_user_is_found_as_a_module(command, tmp_path):
    (tmp_path / "beside_me.py").write_text("import ravine\ndef bowl(): return ravine.task('quadratic')\n")
    assert strict(command("train", "beside_me:bowl", "--steps", "3", "--json").out)["task"] == "quadratic"


def test_ctrl_c_while_training_ends_with_130_and_a_hint(tmp_path):
    arguments = [*RAVINE, "train", "quadratic", "--steps", "1000000", "--every", "100", "--out", "run"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, cwd=tmp_path, start_new_session=True, **pipes) as process:
        wait_for(lambda: (tmp_path / "run/record.jsonl").exists(), process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "interrupted: the same command goes on from here" in err
    assert "Traceback" not in err


# race


def wait_for(condition, process, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode} before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def written(folder: Path) -> dict[str, int]:
    """When each finished record was written."""
    found = (folder / "records").glob("*.jsonl")
    return {path.name: path.stat().st_mtime_ns for path in found if read(path).finished}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A race that was interrupted after a few trials: the folder it stood in, how it ended, the records it left."""
    folder = tmp_path_factory.mktemp("cli")
    small = folder / "runs/small"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*RAVINE, *RACE], cwd=folder, start_new_session=True, **pipes) as process:
        wait_for(lambda: (small / "records").is_dir() and len(written(small)) >= 4, process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert not (small / "verdict.json").exists(), "it was over before it was interrupted"
    return folder, Done(process.returncode, out, err), written(small), process.pid


@pytest.fixture(scope="module")
def finished(interrupted):
    """The same command, run again to its end."""
    folder, _, kept, _ = interrupted
    done = subprocess.run([*RAVINE, *RACE], cwd=folder, capture_output=True, text=True)
    return folder, Done(done.returncode, done.stdout, done.stderr), kept


def test_ctrl_c_ends_a_race_with_130_and_keeps_what_is_finished(interrupted):
    _, (status, out, err), kept, group = interrupted
    assert (status, out) == (130, "")
    assert "interrupted: finished trials are kept; the same command goes on from here" in err
    assert "Traceback" not in err
    assert len(kept) >= 4
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("processes of the race are still there")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")
def test_ctrl_c_while_torch_is_being_loaded_is_quiet(tmp_path):
    def loading(folder: Path) -> bool:
        """Whether this process is a fork server of the race in the middle of its imports."""
        try:
            preloads = b"ravine.racing.preload" in (folder / "cmdline").read_bytes()
            return preloads and folder_group(folder) == process.pid and "libtorch" in (folder / "maps").read_text()
        except (OSError, IndexError):  # gone in the meantime
            return False

    def folder_group(folder: Path) -> int:
        return int((folder / "stat").read_text().rsplit(")", 1)[1].split()[2])

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*RAVINE, *RACE], cwd=tmp_path, start_new_session=True, **pipes) as process:
        wait_for(lambda: any(loading(folder) for folder in Path("/proc").glob("[0-9]*")), process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_the_same_command_finishes_the_race_and_does_nothing_twice(finished):
    folder, (status, _, err), kept = finished
    assert status == 0, err
    after = written(folder / "runs/small")
    assert len(after) > len(kept)
    assert {name: after[name] for name in kept} == kept


def test_a_race_prints_only_json_which_is_the_verdict(finished):
    folder, (_, out, _), _ = finished
    assert strict(out) == strict((folder / "runs/small/verdict.json").read_text())


CHATTY = """
import ravine, torch
print("read")
def task():
    print("made")
    def model():
        print("model")
        return torch.nn.Linear(3, 2)
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    data = (x, (x[:, 0] > 0).long())
    return ravine.supervised(name="chatty", model=model, criterion=torch.nn.CrossEntropyLoss(), train=data, valid=data,
                             test=data, batch_size=8)
"""


@pytest.mark.parametrize(
    "arguments",
    [["train", "--steps", "3"], ["race", "--optimizers", "sgd(lr=0.1)", "--seeds", "2", "--steps", "6", "--goal=0.5"]],
)
def test_what_a_task_prints_does_not_get_into_the_json(tmp_path, arguments):
    (tmp_path / "mine.py").write_text(CHATTY)
    called = [*RAVINE, arguments[0], "mine.py:task", *arguments[1:], "--json"]
    done = subprocess.run(called, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert strict(done.stdout)["task"] == "chatty"
    assert {"read", "made", "model"} <= set(done.stderr.split())


def test_the_winner_of_a_task_made_in_python_has_no_command_line(tmp_path, command):
    x = torch.randn(40, 3)
    points = (x, (x[:, 0] > 0).long())
    task = ravine.supervised(
        name="mine", model=lambda: torch.nn.Linear(3, 2), criterion=torch.nn.CrossEntropyLoss(), train=points,
        valid=points, batch_size=8, goal=0.5,
    )  # fmt: skip
    ravine.race(task, ["sgd(lr=0.1)"], seeds=1, steps=5, workers=1, out=tmp_path / "mine")
    said = command("report", tmp_path / "mine", "--best").out
    assert 'ravine.assemble("sgd(lr=0.1)", model, horizon=STEPS)' in said
    assert "command line" not in said


def test_a_races_folder_holds_what_was_promised(finished):
    folder = finished[0] / "runs/small"
    assert {"plan.json", "records", "verdict.json", "report.html"} <= {path.name for path in folder.iterdir()}
    plan = strict((folder / "plan.json").read_text())
    assert plan["settings"]["steps"] == 40
    assert {len(entry["points"]) for entry in plan["optimizers"].values()} == {2}
    assert len(plan["seeds"]["runs"]) == 2
    assert plan["goals"] == strict(finished[1].out)["goals"]
    assert "<html" in (folder / "report.html").read_text()
    assert not [name for name in os.listdir(folder / "records") if not name.endswith(".jsonl")]


def test_the_verdict_has_the_promised_form(finished):
    verdict = strict(finished[1].out)
    assert {"task", "goal", "goals", "budget", "optimizers", "pairs"} <= verdict.keys()
    assert (verdict["task"], verdict["budget"]) == ("quadratic", 40)
    assert set(verdict["goals"]) == {"50", "75", "90"}
    assert verdict["goal"] == verdict["goals"]["75"]
    assert list(verdict["optimizers"]) == ["sgd", "momentum", "nesterov", "adam", "adamw"]
    for entry in verdict["optimizers"].values():
        assert {"spec", "success_rate", "work_to_goal", "final_metric", "diverged"} <= entry.keys()
        assert set(entry["work_to_goal"]) == {"median", "low", "high"}
        assert ravine.parse(entry["spec"])
    # Two seeds cannot tell ten pairs apart: those with the first, and with the best in tuning.
    assert 4 <= len(verdict["pairs"]) <= 7
    for pair in verdict["pairs"]:
        assert {"a", "b", "ratio", "low", "high", "p", "verdict"} <= pair.keys()
        assert pair["verdict"] in ("tie", "not enough runs")
        assert 0 < pair["p"] <= 1
    assert "with 2 seeds no pair can come out as faster or slower" in finished[1].err


@pytest.fixture(scope="module")
def one_server():
    return server.start("quadratic")


@pytest.fixture
def shared_server(one_server, monkeypatch):
    """The race of this test takes the fork server of the last one."""
    monkeypatch.setattr(server, "start", lambda source: one_server)
    monkeypatch.setattr(server, "start_early", lambda source: None)


def test_a_finished_race_runs_nothing_and_says_the_same_again(finished, command, monkeypatch, shared_server):
    folder, (_, out, _), _ = finished
    before = written(folder / "runs/small")
    started = []
    monkeypatch.setattr(Crew, "_launch", lambda *arguments: started.append(arguments))
    monkeypatch.chdir(folder)
    again = command(*RACE)
    assert again.status == 0
    assert strict(again.out) == strict(out)
    assert written(folder / "runs/small") == before
    assert started == []


def test_a_race_without_json_shows_the_report(finished, command, monkeypatch, shared_server):
    folder, (_, out, _), _ = finished
    monkeypatch.chdir(folder)
    status, shown, err = command(*(word for word in RACE if word != "--json"))
    assert status == 0
    assert strict(out)["sentence"] in " ".join(shown.split())
    assert "runs/small/report.html" in err


def test_report_shows_the_race_and_makes_the_page_anew(finished, command, monkeypatch):
    folder, (_, out, _), _ = finished
    monkeypatch.chdir(folder)
    verdict = strict(out)
    Path("runs/small/report.html").unlink()
    status, shown, err = command("report", "runs/small")
    assert status == 0
    assert verdict["sentence"] in " ".join(shown.split())
    assert all(name in shown for name in verdict["optimizers"])
    assert "runs/small/report.html" in err
    assert Path("runs/small/report.html").stat().st_size > 10_000
    assert strict(command("report", "runs/small", "--json").out) == verdict


def test_report_best_prints_code_that_builds_the_winner(finished, command, monkeypatch):
    folder, (_, out, _), _ = finished
    monkeypatch.chdir(folder)
    verdict = strict(out)
    status, code, err = command("report", "runs/small", "--best")
    assert (status, err) == (0, "")
    ast.parse(code)
    names = {"model": torch.nn.Linear(3, 2)}
    exec(code, names)
    winner = verdict["optimizers"][verdict["ranking"][0]]["spec"]
    wanted = ravine.assemble(winner, names["model"], horizon=40)
    assert isinstance(names["opt"], ravine.Optimizer)
    assert str(names["opt"].param_groups) == str(wanted.param_groups)
