"""Transfer: what is copied and held, the whole matrix, its records, and what is refused."""

import contextlib
import copy
import dataclasses
import json

import numpy as np
import pytest
import small_nets as nets
import torch
from commands import run
from scipy import stats
from torch import nn

import ravine
from ravine.core.errors import RavineError
from ravine.core.record import read
from ravine.strategies import class_halves, copy_layers, draw_matrix, transfer
from ravine.strategies.copying import hold
from ravine.strategies.transferring import load

SHORT = {"steps": 4, "seeds": 2}


@pytest.fixture(autouse=True)
def checkpoints_at_every_row(monkeypatch):
    """So that what was cut off goes on in the middle of a run, and does not begin anew."""
    monkeypatch.setattr("ravine.resume._EVERY_SECONDS", -1.0)
    monkeypatch.setattr("ravine.resume._EVERY_COSTS", 0.0)


def task_b(kind: str = "mlp"):
    task = nets.task(kind)
    return dataclasses.replace(task, name=f"{kind}-b", train=tuple(part.flip(0) for part in task.train))


# layers


@pytest.mark.parametrize("kind", nets.KINDS)
def test_the_first_layers_are_copied_and_no_other(kind):
    make = nets.task(kind).model
    torch.manual_seed(1)
    source, target = make(), make()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    if kind != "mlp":
        message = f"which 2 of the . layers of the {type(source).__name__} come first is seen by running it: give exam"
        with pytest.raises(RavineError, match=message):
            copy_layers(source, target, 2)
    names = copy_layers(source, target, 2, example=None if kind == "mlp" else nets.task(kind).train[0][:2])
    prefix = {"mlp": ("0.", "2."), "cnn": ("stem.", "stage.0."), "lstm": ("embedding.", "lstm."),
              "transformer": ("embedding.", "position_embedding.")}[kind]  # fmt: skip
    assert {name.split(".")[0] for name in names} >= {part.split(".")[0] for part in prefix}
    for name, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[name] if name.startswith(prefix) else before[name])
    assert all(p.requires_grad for p in target.parameters())


def test_held_layers_stay_whatever_is_done_to_the_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2))
    source = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2))
    copy_layers(source, model, 1, freeze=True)
    held = {name: value.clone() for name, value in model[:3].state_dict().items()}
    model.train()
    x = torch.randn(8, 4)
    assert torch.equal(model[:3](x), model[:3](x))
    opt = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.1)
    model(x).square().sum().backward()
    opt.step()
    assert all(torch.equal(value, model[:3].state_dict()[name]) for name, value in held.items())
    assert model.training
    assert model[3].training
    copied = copy.deepcopy(model).train()
    assert not copied[1].training
    copied[1].running_mean.add_(1)
    assert torch.equal(model[1].running_mean, held["1.running_mean"])


def test_layers_by_name_and_what_does_not_fit():
    a, b = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)), nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    assert copy_layers(a, b, ["0"]) == ["0"]
    assert copy_layers(a, b, 0) == []
    kept = b[1].weight.clone()
    with pytest.raises(
        RavineError, match=r"layer '1' does not fit: its weight has the shape \(2, 6\) in the source and "
    ):
        copy_layers(a, b, 2)
    assert torch.equal(b[1].weight, kept)
    with pytest.raises(RavineError, match="3 layers cannot be copied: the Sequential has 2, '0', '1'"):
        copy_layers(a, b, 3)
    with pytest.raises(RavineError, match=r"unknown layer '2'.*Allowed: 0, 1"):
        copy_layers(a, b, ["2"])
    with pytest.raises(RavineError, match="layer '0' has bias in one of the two models only"):
        copy_layers(a, nn.Sequential(nn.ReLU(), nn.Linear(6, 2)), 1)
    with pytest.raises(RavineError, match="a number of layers or names"):
        copy_layers(a, b, True)


class Reversed(nn.Module):
    """Registers its last layer first."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.middle, self.body = nn.Linear(8, 3), nn.Linear(8, 8), nn.Linear(6, 8)

    def forward(self, x):
        return self.head(torch.relu(self.middle(torch.relu(self.body(x)))))


def test_the_first_layers_are_those_that_run_first(tmp_path):
    assert copy_layers(Reversed(), Reversed(), 1, example=nets.X[:2]) == ["body"]
    assert copy_layers(Reversed(), Reversed(), 2, example=(nets.X[:2],)) == ["body", "middle"]
    assert sorted(copy_layers(Reversed(), Reversed(), 3)) == ["body", "head", "middle"]  # all: the order is no matter
    a, b = nets.task("mlp", model=Reversed), dataclasses.replace(task_b(), model=Reversed)
    transfer(a, b, "adam(lr=0.01)", layers=[1, 2], treatments=["AnB"], steps=3, seeds=1, out=tmp_path)

    def weights(name):
        return torch.load(tmp_path / "seed-0" / name / "checkpoint.pt", weights_only=True)["run"]["model"]

    base = weights("baseA")
    for name, kept in (("A1B", ["body"]), ("A2B", ["body", "middle"])):
        found = weights(name)
        same = [
            part for part in ("body", "middle", "head") if torch.equal(found[f"{part}.weight"], base[f"{part}.weight"])
        ]
        assert same == kept


# the matrix


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer") / "run"
    return transfer(nets.task("mlp"), task_b(), "adam(lr=0.01)", layers=[1, 3], out=folder, **SHORT), folder


def test_every_cell_is_there_with_its_record(matrix):
    found, folder = matrix
    assert set(found.values) == {("baseA", 0), ("baseB", 0)} | {
        (t, n) for t in ("BnB", "BnB+", "AnB", "AnB+") for n in (1, 3)
    }
    assert all(len(values) == 2 for values in found.values.values())
    assert found.work == 2 * (2 + 4 * 2) * 4
    assert {file.parent.name for file in folder.glob("seed-1/*/record.jsonl")} == {
        "baseA", "baseB", "B1B", "B1B+", "A1B", "A1B+", "B3B", "B3B+", "A3B", "A3B+"
    }  # fmt: skip
    assert read(folder / "seed-0" / "A3B" / "record.jsonl").rows[-1]["metric"] == found.values["AnB", 3][0]
    assert load(folder) == found


def test_frozen_layers_are_those_learnt_on_a_and_fine_tuned_ones_move(matrix):
    _, folder = matrix

    def weights(name):
        return torch.load(folder / "seed-0" / name / "checkpoint.pt", weights_only=True)["run"]["model"]

    base_a, base_b = weights("baseA"), weights("baseB")
    for name, base in (("A3B", base_a), ("B3B", base_b)):
        copied = weights(name)
        assert all(torch.equal(copied[f"{i}.{p}"], base[f"{i}.{p}"]) for i in (0, 2, 4) for p in ("weight", "bias"))
        assert not any(torch.equal(copied[f"{i}.weight"], base[f"{i}.weight"]) for i in (6, 8))
        assert not torch.equal(weights(f"{name}+")["0.weight"], base["0.weight"])


def test_treatments_of_one_seed_begin_alike_above_the_copied_layers(matrix):
    """So that differences between them are those of the treatment."""
    _, folder = matrix
    first = [read(folder / "seed-0" / name / "record.jsonl").rows[0]["metric"] for name in ("A1B", "A1B+")]
    assert first[0] == first[1]


def test_means_and_gains_have_students_intervals(matrix):
    found, _ = matrix
    a, b = (np.array(found.values[key]) for key in (("AnB+", 1), ("baseB", 0)))
    low, high = stats.t.interval(0.95, 1, a.mean(), a.std(ddof=1) / 2**0.5)
    assert found.estimate("AnB+", 1).low == pytest.approx(low)
    assert found.estimate("AnB+", 1).high == pytest.approx(high)
    assert found.gain("AnB+", 1).value == pytest.approx((a - b).mean())


def test_cut_off_it_goes_on_to_the_same_end(matrix, tmp_path):
    found, _ = matrix

    class Killed(Exception):
        pass

    def observe(name, done, most):
        assert most == 80
        if done >= 30:
            raise Killed

    settings = {"layers": [1, 3], "out": tmp_path, **SHORT}
    with pytest.raises(Killed):
        transfer(nets.task("mlp"), task_b(), "adam(lr=0.01)", observe=observe, **settings)
    begun = len(list(tmp_path.glob("*/*/record.jsonl")))
    assert 5 < begun < 20
    assert transfer(nets.task("mlp"), task_b(), "adam(lr=0.01)", **settings) == found
    with pytest.raises(RavineError, match="holds another run \\(steps is 4, not 5\\)"):
        transfer(nets.task("mlp"), task_b(), "adam(lr=0.01)", **{**settings, "steps": 5})


def test_a_convolutional_net_cut_off_within_runs_goes_on_to_the_same_end(tmp_path):
    """Each call is cut off at one of its reports, 3 later than the one before, until one gets to the end."""

    class Killed(Exception):
        pass

    settings = {"layers": [1, 2], "treatments": ["AnB", "BnB+"], "steps": 4, "seeds": 1}
    whole = transfer(nets.task("cnn"), task_b("cnn"), "adam(lr=0.01)", **settings)
    found, calls = None, 0
    while found is None:
        calls += 1
        left = iter(range(3 * calls))

        def observe(name, done, most, left=left):
            if next(left, None) is None:
                raise Killed

        with contextlib.suppress(Killed):
            found = transfer(
                nets.task("cnn"), task_b("cnn"), "adam(lr=0.01)", observe=observe, out=tmp_path, **settings
            )
    assert calls > 5
    assert found == whole
    assert load(tmp_path) == whole


@pytest.mark.parametrize("kind", ["cnn", "lstm", "transformer"])
def test_any_model_will_do(kind):
    found = transfer(nets.task(kind), task_b(kind), "adam(lr=0.01)", layers=[1], treatments=["AnB"], steps=2, seeds=1)
    assert set(found.values) == {("baseA", 0), ("baseB", 0), ("AnB", 1)}


def test_the_picture_has_a_line_for_each_treatment(matrix, tmp_path):
    text = draw_matrix(matrix[0], tmp_path / "m.svg").read_text()
    for label in ("AnB, from A, frozen", "BnB+, from B itself, fine-tuned", "copied layers n", "baseB, nothing copied"):
        assert label in text
    with pytest.raises(RavineError, match=r"must end in .png or .svg"):
        draw_matrix(matrix[0], tmp_path / "m.gif")


def test_halves_of_classes_share_nothing_and_are_numbered_from_zero():
    task = ravine.task("digits-mlp")
    a, b = class_halves(task, seed=3, few=20)
    assert a.name == "digits-mlp-A"
    x, y = task.train
    assert torch.bincount(b.train[1]).tolist() == [20] * 5
    assert len(a.train[1]) == len(class_halves(task, seed=3)[0].train[1])
    kinds = {tuple(row.tolist()): int(label) for row, label in zip(x, y, strict=True)}
    true_a = {kinds[tuple(row.tolist())] for row in a.train[0][:500]}
    true_b = {kinds[tuple(row.tolist())] for row in b.train[0]}
    assert len(true_a) == len(true_b) == 5
    assert not true_a & true_b
    for part in (a.train, b.valid, b.test):
        assert part[1].unique().tolist() == [0, 1, 2, 3, 4]


# what is refused


@pytest.mark.parametrize(("settings", "message"), [
    ({"layers": [5]}, "layers=5 cannot be copied: the model of task 'mlp-b' has 5 layers, of which 1 to 4"),
    ({"layers": []}, "there is no layer to copy"),
    ({"treatments": ["AnC"]}, "unknown treatment 'AnC'"),
    ({"seeds": 0}, "seeds must be in"),
    ({"optimizer": "sgd(lr=1e38)"}, "baseA, seed 0: .* diverged after"),
])  # fmt: skip
def test_transfer_refuses(settings, message):
    with pytest.raises(RavineError, match=message):
        transfer(nets.task("mlp"), task_b(), **{**SHORT, **settings})


def test_models_that_do_not_fit_are_told_before_anything_is_trained(tmp_path):
    wide = nets.task("mlp", model=lambda: nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)))
    with pytest.raises(RavineError, match=r"layer '0' does not fit: its weight has the shape \(8, 6\)"):
        transfer(nets.task("mlp"), wide, layers=[1], out=tmp_path / "run", **SHORT)
    with pytest.raises(RavineError, match=r"needs a ravine\.Task"):
        transfer("digits-mlp", wide)
    assert not (tmp_path / "run").exists()
    with pytest.raises(RavineError, match="cannot be halved by its classes"):
        class_halves(nets.task("transformer"))
    with pytest.raises(RavineError, match="has 3 classes: halves need two each"):
        class_halves(nets.task("mlp"))


@pytest.mark.parametrize("few", [0, -1, "3", 2.5])
def test_halves_refuse(few):
    with pytest.raises(RavineError, match=f"few must be .*got {few!r}"):
        class_halves(ravine.task("digits-mlp"), few=few)


# the command


def test_the_command(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    arguments = ["transfer", "digits-mlp", "--few", 20, "--layers", "1-2", "--steps", 3, "--seeds", 1, "--out", "run"]
    done = run(capsys, monkeypatch, *arguments, "--json")
    assert done.status == 0, done.err
    content = json.loads(done.out)
    assert content["task_b"] == "digits-mlp-B"
    assert len(content["cells"]) == 2 + 4 * 2
    assert (tmp_path / "run" / "transfer.png").stat().st_size > 10_000
    again = run(capsys, monkeypatch, *arguments)
    assert "AnB+" in again.out
    for wrong, message in ((["--layers", "one"], "--layers must be like 1-3"), (["--seeds", "0"], "seeds must be in")):
        done = run(capsys, monkeypatch, "transfer", "digits-mlp", *wrong).said
        assert (done.status, message in done.err) == (2, True), done.err


def test_holding_is_for_good():
    layer = nn.Sequential(nn.Dropout(0.5))
    hold([layer])
    assert not layer.train().training
