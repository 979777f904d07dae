"""Solvers that look at outputs where they may not go on: rounding's floor, steps far too long, sums, empty batches."""

import io
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravine.core.errors import RavineError
from ravine.engine.finite import NonFinite
from ravine.solvers import EKFAC, KFAC, HessianFree, LevenbergMarquardt, OutputSolver
from tests import reference_outputs as naive
from tests.test_output_solvers import F64, Batch, cross_entropy, drawn, mlp, squared


def lines(seed: int, dtype: torch.dtype = F64) -> Batch:
    """Targets that a linear model fits exactly."""
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=dtype) + 0.3


def line(dtype: torch.dtype = F64) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Linear(3, 1, dtype=dtype)


# ---------------------------------------------------------------- rounding's floor


@pytest.mark.parametrize("kind", [LevenbergMarquardt, HessianFree])
@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_the_damping_stays_where_no_fall_can_be_seen(kind: Any, dtype: torch.dtype) -> None:
    model, (x, y) = line(dtype), lines(0, dtype)
    opt = kind(model, criterion=nn.MSELoss(), damping=1.0)
    for _ in range(150):
        opt.step((x, y))
    assert F.mse_loss(model(x), y).item() < 1e3 * torch.finfo(dtype).eps ** 2
    assert opt.reason
    assert 0 < opt.memory["damping"] < 1e6
    other = x, y + 1.0  # and what is learnt afterwards is learnt at once
    for _ in range(40):
        opt.step(other)
    assert F.mse_loss(model(x), y + 1).item() < 1e-6


def test_where_the_loss_is_not_zero_the_reason_is_its_rounding() -> None:
    model, batch = nn.Linear(4, 3).double(), drawn(40, 0)
    opt = LevenbergMarquardt(model, criterion=cross_entropy, damping=1e-3, tol=1e-3)
    for _ in range(60):
        opt.step(batch)
    assert re.fullmatch(
        r"the foretold fall of \S+ is within the rounding of the loss \S+; the damping stays", opt.reason
    )
    assert opt.memory["damping"] < 1


@pytest.mark.parametrize("lr", [0.1, 0.5])
def test_levenberg_marquardt_foretells_the_fall_of_the_step_it_takes(lr: float) -> None:
    """With squares the model is exact at every length: ρ = 1, and the damping is a third of what it was."""
    model, batch = line(), lines(0)
    opt = LevenbergMarquardt(model, criterion=squared, damping=0.7, tol=0.3, lr=lr)
    for t in range(1, 6):
        opt.step(batch)
        assert opt.memory["damping"] == pytest.approx(0.7 / 3**t)


def test_levenberg_marquardt_with_a_small_lr_gets_there() -> None:
    model, batch = mlp(), drawn(40, 0)
    opt = LevenbergMarquardt(model, criterion=cross_entropy, lr=0.1)
    losses = [opt.step(batch).item() for _ in range(120)]
    full = LevenbergMarquardt(again := mlp(), criterion=cross_entropy)
    for _ in range(12):
        full.step(batch)
    assert losses[-1] < 1.05 * cross_entropy(again(batch[0]), batch).item()


# ---------------------------------------------------------------- steps that are taken back


@pytest.mark.parametrize("kind", [KFAC, EKFAC])
def test_steps_far_too_long_are_taken_back_with_a_reason(kind: Any) -> None:
    model = mlp(torch.float32)
    opt = kind(model, criterion=nn.CrossEntropyLoss(), lr=5.0, damping=1e-3)
    losses, reasons = [], []
    for seed in range(60):
        losses.append(opt.step(drawn(40, seed % 4, torch.float32)).item())
        reasons.append(opt.reason)
    told = [one for one in reasons if one]
    assert told
    assert all(re.match(r"a step raised the loss of the batch from \S+ to \S+ and was taken back", one) for one in told)
    assert max(losses) < 100  # thousands where nothing is taken back
    assert opt.memory["damping"] > 1e-3


def test_a_step_that_leads_where_nothing_is_finite_is_taken_back_at_the_next() -> None:
    model, batch = line(), lines(0)
    opt = KFAC(model, criterion=squared, adapt=0)
    opt.step(batch)
    good = naive.flat(model)
    opt.memory["last"], damping = torch.full_like(good, 1e200), opt.memory["damping"]
    opt.problem.write(good + opt.memory["last"])  # as if the step had led there
    assert not math.isfinite(squared(model(batch[0]), batch).item())
    found = opt.step(batch)
    assert "to inf and was taken back" in opt.reason
    assert math.isfinite(found.item())
    assert opt.memory["damping"] == 2 * damping


def test_data_that_are_not_finite_take_nothing_back() -> None:
    model, (x, y) = mlp(), drawn(16, 0)
    opt = KFAC(model, criterion=cross_entropy)
    opt.step((x, y))
    opt.step((x, y))
    before, damping = naive.flat(model), opt.memory["damping"]
    bad = x.clone()
    bad[3] = math.nan
    with pytest.raises(NonFinite, match="not finite at the start"):
        opt.step((bad, y))
    assert torch.equal(naive.flat(model), before)
    assert (opt.memory["damping"], "last" in opt.memory) == (damping, True)


def test_a_harder_batch_is_no_reason_to_go_back() -> None:
    """Its loss is far above the last one's, and was so before the step as well."""
    model, (x, y) = line(), lines(0)
    opt = KFAC(model, criterion=squared, damping=1e-3)
    opt.step((x, y))
    opt.step((x, y))
    moved = naive.flat(model)
    opt.step((x, y + 100))
    assert opt.reason == ""
    assert not torch.equal(naive.flat(model), moved)


def test_a_step_taken_back_is_the_same_after_a_checkpoint() -> None:
    def made() -> tuple[nn.Sequential, OutputSolver]:
        model = mlp(torch.float32)
        return model, KFAC(model, criterion=nn.CrossEntropyLoss(), lr=5.0, damping=1e-3)

    batches = [drawn(40, seed, torch.float32) for seed in range(20)]
    model, opt = made()
    other, again = made()
    told = 0
    for batch in batches:
        kept = io.BytesIO()
        torch.save({"model": model.state_dict(), "opt": opt.state_dict()}, kept)
        kept.seek(0)
        state = torch.load(kept, weights_only=True)
        other.load_state_dict(state["model"])
        again.load_state_dict(state["opt"])
        opt.step(batch)
        again.step(batch)
        told += bool(opt.reason)
        assert torch.equal(naive.flat(model), naive.flat(other))
    assert told


# ---------------------------------------------------------------- the first thing a user does


@pytest.mark.parametrize("kind", [KFAC, EKFAC])
def test_the_defaults_learn_a_mean_cross_entropy(kind: Any) -> None:
    model = mlp(torch.float32)
    draw = torch.Generator().manual_seed(3)
    teacher = torch.randn(4, 3, generator=draw)
    x = torch.randn(600, 4, generator=draw)
    y = (x @ teacher).argmax(1)
    opt = kind(model, criterion=nn.CrossEntropyLoss())
    for t in range(30):
        part = slice(32 * (t % 18), 32 * (t % 18) + 32)
        opt.step((x[part], y[part]))
    assert F.cross_entropy(model(x), y).item() < 0.5


# ---------------------------------------------------------------- what is refused


def summed(outputs: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(outputs, batch[1], reduction="sum")


def decayed(outputs: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(outputs, batch[1]) + 0.5


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: KFAC(mlp(), criterion=nn.CrossEntropyLoss(reduction="sum")),
         r"criterion= must be a mean over the batch's examples, and CrossEntropyLoss has reduction='sum': use "),
        (lambda: HessianFree(mlp(), criterion=nn.MSELoss(reduction="none")), "MSELoss has reduction='none'"),
        (lambda: KFAC(mlp(), criterion=summed).step(drawn(40, 0)),
         r"kfac: criterion= must be a mean over the batch's examples, and here it is a sum: \d+.* whose halves have "),
        (lambda: HessianFree(mlp(), criterion=summed, share=0.5).step(drawn(41, 0)), "and here it is a sum"),
        (lambda: KFAC(mlp(), criterion=nn.CrossEntropyLoss()).step((torch.ones(0, 4), torch.ones(0).long())),
         "kfac: the batch has 0 examples, and one at least is needed"),
        (lambda: LevenbergMarquardt(mlp(), criterion=cross_entropy).step({"x": torch.ones(0, 4)}),
         "levenberg_marquardt: the batch has 0 examples"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(attempt: Callable[[], object], message: str) -> None:
    with pytest.raises(RavineError, match=message):
        attempt()


@pytest.mark.parametrize("criterion", [decayed, cross_entropy, nn.KLDivLoss(reduction="batchmean")])
def test_other_means_are_let_through(criterion: Any) -> None:
    model, (x, y) = mlp(), drawn(40, 0)
    if isinstance(criterion, nn.KLDivLoss):
        model, y = nn.Sequential(model, nn.LogSoftmax(1)), F.one_hot(y, 3).double()
    opt = KFAC(model, criterion=criterion)
    opt.step((x, y))
    assert opt.reason == ""
