"""Hints and distillation: the papers' losses, any teacher and student, killed and resumed to the bit."""

import copy
import dataclasses
import json
import math

import pytest
import small_nets as nets
import torch
from commands import run
from torch import nn
from torch.nn import functional as F

import ravine
from ravine.core.errors import RavineError
from ravine.nn.fitting import regressor
from ravine.strategies import distill
from ravine.strategies.hints import _Lesson
from ravine.weights import fresh

SHORT = {"hint_steps": 4, "steps": 4, "every": 2}


@pytest.fixture(autouse=True)
def checkpoints_at_every_row(monkeypatch):
    """So that what was cut off goes on in the middle of a run, and does not begin anew."""
    monkeypatch.setattr("ravine.resume._EVERY_SECONDS", -1.0)
    monkeypatch.setattr("ravine.resume._EVERY_COSTS", 0.0)


def teacher(kind: str) -> nn.Module:
    torch.manual_seed(5)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3))
    return nets.task(kind).model()


# the losses


def test_hint_loss_is_half_the_squared_distance():
    """Romero et al. 2015, eq. 3, one example after the other in plain Python."""
    task, big = nets.task("mlp"), teacher("mlp")
    lesson = _Lesson(task, big, fresh(task), None, 3.0, (4.0, 1.0))
    lesson.choose("1", "3", None)
    hinted = lesson.hinting()
    model = hinted.model()
    x, y = task.train[0][:7], task.train[1][:7]
    total = 0.0
    for one in x:
        u = big[:2](one).tolist()
        v = model.student[:4](one)
        r = (model.regressor.weight.double() @ v.double() + model.regressor.bias.double()).tolist()
        total += sum((a - b) ** 2 for a, b in zip(u, r, strict=True)) / 2
    assert hinted.loss(model, (x, y)).item() == pytest.approx(total / 7, rel=1e-5)
    assert hinted.judge(model, (x, y)) == pytest.approx(total / 7, rel=1e-5)
    assert (model.regressor.in_features, model.regressor.out_features) == (8, 20)


@pytest.mark.parametrize("time", [0, 2, 5, 9])
def test_distillation_loss_is_that_of_the_papers(time):
    """Romero et al. 2015, eq. 2 with Hinton's tau squared: sums over classes and examples, by hand."""
    task, big = nets.task("mlp"), teacher("mlp")
    lesson = _Lesson(task, big, fresh(task), None, 2.5, (4.0, 1.0))
    timed = lesson.distilling(5)
    model = timed.model()
    x, y = task.train[0][:6], task.train[1][:6]
    weight = 4 - 3 * min(1, time / 5)
    total = 0.0
    for one, label in zip(x, y.tolist(), strict=True):
        a, b = model(one).double().tolist(), big(one).double().tolist()

        def softened(logits, tau):
            powers = [math.exp(logit / tau) for logit in logits]
            return [power / sum(powers) for power in powers]

        kl = sum(t * math.log(t / s) for t, s in zip(softened(b, 2.5), softened(a, 2.5), strict=True))
        total += -math.log(softened(a, 1)[label]) + weight * 2.5**2 * kl
    assert timed.loss(model, ((x, y), time)).item() == pytest.approx(total / 6, rel=1e-5)


def test_the_gradient_of_soft_targets_keeps_its_size():
    """Hinton et al. 2015, section 2: tau² dKL/dz tends to (z - v) / N for centred logits as tau grows."""
    task = nets.task("mlp")
    z, v = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    z, v = (z - z.mean(1, keepdim=True)).requires_grad_(), v - v.mean(1, keepdim=True)
    lesson = _Lesson(task, teacher("mlp"), fresh(task), None, 1e4, (4.0, 1.0))
    (grad,) = torch.autograd.grad(lesson._soft_targets(z, v) * 4, z)
    torch.testing.assert_close(grad, (z.detach() - v) / 3, rtol=1e-3, atol=1e-4)


def test_classes_may_come_last_or_second():
    """Of a language model each position is a prediction; the mean is over all of them."""
    task = nets.task("transformer")
    lesson = _Lesson(task, teacher("transformer"), fresh(task), None, 2.0, (4.0, 1.0))
    a, b = torch.randn(2, 4, 5), torch.randn(2, 4, 5)
    expected = 4 * F.kl_div((a / 2).log_softmax(-1), (b / 2).softmax(-1), reduction="sum") / 8
    torch.testing.assert_close(lesson._soft_targets(a, b), expected)


def language(form: str, long: int):
    """A language model of 5 characters whose batch holds its labels in one way or another."""
    text = torch.randint(5, (48, long + 1), generator=torch.Generator().manual_seed(3))

    def parts(batch):
        if isinstance(batch, dict):
            return batch["x"], batch["y"]
        if form == "tensor":
            return batch[0][:, :-1], batch[0][:, 1:]
        return batch[0], batch[1].view(-1, long)

    def loss(model, batch):
        return criterion(model(parts(batch)[0]), batch)

    def criterion(outputs, batch):
        return F.cross_entropy(outputs.flatten(0, 1), parts(batch)[1].flatten())

    x, y = text[:, :-1], text[:, 1:]
    data = {"dict": {"x": x, "y": y}, "tensor": (text,)}.get(form, (x, y))

    def flattened(generator):
        while True:
            rows = torch.randint(48, (8,), generator=generator)
            yield x[rows], y[rows].flatten()

    return ravine.Task(
        name="language", model=lambda: nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5)), loss=loss,
        train=flattened if form == "flattened" else data, valid=data, better="lower", batch_size=8,
        metric=lambda model, data: float(loss(model, data)), criterion=criterion,
        forward=lambda model, batch: model(parts(batch)[0]),
    )  # fmt: skip


@pytest.mark.parametrize(("form", "long", "why"), [
    ("tensor", 7, "there are no labels beside the inputs"),
    ("dict", 7, "there are no labels beside the inputs"),
    ("flattened", 7, r"labels of shape \(56,\) fit neither"),
    ("pair", 5, r"labels of shape \(8, 5\) fit both"),
])  # fmt: skip
def test_where_the_labels_do_not_tell_which_dimension_holds_the_classes_one_is_asked(form, long, why):
    """Softened over the characters, not over time: at each place sum_c t_c log(t_c / s_c), by hand."""
    task = language(form, long)
    torch.manual_seed(5)
    big = task.model()
    message = rf"outputs \(8, {long}, 5\) of task 'language' holds the classes\? {why}: give classes=-1"
    with pytest.raises(RavineError, match=message):
        distill(big, None, task, **SHORT)
    with pytest.raises(RavineError, match="classes must be -1, the last dimension of the outputs, or 1"):
        distill(big, None, task, classes=2, **SHORT)
    a, b = torch.randn(2, long, 5).double(), torch.randn(2, long, 5).double()
    s, t = ((x / 2).exp() / (x / 2).exp().sum(-1, keepdim=True) for x in (a, b))
    expected = 4 * (t * (t / s).log()).sum() / (2 * long)
    last = _Lesson(task, big, fresh(task), None, 2.0, (4.0, 1.0), -1)
    torch.testing.assert_close(last._soft_targets(a, b), expected)
    second = _Lesson(task, big, fresh(task), None, 2.0, (4.0, 1.0), 1)
    torch.testing.assert_close(second._soft_targets(a.mT, b.mT), expected)
    *_, end = distill(big, None, task, "adam", classes=-1, hint_steps=0, steps=2)
    assert math.isfinite(end.loss)


# the stages


@pytest.mark.parametrize("kind", nets.KINDS)
@pytest.mark.parametrize("killed_at", [1, 4])
def test_killed_and_resumed_it_ends_as_if_undisturbed(kind, killed_at, tmp_path):
    task, big = nets.task(kind), teacher(kind)
    before = copy.deepcopy(big.state_dict())
    whole = nets.told(distill(big, None, task, "adam(lr=0.01)", **SHORT))
    for number, _ in enumerate(distill(big, None, task, "adam(lr=0.01)", out=tmp_path, **SHORT)):
        if number == killed_at:
            break
    nets.same(nets.told(distill(big, None, task, "adam(lr=0.01)", out=tmp_path, **SHORT)), whole)
    assert [row["stage"] for row in whole[0]] == ["hint"] * 3 + ["distill"] * 3
    assert whole[0][2]["metric"] < whole[0][0]["metric"]
    assert whole[0][-1]["work"] == 8
    assert all(torch.equal(before[name], value) for name, value in big.state_dict().items())


def test_hints_train_the_guided_half_and_nothing_above():
    task, start = nets.task("mlp"), fresh(nets.task("mlp")).state_dict()
    learnt: dict[str, torch.Tensor] = {}
    for moment in distill(teacher("mlp"), None, task, "adam", hint_layer="1", guided_layer="3", hint_steps=4, steps=1):
        if moment.stage == "hint":
            learnt = {name: value.clone() for name, value in moment.model.student.state_dict().items()}
        elif moment.loss is None:  # the second stage begins where the first ended
            assert all(torch.equal(value, learnt[name]) for name, value in moment.model.state_dict().items())
    moved = {name for name, value in start.items() if not torch.equal(value, learnt[name])}
    assert moved == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_students_of_other_kinds_and_without_hints():
    """A CNN teaches an MLP by its answers alone."""
    task = nets.task("cnn", model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    big = nets.ResNet()
    rows, _ = nets.told(distill(big, None, task, "adam", hint_steps=0, steps=4, every=2))
    assert {row["stage"] for row in rows} == {"distill"}
    given = distill(big, task.model, nets.task("cnn"), "adam", hint_steps=0, steps=4, every=2)
    assert nets.told(given)[0] == rows
    *_, last = distill(big, nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), task, hint_steps=0, steps=2)
    assert last.stage == "distill"


def test_other_outputs_with_a_loss_of_ones_own():
    task = nets.task("mlp", criterion=nn.MSELoss(), metric="mse", train=(nets.X, nets.X[:, :3]),
                     valid=(nets.X, nets.X[:, :3]))  # fmt: skip
    with pytest.raises(RavineError, match="outputs of task 'mlp' are none: give match="):
        distill(teacher("mlp"), None, task, **SHORT)
    *_, last = distill(teacher("mlp"), None, task, match=F.mse_loss, **SHORT)
    assert math.isfinite(last.loss)


def test_a_student_comes_near_its_teacher():
    task, big = nets.task("mlp"), teacher("mlp")
    *_, taught = ravine.train(dataclasses.replace(task, model=lambda: big), "adam(lr=0.02)", steps=100)
    lesson = _Lesson(task, taught.model, fresh(task), None, 3.0, (4.0, 1.0))

    def distance(student: nn.Module) -> float:
        with torch.no_grad():
            return float(lesson._soft_targets(student(nets.X), taught.model(nets.X)))

    rows = list(distill(taught.model, None, task, "adam(lr=0.02)", hint_steps=100, steps=100, every=20))
    assert rows[5].metric < 0.5 * rows[0].metric  # the hint loss
    assert distance(rows[-1].model) < 0.1 * distance(fresh(task))
    assert rows[-1].metric > 0.9


# regressors and what is refused


@pytest.mark.parametrize(("guided", "hint", "second", "kind"), [
    ((2, 5), (2, 7), False, nn.Linear),
    ((2, 9, 5), (2, 9, 7), False, nn.Linear),
    ((2, 4, 8, 8), (2, 6, 8, 8), True, nn.Conv2d),
    ((2, 4, 8, 7), (2, 6, 5, 5), True, nn.Conv2d),
    ((2, 4, 9), (2, 6, 7), True, nn.Conv1d),
])  # fmt: skip
def test_regressors_are_made_from_the_shapes(guided, hint, second, kind):
    made = regressor(guided, hint, second)
    assert isinstance(made, kind)
    assert made(torch.zeros(guided)).shape == hint


def test_layers_that_do_not_fit_say_their_shapes_and_offer_a_regressor():
    small, big = nets.ResNet(), nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 3))
    task = nets.task("cnn", model=lambda: small)
    shapes = r"'stem' of shape \(16, 4, 4, 4\) and hint layer '0' of shape \(16, 6, 8, 8\) do not fit"
    offer = r"such as nn.Sequential\(nn.Upsample\(size=\(8, 8\)\), nn.Conv2d\(4, 6, 1\)\)"
    with pytest.raises(RavineError, match=f"{shapes}.*{offer}"):
        distill(big, None, task, hint_layer="0", guided_layer="stem", **SHORT)
    own = nn.Sequential(nn.Upsample(size=(8, 8)), nn.Conv2d(4, 6, 1))
    *_, last = distill(big, None, task, hint_layer="0", guided_layer="stem", regressor=own, **SHORT)
    assert last.stage == "distill"
    with pytest.raises(RavineError, match=r"such as nn.Sequential\(nn.Flatten\(\), nn.Linear\(64, 384\)\)"):
        distill(big, None, task, hint_layer="2", guided_layer="stem", **SHORT)
    with pytest.raises(RavineError, match=r"regressor= makes \(16, 5, 4, 4\) of \(16, 4, 4, 4\), but the hint has"):
        distill(big, None, task, hint_layer="0", guided_layer="stem", regressor=nn.Conv2d(4, 5, 1), **SHORT)
    with pytest.raises(RavineError, match="regressor= cannot take features of shape"):
        distill(big, None, task, hint_layer="0", guided_layer="stem", regressor=nn.Conv2d(3, 5, 1), **SHORT)


@pytest.mark.parametrize(("settings", "message"), [
    ({"hint_layer": "7"}, "unknown hint layer of the teacher '7'.*Allowed: 0, 1, 2"),
    ({"guided_layer": "layer"}, "unknown guided layer of the student 'layer'"),
    ({"temperature": 0.0}, "temperature must be in"),
    ({"soft": (1.0,)}, "soft must be a pair of weights"),
    ({"soft": 3}, "soft must be a pair of weights from 0, at the beginning and the end, got 3"),
    ({"soft": (math.nan, 1.0)}, "soft must be a pair of weights"),
    ({"steps": 0}, "steps must be in"),
    ({"optimizer": "adamm"}, "did you mean 'adam'"),
])  # fmt: skip
def test_it_refuses_before_anything_is_written(settings, message, tmp_path):
    with pytest.raises(RavineError, match=message):
        distill(teacher("mlp"), None, nets.task("mlp"), **{**SHORT, "out": tmp_path / "run", **settings})
    assert not list(tmp_path.rglob("record.jsonl"))


def test_teachers_that_cannot_teach_this():
    task = nets.task("mlp")
    with pytest.raises(RavineError, match=r"teacher's output has the shape \(16, 4\) and the student's \(16, 3\)"):
        distill(nn.Linear(6, 4), None, task, **SHORT)
    with pytest.raises(
        RavineError, match=r"the teacher cannot take a batch of task 'mlp': .*shapes cannot be multiplied"
    ):
        distill(nn.Linear(5, 3), None, task, **SHORT)
    with pytest.raises(RavineError, match=r"must be a trained nn.Module, got function"):
        distill(nets.mlp, None, task, **SHORT)
    with pytest.raises(RavineError, match="has no forward= and criterion="):
        distill(nn.Linear(6, 3), None, dataclasses.replace(task, forward=None), **SHORT)


def test_another_teacher_does_not_go_on_in_the_folder(tmp_path):
    list(distill(teacher("mlp"), None, nets.task("mlp"), out=tmp_path, **SHORT))
    other = teacher("mlp")
    with torch.no_grad():
        other[0].weight.add_(1)
    with pytest.raises(RavineError, match="holds another run \\(teacher is"):
        distill(other, None, nets.task("mlp"), out=tmp_path, **SHORT)


# the commands


def test_the_commands(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = run(capsys, monkeypatch, "train", "digits-mlp", "--steps", 5, "--out", "big", "--json")
    assert done.status == 0, done.err
    arguments = ["distill", "digits-mlp", "--teacher", "digits-mlp", "--hint-steps", 4, "--steps", 4, "--json"]
    done = run(capsys, monkeypatch, *arguments, "--checkpoint", "big", "--out", "run")
    assert done.status == 0, done.err
    content = json.loads(done.out)
    assert [stage["stage"] for stage in content["stages"]] == ["hint", "distill"]
    assert (tmp_path / "run" / "stages.png").stat().st_size > 10_000
    again = json.loads(run(capsys, monkeypatch, *arguments, "--checkpoint", "big", "--out", "run").out)
    drop = [{key: value for key, value in row.items() if key != "observed"} for row in content["rows"]]
    assert [{key: value for key, value in row.items() if key != "observed"} for row in again["rows"]] == drop
    done = run(capsys, monkeypatch, *arguments, "--teacher-steps", 5)
    assert done.status == 0, done.err
    done = run(capsys, monkeypatch, *arguments, "--teacher-steps", 5, "--checkpoint", "big").said
    assert (done.status, "leave --teacher-steps out" in done.err) == (2, True)
    done = run(capsys, monkeypatch, *arguments, "--teacher-steps", 2, "--classes", "-1")
    assert done.status == 0, done.err
    done = run(capsys, monkeypatch, *arguments, "--classes", "3").said
    assert (done.status, "classes must be -1" in done.err) == (2, True)
    done = run(capsys, monkeypatch, *arguments, "--hint-layer", "9").said
    assert (done.status, "unknown hint layer of the teacher '9'" in done.err) == (2, True)


def test_the_command_pretrain(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    arguments = ["pretrain", "digits-mlp", "--steps-per-layer", 4, "--steps", 4, "--direct", "--out", "run"]
    done = run(capsys, monkeypatch, *arguments, "--json")
    assert done.status == 0, done.err
    content = json.loads(done.out)
    assert [stage["stage"] for stage in content["stages"]] == ["layer 1", "layer 2", "joint"]
    assert content["works"] == content["direct"]["rows"][-1]["work"] == 12
    assert (tmp_path / "run" / "stages.png").stat().st_size > 10_000
    assert "directly" in run(capsys, monkeypatch, *arguments).out
    for wrong, message in ((["--keep", "4"], "--keep must be two"), (["--steps", "0"], "steps must be in")):
        done = run(capsys, monkeypatch, "pretrain", "digits-mlp", *wrong).said
        assert (done.status, message in done.err) == (2, True), done.err
