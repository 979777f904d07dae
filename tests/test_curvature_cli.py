"""`ravine curvature`: what it prints, draws and refuses. That estimates are right is in test_estimators.py."""

import json
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from commands import run
from torch import nn

import ravine
from ravine import curvature
from ravine.anatomy import anatomy
from ravine.core.operator import Operator
from ravine.curvature.survey import MEMORY, check_asked
from ravine.weights import fresh, still, stored, trained

TASK = """
    import torch, ravine
    from torch import nn

    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(48, 3, generator=draw), torch.randint(0, 2, (48,), generator=draw)

    def made(model, criterion=True):
        split = ravine.supervised(
            name="small", model=model, criterion=nn.CrossEntropyLoss(), train=(x, y), valid=(x, y), batch_size=16
        )
        if criterion:
            return split
        return ravine.Task(name="whole", model=model, loss=split.loss, train=(x, y), valid=(x, y), metric=split.metric,
                           batch_size=16)

    def small(): return made(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    def whole(): return made(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), False)
    def drops(): return made(lambda: nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)))
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test stands in a folder of its own, with a file of tasks, and computes in one thread."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(TASK))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("COLUMNS", "300")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def command(capsys, monkeypatch):
    return lambda *arguments: run(capsys, monkeypatch, "curvature", *arguments).said


def dense(model: nn.Module, examples: int = 48) -> torch.Tensor:
    """Eigenvalues of the Hessian of the small task's loss, by autograd and nothing of ravine's curvature."""
    task = ravine.task("mine.py:small")
    named = dict(model.named_parameters())
    sizes = [p.numel() for p in named.values()]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        shaped = (part.view_as(p) for part, p in zip(flat.split(sizes), named.values(), strict=True))
        z = torch.func.functional_call(model, dict(zip(named, shaped, strict=True)), (task.train[0][:examples],))
        return nn.functional.cross_entropy(z, task.train[1][:examples])

    flat = torch.cat([p.detach().reshape(-1) for p in named.values()])
    return torch.linalg.eigvalsh(torch.func.hessian(loss)(flat).double())


def test_the_numbers_are_those_of_the_dense_hessian(command):
    status, out, _ = command("mine.py:small", "--layers", "--json", "--seed", 3, "--samples", 400)
    found = json.loads(out)
    values = dense(fresh(ravine.task("mine.py:small"), 3))
    scale = float(values.abs().max())
    assert status == 0
    assert (found["parameters"], found["examples"], found["seed"], found["kind"]) == (26, 48, 3, "hessian")
    assert found["top"]["value"] == pytest.approx(values.flip(0)[:3].tolist(), abs=1e-4 * scale)
    assert found["bottom"]["value"] == pytest.approx(values[:3].flip(0).tolist(), abs=1e-4 * scale)
    assert all(error <= 1e-4 * scale for error in found["top"]["error"])
    assert abs(found["trace"]["value"] - float(values.sum())) <= found["trace"]["error"]
    assert found["negative"]["value"] == int((values < -0.01 * scale).sum()) / 26
    assert found["negative"]["below"] == pytest.approx(-0.01 * scale, rel=1e-3)
    assert sum(found["spectrum"]["weights"]) == pytest.approx(1)
    for name in ("top", "bottom", "trace", "condition", "negative"):
        assert set(found[name]) >= {"value", "error", "converged", "reason", "products"}
        assert bool(found[name]["reason"]) is not found[name]["converged"]
    assert list(found["layers"]) == ["0", "2"]
    assert [one["size"] for one in found["layers"].values()] == [16, 10]
    assert found["versions"]["torch"]
    assert found["pictures"] == ["runs/curvature-small.png", "runs/curvature-small-layers.png"]
    assert all(Path(picture).read_bytes().startswith(b"\x89PNG") for picture in found["pictures"])


def test_the_same_seed_gives_the_same_and_tables_say_it_in_words(command):
    first = command("mine.py:small", "--json", "--out", "a.svg")
    again = command("mine.py:small", "--json", "--out", "a.svg")
    assert first.out == again.out
    status, out, err = command("mine.py:small", "--layers", "--out", "folder", "--top", 1)
    assert status == 0
    assert all(word in out for word in ("top eigenvalues", "bottom eigenvalues", "trace", "condition number"))
    assert "hessian of 26 parameters, initial weights, 48 examples" in out
    assert "written: folder/spectrum.png, folder/layers.png" in err
    assert {path.name for path in Path("folder").iterdir()} == {"spectrum.png", "layers.png"}


@pytest.mark.parametrize("kind", ["gauss_newton", "fisher", "empirical_fisher", "kfac", "ekfac"])
def test_every_kind_has_no_negative_eigenvalues(kind):
    found = anatomy(ravine.task("mine.py:small"), kind=kind, layers=True).content()
    assert found["kind"] == kind
    assert found["negative"]["value"] == 0
    assert found["top"]["value"][0] > 0
    assert list(found["layers"]) == ["0", "2"]


def test_after_training_and_at_the_checkpoint_of_the_same_training_it_is_the_same(command):
    task = ravine.task("mine.py:small")
    list(ravine.train(task, "adam(lr=0.02)", steps=60, out="run"))
    torch.save(trained(task, "adam(lr=0.02)", 60).state_dict(), "weights.pt")
    asked = ("--at", "trained", "--optimizer", "adam(lr=0.02)", "--steps", 60)
    found = json.loads(command("mine.py:small", *asked, "--json").out)
    assert found["where"] == "after 60 gradient evaluations of adam(lr=0.02)"
    for file in ("run/checkpoint.pt", "run", "weights.pt"):
        for name, value in trained(task, "adam(lr=0.02)", 60).state_dict().items():
            assert torch.equal(value, stored(task, file).state_dict()[name])
    read = json.loads(command("mine.py:small", "--checkpoint", "run", "--json").out)
    assert read["top"] == found["top"]
    values = dense(stored(task, "weights.pt"))
    assert found["top"]["value"][0] == pytest.approx(float(values[-1]), rel=1e-3)


def test_an_optimizer_that_takes_gradients_elsewhere_is_looked_at_where_it_counts():
    task = ravine.task("mine.py:small")
    *_, last = ravine.train(task, "schedule_free_adamw(lr=0.1)", steps=30)
    apart = last.model[0].weight.detach().clone()
    with last.optimizer.swapped():
        counts = last.model[0].weight.detach().clone()
    found = trained(task, "schedule_free_adamw(lr=0.1)", 30)[0].weight
    assert torch.equal(found, counts)
    assert not torch.equal(found, apart)


def test_data_without_end_are_drawn_once_and_small_batches_kept():
    found = anatomy(ravine.task("quadratic"), top=1)
    assert found.examples == 4
    assert found.whole.top.value[0] == pytest.approx(1.0, rel=1e-4)
    assert found.whole.condition.value == pytest.approx(1e3, rel=2e-2)


def test_what_drops_at_random_is_put_to_rest_and_told(command):
    status, _, err = command("mine.py:drops")
    assert status == 0
    assert "in evaluation mode, since they drop at random: 1" in err
    model = fresh(ravine.task("mine.py:drops"))
    assert still(model) == ["1"]
    assert [module.training for module in model] == [True, False, True]


def save(content: object) -> str:
    torch.save(content, "file.pt")
    return "file.pt"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state | {"2.bias": torch.zeros(3)}, "2.bias has the shape (3,), but in"),
        (lambda state: state | {"2.bia": torch.zeros(2)}, "of task 'small' '2.bia': did you mean '2.bias'?"),
        (lambda state: {k: v for k, v in state.items() if k != "0.bias"}, "lacks 0.bias of the model of task 'small'"),
        (lambda state: {f"x.{k}": v for k, v in state.items()}, "and has x.0.weight, x.0.bias, x.2.weight,"),
        (lambda state: state | {"0.bias": torch.full((4,), torch.nan)}, "0.bias has numbers that are not finite"),
        (lambda state: {"epoch": 3, "weights": state}, "holds a dict with the keys epoch, weights, no weights"),
        (lambda state: [1, 2], "holds a list, no weights"),
        (lambda state: Path("x"), "cannot be read as weights ("),
    ],
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit(command, change, says):
    file = save(change(fresh(ravine.task("mine.py:small")).state_dict()))
    status, out, err = command("mine.py:small", "--checkpoint", file, "--json")
    assert (status, out) == (2, "")
    assert says in err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["digits-mpl"], "unknown task 'digits-mpl': did you mean 'digits-mlp'?"),
        (["mine.py:small", "--kind", "hesian"], "unknown kind of curvature 'hesian': did you mean 'hessian'?"),
        (["mine.py:whole", "--kind", "kfac"], "the task 'whole' has no forward and no criterion"),
        (["mine.py:small", "--checkpoint", "none.pt"], "there is no checkpoint 'none.pt'"),
        (["mine.py:small", "--at", "trained", "--steps", "0"], "steps must be in [1, inf), got 0"),
        (["mine.py:small", "--at", "trained", "--optimizer", "adamm"], "unknown optimizer 'adamm'"),
        (["mine.py:small", "--optimizer", "adam"], "--optimizer says how to train, and nothing is trained"),
        (["mine.py:small", "--steps", "5"], "--steps says how to train, and nothing is trained: add --at trained"),
        (["mine.py:small", "--at", "trained", "--checkpoint", "x.pt"], "leave --at trained out"),
        (["mine.py:small", "--examples", "0"], "examples must be a whole number from 1 to 48"),
        (["mine.py:small", "--examples", "49"], "examples must be a whole number from 1 to 48"),
        (["mine.py:small", "--top", "0"], "top must be a whole number from 1 to 26, got 0"),
        (["mine.py:small", "--top", "27"], "top must be a whole number from 1 to 26, got 27"),
        (["mine.py:small", "--samples", "5"], "samples must be a whole number from 6, got 5"),
        (["mine.py:small", "--most", "1"], "most must be a whole number from 3, got 1"),
        (["mine.py:small", "--seed", "-1"], "seed must be in [0, inf), got -1"),
        (["mine.py:small", "--device", "tpu9"], "device 'tpu9' cannot be used here"),
        (["mine.py:small", "--out", "a.pdf"], "--out must be a folder or end in .png or .svg, got 'a.pdf'"),
        (["mine.py:small", "--out", "mine.py/a.png"], "'mine.py' is no folder"),
        (["mine.py:small", "--at", "trained", "--optimizer", "sgd(lr=1e38)"], "diverged on 'small' after"),
    ],
)
def test_what_is_refused_before_anything_is_written(command, arguments, says):
    status, out, err = command(*arguments, "--json")
    assert (status, out) == (2, "")
    assert says in err
    assert not Path("runs").exists()


def test_a_model_whose_vectors_do_not_fit_is_refused_and_most_overrules():
    size = 200_000_001
    with pytest.raises(ravine.RavineError, match=r"200,000,001 parameters are too many: .* 24 GB, where 8 GB"):
        check_asked(size, 1, 100, None, 4)
    check_asked(size, 1, 100, 12, 4)
    check_asked(int(MEMORY / 30 / 4), 1, 100, None, 4)


def test_what_did_not_converge_is_told_with_its_reason_and_is_never_said_to_have():
    values = torch.logspace(-6, 0, 600, dtype=torch.float64)
    draw = torch.Generator().manual_seed(1)
    turned = torch.linalg.qr(torch.randn(600, 600, generator=draw, dtype=torch.float64)).Q
    A = Operator(600, lambda v: turned @ (values[:, None] * (turned.T @ v)), dtype=torch.float64)
    found = curvature.survey(A, 2, samples=8, most=20, generator=torch.Generator().manual_seed(0))
    assert not found.condition.converged
    assert "give more by most=" in found.condition.reason
    assert found.condition.value + found.condition.error >= 1e6 * (1 - 1e-6)
    assert not found.trace.converged
    assert abs(found.trace.value - float(values.sum())) <= found.trace.error
    assert found.negative.value <= found.negative.error


def test_from_python_with_progress():
    seen = []
    task = ravine.task("mine.py:small")
    found = anatomy(task, top=2, layers=True, observe=lambda stage, done, most: seen.append((stage, done, most)))
    stages = list(dict.fromkeys(stage for stage, *_ in seen))
    assert stages[:4] == ["top eigenvalues", "bottom eigenvalues", "trace", "condition number"]
    assert stages[-2:] == ["layer 0", "layer 2"]
    assert all(0 < done <= most for _, done, most in seen)
    made = curvature.plot_layers(found.layers, title="small")
    left, right = made.axes
    assert [round(bar.get_width(), 6) for bar in left.patches] == [
        round(float(one.top.value[0]), 6) for one in found.layers.values()
    ]
    assert (left.get_xlabel(), right.get_xlabel()) == ("largest eigenvalue", "trace (sum of eigenvalues)")
    with pytest.raises(ravine.RavineError, match="no layer to draw"):
        curvature.plot_layers({})
