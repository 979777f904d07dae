"""What several claims share: nets trained side by side, and a world whose expectations are sums."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ravine.claims._finite_world import world
from ravine.claims._machine import step_seconds
from ravine.claims._replicas import (
    Course,
    Nets,
    accuracies,
    course,
    descend,
    entropies,
    nets,
    shuffles,
    splits,
    spread,
)


def alone(found: Nets, i: int) -> nn.Module:
    """The i-th net as torch's own layers."""
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    w1, b1, w2, b2 = (part.detach()[i].clone() for part in found)
    values = {"0.weight": w1.T, "0.bias": b1[0], "2.weight": w2.T, "2.bias": b2[0]}
    net.load_state_dict(values)
    return net


def test_each_net_learns_as_it_would_alone() -> None:
    chance = torch.Generator().manual_seed(1)
    found = nets(3, 3, 5, 4, chance)
    singles = [alone(found, i) for i in range(3)]
    lrs = [0.1, 0.5, 2.0]
    optimizers = [torch.optim.SGD(net.parameters(), lr=lr) for net, lr in zip(singles, lrs, strict=True)]
    for _ in range(20):
        x = torch.randn(3, 7, 3, generator=chance, dtype=torch.float64)
        y = torch.randint(4, (3, 7), generator=chance)
        losses = entropies(found, x, y)
        rights = accuracies(found, x, y)
        for i, (net, optimizer) in enumerate(zip(singles, optimizers, strict=True)):
            loss = F.cross_entropy(net(x[i]), y[i])
            assert losses[i].item() == pytest.approx(loss.item(), rel=1e-12)
            assert rights[i].item() == pytest.approx((net(x[i]).argmax(1) == y[i]).double().mean().item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        descend(found, losses, torch.tensor(lrs, dtype=torch.float64))


def test_splits_share_no_image_and_spoil_only_training_labels() -> None:
    right = splits(4, 300, 200, np.random.default_rng(0))
    noisy = splits(4, 300, 200, np.random.default_rng(0), noise=0.5)
    assert [part[1].shape for part in right] == [(4, 300), (4, 200), (4, 1297)]
    whole = torch.cat([part[0] for part in right], 1)
    assert whole.double().mean().item() == pytest.approx(0, abs=1e-6)
    assert torch.equal(right.valid[1], noisy.valid[1])
    assert torch.equal(right.test[1], noisy.test[1])
    changed = (right.train[1] != noisy.train[1]).double().mean().item()
    assert changed == pytest.approx(
        0.45, abs=4 * (0.45 * 0.55 / 1200) ** 0.5
    )  # half drawn anew, a tenth of it the same


def test_shuffles_are_orders_of_all() -> None:
    rows = shuffles(5, 9, np.random.default_rng(0))
    assert (rows.sort(1).values == torch.arange(9)).all()
    assert len({tuple(row) for row in rows.tolist()}) == 5


def test_a_course_takes_each_learning_rate_from_the_same_start_and_ends_when_one_has_arrived() -> None:
    data = splits(2, 60, 0, np.random.default_rng(0))
    start = nets(2, 64, 32, 10, torch.Generator().manual_seed(0))
    assert all(torch.equal(part[0], part[1]) for part in spread(start, 2))

    def run(patience: float, least: float = 0) -> Course:
        return course(
            data, start, [1e-9, 0.5], batch=20, passes=100, chance=np.random.default_rng(0),
            reached=lambda loss, error: loss < 0.5, patience=patience, least=least,
        )  # fmt: skip

    found = run(2)
    assert found.loss.shape == (len(found.passes), 2, 2)
    assert np.ptp(found.loss[:, :, 0], 0).max() < 1e-5  # as good as no learning rate
    looks = found.first(found.loss < 0.5)
    assert (looks[:, 0] == -1).all()
    arrived = found.passes[looks[:, 1].max()]
    assert 1 < arrived < 50
    assert found.passes[-1] == pytest.approx(2 * arrived, abs=1)
    assert np.isnan(found.at(found.test, looks)[:, 0]).all()
    assert found.at(found.loss, looks)[:, 1].max() < 0.5
    assert run(1, least=30).passes[-1] == pytest.approx(30, abs=1)


def test_a_small_world_is_drawn_as_often_as_it_says() -> None:
    this = world(3, 2, np.random.default_rng(0))
    assert this.x.shape == (16, 3)
    assert len({(*x, y) for x, y in zip(map(tuple, this.x.tolist()), this.y.tolist(), strict=True)}) == 16
    assert this.p.sum().item() == pytest.approx(1)
    drawn = torch.bincount(this.draw((100, 1000), np.random.default_rng(1)).flatten(), minlength=16)
    error = (1e5 * this.p * (1 - this.p)).sqrt()
    assert (abs(drawn - 1e5 * this.p) <= 4.5 * error + 1e-9).all()  # 16 cells: wrong once in 9,000 seeds


def test_times_are_taken_of_every_size_in_another_process() -> None:
    found = step_seconds(widths=[4, 8, 2], sizes=[1, 3], threads=[1], repeats=2, seconds=1e-3, seed=0)
    assert set(found) == {(1, 1), (1, 3)}
    assert all(len(times) == 2 and min(times) > 0 for times in found.values())
