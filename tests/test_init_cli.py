"""`ravine init`: what it prints, draws, refuses, and with which status it ends."""

import json
import re
import sys
from pathlib import Path

import pytest
from commands import run

STARTS = Path(__file__).parents[1] / "examples" / "starts.py"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test stands in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def command(capsys, monkeypatch):
    return lambda *arguments: run(capsys, monkeypatch, "init", *arguments).said


def test_a_healthy_start_is_shown_with_status_0(command):
    status, out, err = command(f"{STARTS}:tanh_glorot")
    assert (status, "verdict: pass" in out) == (0, True)
    assert "written: runs/init-tanh-glorot.png" in err
    assert Path("runs/init-tanh-glorot.png").stat().st_size > 10_000
    for column in ("activation std", "gradient std", "saturated", "effective rank", "identical units", "loss"):
        assert column in out


def test_a_sick_start_ends_with_status_1_a_reason_and_a_fix(command):
    status, out, _ = command(f"{STARTS}:equal_weights", "--out", "pictures")
    assert status == 1
    assert "63 of 64 units have the same weights and the same gradients as another" in out
    assert "break the symmetry" in out
    assert Path("pictures/signal.png").exists()


def test_a_search_mends_it(command):
    status, out, _ = command(f"{STARTS}:deep_tanh", "--search", "--out", "a.svg")
    assert status == 0
    assert re.search(r"searched: level 1, .* % of means taken out, 1 passes", out)
    assert Path("a.svg").read_text().startswith("<?xml")


def test_recurrent_layers_are_shown_through_time(command):
    status, out, _ = command(f"{STARTS}:forgetful_rnn")
    assert status == 1
    assert "through time layer.l0" in out


def test_json_is_all_there_is_on_standard_output(command):
    status, out, _ = command(f"{STARTS}:dead_relu", "--json", "--seed", 3)
    found = json.loads(out)
    assert status == 1
    assert (found["verdict"], found["seed"], found["examples"]) == ("fail", 3, 128)
    assert {line["verdict"] for line in found["findings"]} == {"pass", "fail"}
    assert found["layers"][0]["name"] == "0"
    assert found["picture"] == "runs/init-dead-relu.png"
    assert found["search"] is None


def test_a_task_without_layers_is_told_so(command):
    status, out, _ = command("quadratic")
    assert status == 0
    assert "has no layer that is known" in out
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digits-mpl",), "unknown task 'digits-mpl': did you mean 'digits-mlp'"),
        ((f"{STARTS}:relu_he", "--out", "a.jpg"), "must be a folder or end in .png or .svg"),
        ((f"{STARTS}:relu_he", "--init", "he", "--checkpoint", "x.pt"), "give one of the two"),
        ((f"{STARTS}:relu_he", "--checkpoint", "x.pt"), "there is no checkpoint 'x.pt'"),
        ((f"{STARTS}:relu_he", "--examples", "1"), "examples must be in [2, inf)"),
        ((f"{STARTS}:relu_he", "--examples", "5000"), "has 1024 to train on"),
        ((f"{STARTS}:dead_relu", "--search"), "4 is dead"),
    ],
)
def test_bad_input_ends_with_status_2(command, arguments, message):
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert message in err
