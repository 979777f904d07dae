"""Greedy pretraining: what each stage trains and leaves alone; four kinds of model, killed and resumed to the bit."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_nets as nets
import torch
from commands import run
from torch import nn

import ravine
from ravine.core.errors import RavineError
from ravine.core.record import read
from ravine.core.seeds import derive
from ravine.strategies import pretrain
from ravine.weights import fresh

SHORT = {"steps_per_layer": 4, "steps": 4, "every": 2}
COMMAND = """
import sys
from ravine import resume
from ravine.cli import main
resume._EVERY_SECONDS, resume._EVERY_COSTS = -1.0, 0.0
main()
"""


@pytest.fixture(autouse=True)
def checkpoints_at_every_row(monkeypatch):
    """So that what was cut off goes on in the middle of a run, and does not begin anew."""
    monkeypatch.setattr("ravine.resume._EVERY_SECONDS", -1.0)
    monkeypatch.setattr("ravine.resume._EVERY_COSTS", 0.0)


def ends(moments):
    """Each stage's first and last moment with the weights there."""
    found = {}
    for moment in moments:
        weights = {name: value.clone() for name, value in moment.model.state_dict().items()}
        found.setdefault(moment.stage, []).append((moment, weights))
    return found


def moved(before, after, names):
    return {name for name in names if not torch.equal(before[name], after[name])}


def test_each_stage_trains_its_layer_and_the_next_begins_there():
    task = nets.task("mlp")
    found = ends(pretrain(task, "adam", **SHORT))
    assert list(found) == ["layer 1", "layer 2", "layer 3", "layer 4", "joint"]
    parameters = [name for name, _ in task.model().named_parameters()]
    start = fresh(task).state_dict()
    for number, stage in enumerate(("layer 1", "layer 2", "layer 3")):
        before, after = found[stage][0][1], found[stage][-1][1]
        inside = [f"model.{name}" for name in parameters]
        own = {f"model.{2 * number}.weight", f"model.{2 * number}.bias"}
        assert moved(before, after, inside) == own
        assert moved(before, after, ["head.weight", "head.bias"]) == {"head.weight", "head.bias"}
    assert moved(found["layer 4"][0][1], found["layer 4"][-1][1], parameters) == {
        "6.weight", "6.bias", "8.weight", "8.bias"
    }  # fmt: skip
    # the first stage begins where ravine.train would; each layer goes on where its stage left it
    assert all(torch.equal(found["layer 1"][0][1][f"model.{name}"], start[name]) for name in parameters)
    joint = found["joint"][0][1]
    assert torch.equal(joint["2.weight"], found["layer 2"][-1][1]["model.2.weight"])
    assert torch.equal(joint["8.weight"], found["layer 4"][-1][1]["8.weight"])
    assert moved(joint, found["joint"][-1][1], parameters) == set(parameters)


def test_a_stage_is_ordinary_training_of_the_layer_with_a_head():
    """The first stage by hand: the same layer, head and batches give the same weights."""
    task = nets.task("mlp")
    found = ends(pretrain(task, "sgd(lr=0.1)", **SHORT))["layer 1"]
    start = found[0][1]
    layer, head = nn.Linear(6, 8), nn.Linear(8, 3)
    layer.load_state_dict({"weight": start["model.0.weight"], "bias": start["model.0.bias"]})
    head.load_state_dict({"weight": start["head.weight"], "bias": start["head.bias"]})
    small = nn.Sequential(layer, nn.Tanh(), head)
    plain = dataclasses.replace(task, model=lambda: small)
    *_, last = ravine.train(plain, "sgd(lr=0.1)", steps=4, seed=derive(0, "stage", "layer 1"))
    torch.testing.assert_close(last.model[0].weight, found[-1][1]["model.0.weight"], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(last.model[2].weight, found[-1][1]["head.weight"], rtol=1e-6, atol=1e-7)


def test_work_is_counted_over_all_stages():
    moments = list(pretrain(nets.task("mlp"), "adam", **SHORT))
    assert {moment.works for moment in moments} == {4 * 4 + 4}
    assert moments[-1].work == moments[-1].works == 20
    assert moments[-1].step == 20
    assert moments[-1].examples == 20 * 16
    assert [moment.work for moment in moments] == sorted(moment.work for moment in moments)
    assert moments[-1].row()["stage"] == "joint"


@pytest.mark.parametrize("kind", nets.KINDS)
@pytest.mark.parametrize("killed_at", [1, 5, 8])
def test_killed_and_resumed_it_ends_as_if_undisturbed(kind, killed_at, tmp_path):
    task = nets.task(kind)
    whole = nets.told(pretrain(task, "adam(lr=0.01)", **SHORT))
    for number, _ in enumerate(pretrain(task, "adam(lr=0.01)", out=tmp_path, **SHORT)):
        if number == killed_at:
            break
    nets.same(nets.told(pretrain(task, "adam(lr=0.01)", out=tmp_path, **SHORT)), whole)
    nets.same(nets.told(pretrain(task, "adam(lr=0.01)", out=tmp_path, **SHORT)), whole)  # and finished as it is
    assert all(read(file).finished for file in tmp_path.glob("*/record.jsonl"))


def test_the_command_killed_with_sigkill_ends_with_the_same_numbers(capsys, monkeypatch, tmp_path):
    """Killed in its last stage; the same command then goes on and says the same as one that was not."""
    arguments = ["pretrain", "digits-mlp", "--steps-per-layer", "5", "--steps", "400", "--every", "10", "--json"]
    record = tmp_path / "cut" / "3-joint" / "record.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments, "--out", str(tmp_path / "cut")], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )  # fmt: skip
    while process.poll() is None and not (record.exists() and record.read_text().count("\n") > 5):
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not read(record).finished
    kept = len(read(record).rows)
    resumed, whole = (
        json.loads(run(capsys, monkeypatch, *arguments, "--out", tmp_path / name).out) for name in ("cut", "whole")
    )
    assert resumed["metric"] == whole["metric"]
    assert 4 < kept < 41  # the first of 6 lines is the header
    assert [{**row, "observed": 0} for row in resumed["rows"]] == [{**row, "observed": 0} for row in whole["rows"]]


@pytest.mark.parametrize(("kind", "stages"), [
    ("cnn", ["layer 1", "layer 2", "layer 3", "joint"]),
    ("lstm", ["layer 1", "layer 2", "joint"]),
    ("transformer", ["layer 1", "layer 2", "layer 3", "joint"]),
])  # fmt: skip
def test_any_model_is_trained_in_the_order_in_which_it_runs(kind, stages):
    found = ends(pretrain(nets.task(kind), "adam(lr=0.01)", **SHORT))
    assert list(found) == stages
    first = found["layer 1"]
    touched = moved(first[0][1], first[-1][1], [name for name in first[0][1] if name.startswith("model.")])
    expected = {"cnn": "model.stem.", "lstm": "model.embedding.", "transformer": "model.position_embedding."}[kind]
    assert any(name.startswith(expected) for name in touched)  # a table used without its module has its place too
    assert not any("fc." in name or "blocks" in name or "stage" in name for name in touched)


def test_torchs_own_transformer_has_its_layers():
    def model() -> nn.Module:
        encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
        return nn.Sequential(nn.Embedding(5, 8), encoder, nn.Linear(8, 5))

    task = dataclasses.replace(nets.task("transformer"), model=model)
    found = ends(pretrain(task, "adam(lr=0.01)", **SHORT))
    assert list(found) == ["layer 1", "layer 2", "layer 3", "joint"]
    second = found["layer 2"]
    touched = moved(second[0][1], second[-1][1], [name for name in second[0][1] if name.startswith("model.")])
    assert {name.split(".self_attn")[0] for name in touched if "attn" in name} == {"model.1.layers.0"}


def test_frozen_layers_keep_their_statistics_and_drop_nothing():
    """The second block trains on what the first makes in evaluation mode."""
    found = ends(pretrain(nets.task("cnn"), "adam(lr=0.01)", **SHORT))
    second = found["layer 3"]
    statistics = [name for name in second[0][1] if "stage.0.bn1" in name]
    assert statistics
    assert not moved(second[0][1], second[-1][1], statistics)
    joint = found["joint"]
    assert moved(joint[0][1], joint[-1][1], ["stage.0.bn1.running_mean"])


def test_outer_layers_first_then_the_middle():
    task = nets.task("mlp")
    found = ends(pretrain(task, "adam", keep_outer=(1, 2), **SHORT))
    assert list(found) == ["outer 3 layers", "joint"]
    assert found["joint"][-1][0].works == 3 * 4 + 4
    outer, joint, start = found["outer 3 layers"][-1][1], found["joint"][0][1], fresh(task).state_dict()
    assert set(outer) == {"0.weight", "0.bias", "6.weight", "6.bias", "8.weight", "8.bias"}
    assert all(torch.equal(joint[name], outer[name]) for name in outer)
    assert all(torch.equal(joint[name], start[name]) for name in start if name not in outer)
    assert not torch.equal(outer["0.weight"], start["0.weight"])
    everything = ends(pretrain(task, "adam", keep_outer=True, **SHORT))
    assert list(everything) == ["outer 2 layers", "joint"]
    resnet = ends(pretrain(nets.task("cnn"), "adam", keep_outer=(1, 1), **SHORT))
    assert list(resnet) == ["outer 2 layers", "joint"]


def test_what_the_optimizer_says_counts_is_handed_on():
    handed, beside = [], []
    for moment in pretrain(nets.task("mlp"), "schedule_free(adam(lr=0.01))", **SHORT):
        if (moment.stage, moment.work) == ("layer 1", 4):
            beside.append(moment.model.model[0].weight.clone())
            with moment.optimizer.swapped():
                handed.append(moment.model.model[0].weight.clone())
        if (moment.stage, moment.loss) == ("joint", None):
            assert torch.equal(moment.model[0].weight, handed[0])
    assert not torch.equal(handed[0], beside[0])


def test_it_leaves_the_callers_random_state_alone(tmp_path):
    state = torch.get_rng_state()
    *_, last = pretrain(nets.task("transformer"), "adam", **SHORT)
    assert torch.equal(torch.get_rng_state(), state)
    assert last.stage == "joint"


def test_pretraining_helps_a_deep_sigmoid_net():
    """Slides 56-57 in small: 8 sigmoid layers that plain training leaves at chance."""

    def deep() -> nn.Module:
        parts: list[nn.Module] = []
        for number in range(7):
            parts += [nn.Linear(6 if number == 0 else 12, 12), nn.Sigmoid()]
        model = nn.Sequential(*parts, nn.Linear(12, 3))
        for p in model.parameters():
            nn.init.uniform_(p, -0.28, 0.28)
        return model

    task = nets.task("mlp", model=deep, metric="loss")
    *_, greedy = pretrain(task, "adam(lr=0.02)", steps_per_layer=60, steps=60)
    *_, direct = ravine.train(task, "adam(lr=0.02)", steps=greedy.works)
    assert greedy.metric < 0.7 * direct.metric


# what is refused


@pytest.mark.parametrize(("settings", "message"), [
    ({"steps_per_layer": 0}, "steps_per_layer must be in"),
    ({"keep_outer": (3, 2)}, "leaves no middle: the model has 5 layers"),
    ({"keep_outer": 3}, "must be True, False or a pair of whole numbers"),
    ({"optimizer": "adamm"}, "did you mean 'adam'"),
    ({"seed": -1}, "seed must be in"),
])  # fmt: skip
def test_it_refuses_before_anything_is_written(settings, message, tmp_path):
    with pytest.raises(RavineError, match=message):
        pretrain(nets.task("mlp"), **{**SHORT, "out": tmp_path / "run", **settings})
    assert not list(tmp_path.rglob("record.jsonl"))


def test_models_that_cannot_be_pretrained_say_why():
    with pytest.raises(RavineError, match="needs two layers at least; the model of task 'one' is one, a Linear: build"):
        pretrain(nets.task("mlp", name="one", model=lambda: nn.Linear(6, 3)))
    shrinking = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    task = nets.task("mlp", model=lambda: shrinking)
    with pytest.raises(RavineError, match="every inner layer changes the shape"):
        pretrain(task, keep_outer=True)
    with pytest.raises(RavineError, match=r"change the shape \('2 to 3' \(16, 5\) to \(16, 4\)\): keep more"):
        pretrain(task, keep_outer=(1, 1))
    single = nets.task("mlp", name="one", model=lambda: nn.Sequential(nn.Linear(6, 3)))
    with pytest.raises(RavineError, match=r"the model of task 'one' is one, '0' \(Linear\): build it from modules"):
        pretrain(single)


def test_a_folder_of_another_run_or_another_model_is_refused(tmp_path):
    list(pretrain(nets.task("mlp"), "adam", out=tmp_path / "run", **SHORT))
    for change in ({"steps": 5}, {"steps_per_layer": 5}, {"keep_outer": True}, {"seed": 1}):
        with pytest.raises(RavineError, match="holds another run"):
            pretrain(nets.task("mlp"), "adam", out=tmp_path / "run", **{**SHORT, **change})
    other = nets.task("mlp", model=lambda: nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)))
    with pytest.raises(RavineError, match=r"holds another run.*fingerprint is"):
        pretrain(other, "adam", out=tmp_path / "run", **SHORT)
    list(ravine.train(nets.task("mlp"), "adam", steps=2, out=tmp_path / "plain"))
    with pytest.raises(RavineError, match="holds something else"):
        pretrain(nets.task("mlp"), "adam", out=tmp_path / "plain", **SHORT)


EXAMPLE = Path(__file__).parents[1] / "examples" / "strategies.py"


@pytest.mark.parametrize("name", re.findall(r"(?m)^def ([a-z]\w*)", EXAMPLE.read_text(encoding="utf-8")))
def test_the_tasks_of_the_examples_train(name):
    (*_, last) = ravine.train(ravine.task(f"{EXAMPLE}:{name}"), "adam", steps=2)
    assert last.work == 2
    assert not last.diverged
