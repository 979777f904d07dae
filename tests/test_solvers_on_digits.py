"""Every solver on real data: networks of the digits by races and runs, and a softmax regression to its optimum."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ravine
from ravine.core.errors import RavineError
from ravine.solvers import Solver

GOAL = 0.9446
LARGE = {  # settings with which a solver gets to the goal on digits-mlp-full, and the work that it may take
    "lbfgs": 500, "cg": 700, "newton_cg": 800, "newton_cg(search='trust_region')": 800,
    "saddle_free(subspace=50)": 1000, "kfac(damping=1)": 600, "ekfac(damping=1)": 600, "hessian_free(damping=1)": 800,
    "levenberg_marquardt": 600, "coordinate(blocks='tensor')": 2000,
}  # fmt: skip
DENSE = ("newton", "saddle_free", "bfgs", "coordinate")


def test_the_full_task_is_the_same_with_all_examples_in_a_batch() -> None:
    full, small = ravine.task("digits-mlp-full"), ravine.task("digits-mlp")
    assert full.batch_size == len(full.train[0]) == 8973
    assert full.train[0] is small.train[0]


@pytest.mark.slow
@pytest.mark.parametrize("spec", LARGE)
def test_a_solver_that_scales_gets_to_the_goal(spec: str) -> None:
    moments = ravine.train(ravine.task("digits-mlp-full"), spec, steps=LARGE[spec], every=50)
    assert any(moment.metric >= GOAL for moment in moments)


@pytest.mark.slow
def test_solvers_that_scale_race_on_the_digits(tmp_path: Path) -> None:
    verdict = ravine.race(
        "digits-mlp-full", "levenberg_marquardt, kfac=kfac(lr=1.0, damping=1.0)",
        points=1, seeds=2, steps=450, goal=GOAL, workers=2, out=tmp_path / "race",
    )  # fmt: skip
    entries = verdict.content["optimizers"]
    assert {name: entry["success_rate"] for name, entry in entries.items()} == dict.fromkeys(entries, 1.0)
    assert set(entries) == {"levenberg_marquardt", "kfac"}


def pixels() -> tuple[Tensor, Tensor]:
    """997 images with each pixel's mean taken off, so that coordinates interact less."""
    x, y = (part[4 * 997 : 5 * 997] for part in ravine.task("digits-mlp").train)
    return (x - x.mean(0)).double(), y


def regressed(spec: str, steps: int) -> tuple[Tensor, list[float]]:
    """The parameters of a softmax regression with a decay, and the norms of the gradient after each step."""
    x, y = pixels()
    model = nn.Linear(64, 10).double()
    for p in model.parameters():
        nn.init.zeros_(p)

    def loss() -> Tensor:
        return F.cross_entropy(model(x), y) + 0.05 * sum(p.square().sum() for p in model.parameters())

    opt, norms = Solver(model.named_parameters(), spec), []
    assert sum(p.numel() for p in model.parameters()) == 650
    while len(norms) < steps and not (norms and norms[-1] < 1e-5):
        opt.step(loss)
        norms.append(float(torch.cat([g.flatten() for g in torch.autograd.grad(loss(), [*model.parameters()])]).norm()))
    return torch.cat([p.detach().flatten() for p in model.parameters()]), norms


@pytest.mark.parametrize("spec", ["newton", "saddle_free", "bfgs", pytest.param("coordinate", marks=pytest.mark.slow)])
def test_dense_solvers_take_a_softmax_regression_to_its_optimum(spec: str) -> None:
    """The loss is strictly convex (the decay's curvature is 0.1), so |x - x*| <= |g| / 0.1 for each."""
    best, left = regressed("lbfgs", 100)
    found, norms = regressed(spec, {"bfgs": 60, "coordinate": 10}.get(spec, 6))
    assert max(norms[-1], left[-1]) < 1e-5
    assert float((found - best).norm()) < 2e-4


def test_dense_solvers_are_refused_on_the_network_with_the_alternative() -> None:
    """digits-mlp has 8,970 parameters."""
    instead = {"newton": "newton_cg", "bfgs": "lbfgs", "saddle_free": "saddle_free(subspace=50)",
               "coordinate": "coordinate(blocks='tensor')"}  # fmt: skip
    for spec in DENSE:
        with pytest.raises(RavineError) as told:
            ravine.train(ravine.task("digits-mlp-full"), spec, steps=10)
        assert f"at most 5,000 parameters, got {parameters():,}" in str(told.value)
        assert f"Use {instead[spec]}" in str(told.value)


def parameters() -> int:
    return sum(p.numel() for p in ravine.task("digits-mlp").model().parameters())
