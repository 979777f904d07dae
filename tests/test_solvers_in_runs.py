"""Solvers in specs, training runs, races and on surfaces."""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ravine
from ravine import solving, surfaces
from ravine.core.errors import RavineError
from ravine.core.seeds import derive
from ravine.core.spec import parse
from ravine.racing.points import points
from ravine.solvers import OutputSolver, Solver
from tests.commands import run

SPECS = ("lbfgs(history=5)", "cg", "newton_cg", "kfac(damping=1)", "ekfac(damping=1)", "hessian_free(damping=1)",
         "levenberg_marquardt")  # fmt: skip


def signs(**changes: Any) -> ravine.Task:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=draw)
    y = (x[:, 0] * x[:, 1] > 0).long()
    settings: dict[str, Any] = {
        "name": "signs", "model": lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)),
        "criterion": nn.CrossEntropyLoss(), "train": (x[:300], y[:300]), "valid": (x[300:], y[300:]), "batch_size": 100,
    }  # fmt: skip
    return ravine.supervised(**settings | changes)


def bare() -> ravine.Task:
    task = signs()
    return dataclasses.replace(task, forward=None, criterion=None, sample=None)


@pytest.mark.parametrize("spec", SPECS)
def test_a_solver_trains_and_its_work_is_gradients_and_products(spec: str) -> None:
    *_, before, end = ravine.train(signs(batch_size=300), spec, steps=120, every=60)
    assert end.loss is not None
    assert end.loss < 0.69
    assert end.work == end.optimizer.evaluations + end.optimizer.products
    assert before.work >= 60
    assert end.work >= 120
    assert end.examples == 300 * end.step


@pytest.mark.parametrize("spec", ["lbfgs", "kfac(damping=1, refresh=3)", "hessian_free(damping=1)"])
def test_a_run_that_was_cut_off_ends_with_the_same_numbers(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ravine.resume._EVERY_SECONDS", 0.0)
    monkeypatch.setattr("ravine.resume._EVERY_COSTS", 0.0)
    whole = [moment.row() for moment in ravine.train(signs(), spec, steps=150, every=25)]
    folder = tmp_path / "run"
    moments = ravine.train(signs(), spec, steps=150, every=25, out=folder)
    list(itertools.islice(moments, 4))
    moments.close()  # type: ignore[attr-defined]
    again = [moment.row() for moment in ravine.train(signs(), spec, steps=150, every=25, out=folder)]
    for row in (*whole, *again):
        row.pop("observed")
    assert again == whole


def test_chance_within_a_solver_is_the_runs_own() -> None:
    ends = []
    for seed in (0, 0, 1):
        *_, end = ravine.train(signs(), "kfac(damping=1)", steps=60, seed=seed, every=30)
        ends.append(end)
    assert ends[0].loss == ends[1].loss != ends[2].loss
    fresh = torch.Generator().manual_seed(derive(1, "noise", 0))
    assert not torch.equal(ends[2].optimizer.generator.get_state(), fresh.get_state())  # it has been drawn from


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged() -> None:
    task = signs()
    broken = dataclasses.replace(task, loss=lambda model, batch: task.loss(model, batch) * float("nan"))
    *_, end = ravine.train(broken, "lbfgs", steps=50)
    assert end.diverged


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lbfgs @ cosine()", "lbfgs is a solver, which moves all parameters as one vector and takes no schedule"),
        ("hidden: lbfgs; rest: adam", "and has no roles"),
        ("rest: lbfgs", "and has no roles"),
        ("lbfgs + decay", "and cannot be chained with other links"),
        ("adam + lbfgs", "and cannot be chained with other links"),
        ("lbfsg", "unknown optimizer 'lbfsg': did you mean 'lbfgs'"),
        ("adaam", "unknown optimizer 'adaam': did you mean 'adam'"),
        ("lbfgs(histroy=3)", "unknown argument of solver 'lbfgs' 'histroy': did you mean 'history'"),
        ("lbfgs(iterations=0)", r"lbfgs: iterations must be in \[1, inf\), got 0"),
        ("gauss_newton", "gauss_newton needs a function that returns residuals.*use levenberg_marquardt"),
    ],
)
def test_what_a_spec_of_a_solver_cannot_say(spec: str, message: str) -> None:
    for attempt in (lambda: ravine.train(signs(), spec), lambda: ravine.race(signs(), spec)):
        with pytest.raises(RavineError, match=message):
            attempt()


def test_a_task_of_a_loss_alone_is_refused_with_what_it_lacks() -> None:
    *_, end = ravine.train(bare(), "lbfgs", steps=20)
    assert isinstance(end.optimizer, Solver)
    with pytest.raises(RavineError, match=r"a task with forward= and criterion=, and task 'signs' has only a loss"):
        ravine.train(bare(), "kfac", steps=20)
    with pytest.raises(RavineError, match="and no task is given"):
        ravine.assemble("kfac", nn.Linear(2, 2), 10)
    assert isinstance(ravine.assemble("kfac", signs().model(), 10, task=signs()), OutputSolver)
    with pytest.raises(RavineError, match=r"'lbfgs' is a solver.*a rule is needed here"):
        ravine.groups(nn.Linear(2, 2), rest="lbfgs")


def test_a_race_tunes_the_declared_space_of_a_solver() -> None:
    listed = points(parse("kfac(share=0.5)"), 5, 0)
    assert str(listed[0].spec) == "kfac(share=0.5, lr=1.0, damping=1.0)"
    assert len({point.setting["lr"] for point in listed}) == 5
    assert all(0.03 <= point.setting["lr"] <= 1 for point in listed)
    assert set(points(parse("kfac(lr=0.5)"), 5, 0)[1].setting) == {"damping"}
    assert len(points(parse("lbfgs"), 5, 0)) == 1  # its search finds the length
    assert set(points(parse("lbfgs(search='armijo')"), 5, 0)[1].setting) == {"lr"}


def test_solvers_and_rules_race_each_other(tmp_path: Path) -> None:
    verdict = ravine.race(
        "tests.test_solvers_in_runs:signs", "adam(lr=0.01), lbfgs, kfac(lr=0.5, damping=1.0)",
        points=1, seeds=2, steps=100, goal=0.75, out=tmp_path / "race", workers=1,
    )  # fmt: skip
    assert set(verdict.content["ranking"]) == {"adam", "lbfgs", "kfac"}
    gates = {gate["name"]: gate["passed"] for gate in verdict.content["gates"]}
    assert gates["same seed, same numbers"]
    assert not any("failed" in note for note in verdict.content["notes"])


def test_solvers_walk_on_surfaces_and_are_refused_where_they_need_layers() -> None:
    found = surfaces.trajectories(surfaces.find("rosenbrock"), "lbfgs, newton_cg", steps=400)
    assert [one.name for one in found] == ["lbfgs", "newton_cg"]
    assert found[0].loss[-1] < 1e-20
    assert found[1].loss[-1] < found[1].loss[0] / 100
    assert all(one.runs == 1 and one.notes == [] for one in found)
    with pytest.raises(RavineError, match=r"kfac looks at the outputs of the model.*no task is given"):
        surfaces.trajectories(surfaces.find("beale"), "kfac", steps=5)


def test_solvers_are_listed(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {row["name"]: row for row in json.loads(run(capsys, monkeypatch, "list", "optimizers", "--json").out)}
    assert {"lbfgs", "kfac", "adam"} <= set(listed)
    assert "gauss_newton" not in listed
    assert "history=" in listed["lbfgs"]["arguments"]
    assert all(name in solving.Direction.family() for name, _, _ in solving.catalogue())
