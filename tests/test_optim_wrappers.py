"""Drop-in names of schedule-free optimizers, Sophia, AdaHessian, SAM and Lookahead."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import ravine
from ravine import optim
from ravine.core.errors import RavineError
from ravine.rules import SAM as SAMRule
from ravine.rules import SGD as SGDRule
from ravine.rules import AdaHessian as AdaHessianRule
from ravine.rules import Adam, Decay, Momentum, RMSProp, ScheduleFree, Sophia, chain
from ravine.rules import Lookahead as LookaheadRule
from ravine.schedules import warmup

F64 = torch.float64
MAKES: dict[
    str, tuple[Callable[[list[nn.Parameter]], ravine.Optimizer], Callable[[list[nn.Parameter]], ravine.Optimizer]]
]
MAKES = {
    "SGDScheduleFree": (
        lambda ps: optim.SGDScheduleFree(ps, 0.1, 0.8, weight_decay=0.1, warmup_steps=4, r=0.5, weight_lr_power=1.0),
        lambda ps: ravine.Optimizer(ps, chain(SGDRule(), Decay(0.1), ScheduleFree(0.8, 0.5, 1.0)), 0.1, warmup(4)),
    ),
    "AdamWScheduleFree": (
        lambda ps: optim.AdamWScheduleFree(ps, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1),
        lambda ps: ravine.Optimizer(
            ps, chain(RMSProp(0.9, 1e-6, corrected=True), Decay(0.1), ScheduleFree(0.8)), 0.0025
        ),
    ),
    "SophiaG": (
        lambda ps: optim.SophiaG(ps, betas=(0.9, 0.8), rho=0.1, every=2),
        lambda ps: ravine.Optimizer(
            ps, chain(Sophia(0.9, 0.8, 0.1, 1e-15, 2, "gauss_newton"), Decay(0.1)), 1e-4
        ),
    ),
    "AdaHessian": (
        lambda ps: optim.AdaHessian(ps, eps=1e-4, weight_decay=0.1, hessian_power=0.5, update_each=2),
        lambda ps: ravine.Optimizer(
            ps, chain(AdaHessianRule(eps=1e-4, power=0.5, every=2, averaged=False), Decay(0.1)), 0.1
        ),
    ),
    "SAM": (
        lambda ps: optim.SAM(ps, optim.SGD, 0.2, adaptive=True, lr=0.1, momentum=0.9),
        lambda ps: ravine.Optimizer(ps, chain(Momentum(0.9), SAMRule(0.2, 0.0, True)), 0.1),
    ),
    "Lookahead": (
        lambda ps: optim.Lookahead(optim.Adam(ps, 0.05), k=3, alpha=0.8),
        lambda ps: ravine.Optimizer(ps, chain(Adam(), LookaheadRule(0.8, 3)), 0.05),
    ),
}  # fmt: skip


def trained(make: Callable[[list[nn.Parameter]], ravine.Optimizer]) -> list[float]:
    p = nn.Parameter(torch.linspace(-1, 1, 6, dtype=F64).view(2, 3))
    optimizer = make([p])

    def value() -> Tensor:
        return (p.pow(4) + p.sin()).mean()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = value()
        if not optimizer.wants("product"):
            loss.backward()
        return loss

    for _ in range(10):
        optimizer.step(closure, lambda: (value(), 6))  # type: ignore[arg-type]
    with optimizer.swapped():
        return p.flatten().tolist()


@pytest.mark.parametrize("name", MAKES)
def test_a_drop_in_name_is_the_rule_with_its_authors_arguments(name: str) -> None:
    ours, plain = MAKES[name]
    assert trained(ours) == trained(plain)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: optim.AdaHessian([p], n_samples=2), "n_samples=2 is not supported; leave it out, or n_samples=1"),
        (lambda p: optim.SGDScheduleFree([p], momentum=1.0), "schedule_free: momentum must be in (0, 1), got 1.0"),
        (lambda p: optim.SGDScheduleFree([p], warmup_steps=-1), "warmup: steps must be in [1, inf), got -1"),
        (lambda p: optim.SophiaG([p], rh=0.1), "unknown argument of SophiaG 'rh': did you mean 'rho'?"),
        (
            lambda p: optim.SAM([p], torch.optim.SGD, lr=0.1),
            "SAM stands around an optimizer of ravine, such as ravine.op",
        ),
        (lambda p: optim.Lookahead(torch.optim.SGD([p])), "Lookahead stands around an optimizer of ravine, such as"),
        (lambda p: optim.Lookahead(optim.SGD([p]), k=0), "lookahead: k must be in [1, inf), got 0"),
    ],
)
def test_what_is_wrong_with_a_drop_in_name_is_said(make: Callable[[nn.Parameter], object], said: str) -> None:
    with pytest.raises(RavineError) as error:
        make(nn.Parameter(torch.ones(2)))
    assert str(error.value).startswith(said)


def test_what_stands_around_an_optimizer_keeps_its_groups_names_and_schedule() -> None:
    model = nn.Linear(3, 2)
    groups = [
        {"params": [("weight", model.weight)], "lr": 0.5, "momentum": 0.7},
        {"params": [("bias", model.bias)], "rule": Adam()},
    ]
    inside = ravine.Optimizer(groups, Momentum(), 0.1, warmup(10), nonfinite="skip", seed=3)
    around = optim.Lookahead(inside)
    first, second = around.param_groups
    assert (first["rule"], first["momentum"], first["lr"]) == ("momentum + lookahead", 0.7, 0.5)
    assert (second["rule"], second["lr"], second["param_names"]) == ("adam + lookahead", 0.1, ["bias"])
    assert first["schedule"] == str(warmup(10))
    assert (around.nonfinite, around.seed) == ("skip", 3)


def test_it_must_not_have_stepped() -> None:
    p = nn.Parameter(torch.ones(2))
    inside = optim.SGD([p])
    p.grad = torch.ones(2)
    inside.step()
    with pytest.raises(RavineError, match="Lookahead stands around an optimizer that has not stepped yet"):
        optim.Lookahead(inside)
