"""What claims share: rules walk as the optimizer does, and the network is the one it is said to be."""

import math

import pytest
import torch
from torch import nn

from ravine.claims._plain_rnn import answers, clipped, gradient, start
from ravine.claims._small_net import Net, batches, digits
from ravine.claims._walk import NEVER, best, path, steps_until
from ravine.core.rule import Rule, chain
from ravine.optimizer import Optimizer
from ravine.rules import SGD, Adam, Decay, DeltaBarDelta, Momentum, Nesterov, RMSProp

RULES = [SGD(), Adam(), DeltaBarDelta(), Momentum(form="book"), chain(RMSProp(0.9), Nesterov(form="book")),
         chain(Momentum(), Decay(0.1))]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_rule_walks_as_the_optimizer_makes_it(rule: Rule) -> None:
    start = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    x = start.clone().requires_grad_()
    optimizer = Optimizer([x], rule, lr=0.05)
    for expected in path(rule, lambda p: p**3 + p, start, 0.05, 20):
        assert torch.allclose(x.detach(), expected, rtol=1e-12, atol=0)
        x.grad = x.detach() ** 3 + x.detach()
        optimizer.step()


def test_steps_are_counted_by_walker_and_settings_by_their_geometric_mean() -> None:
    points = (torch.tensor([[k * 0.5, k * 1.0], [k * 0.1, 0.0]]) for k in range(1000))
    steps = steps_until(lambda p: p >= 2, points, 50)
    assert steps.tolist() == [[4, 2], [NEVER, NEVER]]  # it ended at the sixteenth step, the first row being there
    row, place = best(torch.tensor([[1.0, 100.0], [9.0, 9.0]]))
    assert (row.tolist(), place) == ([9.0, 9.0], 1)
    assert best(torch.tensor([[0.5, 0.5], [0.1, 0.1]]))[1] == 1


def test_the_small_network_is_an_mlp_and_each_copy_has_its_own_gradient() -> None:
    net = Net(width=5, scale=3.0)
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    weights = net.start(generators)
    x, y = digits()[0][:7], digits()[1][:7]
    gradient = net.gradient(lambda: (x, y))(weights)
    for copy, found in zip(weights, gradient, strict=True):
        mlp = nn.Sequential(nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 10))
        first, bias, second, last = torch.split(copy, [320, 5, 50, 10])
        parts = [first.view(64, 5).T, bias, second.view(5, 10).T, last]
        with torch.no_grad():
            for parameter, part in zip(mlp.parameters(), parts, strict=True):
                parameter.copy_(part)
        (3 * nn.functional.cross_entropy(mlp(x), y)).backward()
        grads = [p.grad.T if p.ndim == 2 else p.grad for p in mlp.parameters() if p.grad is not None]
        assert torch.allclose(torch.cat([g.flatten() for g in grads]), found, rtol=1e-4, atol=1e-6)


def test_copies_of_one_seed_see_one_batch_and_seeds_see_others() -> None:
    x, y = batches([torch.Generator().manual_seed(seed) for seed in (1, 2)], 16, repeat=2)()
    assert x.shape == (4, 16, 64)
    assert torch.equal(x[0], x[1])
    assert torch.equal(y[2], y[3])
    assert not torch.equal(x[1], x[2])
    assert math.isclose(float(digits()[0].max()), 1.0)


def test_the_plain_recurrent_net_is_torchs_and_its_gradient_that_of_autograd() -> None:
    chance = torch.Generator().manual_seed(3)
    weights = torch.stack([start(torch.randn(5, 5, generator=chance), chance) for _ in range(2)]).double()
    weights += 0.1 * torch.randn(weights.shape, generator=chance, dtype=torch.float64)
    x = torch.randn(2, 4, 6, 2, generator=chance, dtype=torch.float64)
    y = torch.randn(2, 4, generator=chance, dtype=torch.float64)
    found = gradient(weights, x, y, 5)
    for i, copy in enumerate(weights):
        rnn, last = nn.RNN(2, 5, batch_first=True).double(), nn.Linear(5, 1).double()
        into, recurrent, out, bias, offset = torch.split(copy, [10, 25, 5, 5, 1])
        with torch.no_grad():
            rnn.weight_ih_l0.copy_(into.view(2, 5).T)
            rnn.weight_hh_l0.copy_(recurrent.view(5, 5).T)
            rnn.bias_ih_l0.copy_(bias)
            rnn.bias_hh_l0.zero_()
            last.weight.copy_(out)
            last.bias.copy_(offset)
        said = last(rnn(x[i])[1][0])[:, 0]
        assert torch.allclose(answers(weights, x, 5)[i], said, rtol=1e-12)
        (said - y[i]).square().mean().backward()
        grads = [rnn.weight_ih_l0.grad.T, rnn.weight_hh_l0.grad.T, last.weight.grad, rnn.bias_ih_l0.grad]
        expected = torch.cat([g.flatten() for g in [*grads, last.bias.grad] if g is not None])
        assert torch.allclose(found[i], expected, rtol=1e-10, atol=1e-14)
    short = clipped(found, float(found.norm(dim=1).min()) / 2)
    assert torch.allclose(short.norm(dim=1), found.norm(dim=1).min() / 2)
    assert torch.equal(clipped(found, 1e9), found)
