"""The drop-in names of the matrix rules: their authors' arguments, and their steps where they are installed."""

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from test_matrix_rules import F32, F64, distance, drawn
from torch import Tensor, nn

import ravine
from ravine import optim
from ravine.core.errors import RavineError
from ravine.engine.chance import normal_for
from ravine.optim import matrix
from ravine.rules import PSGD, SOAP, Adam, Decay, GradientAverage, Orthogonalize, Shampoo, chain

PUBLIC = [name for name, kind in vars(optim).items() if inspect.isclass(kind) and kind.__module__ == matrix.__name__]
Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def trained(make: Make, shapes: list[tuple[int, ...]], dtype: torch.dtype = F64, steps: int = 40) -> Tensor:
    """Where some parameters end, from zero, under gradients that keep a direction."""
    ps = [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]
    optimizer = make(ps)
    for t in range(steps):
        for i, p in enumerate(ps):
            p.grad = (drawn(p.shape, 1000 * i + t) + 0.5 * drawn(p.shape, 1000 * i - 1 + 1000)).to(dtype)
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in ps])


def group(optimizer: ravine.Optimizer) -> str:
    """The rule of the first group, with its numbers."""
    from ravine.engine.group import rule_of

    return str(rule_of(optimizer.param_groups[0]))


@pytest.mark.parametrize(
    ("name", "arguments", "lr", "rule"),
    [
        ("Muon", {}, 1e-3, chain(GradientAverage(), Orthogonalize(), Decay(0.1))),
        (
            "Muon",
            {"lr": 0.1, "weight_decay": 0, "momentum": 0.8, "nesterov": False, "ns_coefficients": (2, -1.5, 0.5),
             "eps": 1e-5, "ns_steps": 7, "adjust_lr_fn": "match_rms_adamw"},
            0.1,
            chain(
                GradientAverage(0.8, False), Orthogonalize(7, 2, -1.5, 0.5, 1e-5, "match_rms_adamw"), Decay(0)
            ),
        ),
        ("SOAP", {}, 3e-3, chain(SOAP(max_size=10000), Decay(0.01))),
        (
            "SOAP",
            {"betas": (0.8, 0.9), "precondition_frequency": 3, "max_precond_dim": 99, "precondition_1d": True},
            3e-3,
            chain(SOAP(0.8, 0.9, 0.9, 1e-8, 3, 99, True), Decay(0.01)),
        ),
        ("SOAP", {"shampoo_beta": 0.7, "eps": 1e-6}, 3e-3, chain(SOAP(0.95, 0.95, 0.7, 1e-6, 10, 10000), Decay(0.01))),
        ("Shampoo", {}, 1e-2, chain(Shampoo(0.9, 1.0, every=1, grafting="none"), Decay(0.0))),
        (
            "Shampoo",
            {"betas": (0.8, 0.9), "epsilon": 1e-4, "weight_decay": 0.1, "max_preconditioner_dim": 7,
             "precondition_frequency": 5, "inv_root_override": 3, "use_decoupled_weight_decay": False,
             "grafting": "sgd"},
            1e-2,
            chain(Decay(0.1), Shampoo(0.8, 0.9, 1e-4, 5, 7, 3, "sgd")),
        ),
        ("Kron", {}, 1e-3, chain(PSGD(max_size=8192), Decay(0.0))),
        (
            "Kron",
            {"b1": 0.8, "preconditioner_update_probability": 0.1, "max_size_triangular": 50, "precond_lr": 0.2},
            1e-3,
            chain(PSGD(0.8, 0.2, 10, 0, 50), Decay(0.0)),
        ),
    ],
)  # fmt: skip
def test_arguments_describe_a_rule(name: str, arguments: dict[str, Any], lr: float, rule: ravine.Rule) -> None:
    p = nn.Parameter(torch.zeros(3, 2))
    optimizer = getattr(optim, name)([p], **arguments)
    assert group(optimizer) == str(rule)
    assert optimizer.param_groups[0]["lr"] == lr


def test_a_group_brings_its_own_arguments() -> None:
    p, q = nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(3, 2))
    optimizer = optim.Muon([{"params": [p]}, {"params": [q], "ns_steps": 3, "momentum": 0.5}], momentum=0.8)
    assert [g["momentum"] for g in optimizer.param_groups] == [0.8, 0.5]
    assert "steps=3" in optimizer.param_groups[1]["rule"]


def test_muon_takes_torchs_arguments_in_torchs_order() -> None:
    ours, theirs = (list(inspect.signature(m.Muon).parameters.values()) for m in (optim, torch.optim))
    assert [(p.name, p.default) for p in ours[:-1]] == [(p.name, p.default) for p in theirs]


@pytest.mark.parametrize("arguments", [{}, {"nesterov": False, "lr": 0.1}, {"adjust_lr_fn": "match_rms_adamw"}])
def test_muon_walks_with_torchs(arguments: dict[str, Any]) -> None:
    ours, theirs = (trained(lambda ps, m=m: m.Muon(ps, **arguments), [(24, 20), (8, 64)]) for m in (optim, torch.optim))
    assert distance(ours, theirs) <= 0.01  # torch multiplies in bf16


def test_muon_with_an_adam_beside_it() -> None:
    weight, bias = nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(3))
    groups = [{"params": [weight], "use_muon": True, "lr": 0.05}, {"params": [bias], "use_muon": False}]
    optimizer = optim.MuonWithAuxAdam(groups)
    assert [g["lr"] for g in optimizer.param_groups] == [0.05, 3e-4]
    assert group(optimizer) == str(chain(GradientAverage(), Orthogonalize(), Decay(0)))
    assert optimizer.param_groups[1]["betas"] == (0.9, 0.95)
    assert optimizer.param_groups[1]["rule"] == chain(Adam(), Decay()).structure()
    for broken in ({"params": [weight]}, {"params": [weight], "use_muon": None}):
        with pytest.raises(RavineError, match="each group says use_muon=True or use_muon=False"):
            optim.MuonWithAuxAdam([broken])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("SOAP", {"merge_dims": True}, "merge_dims=True is not supported; leave it out, or merge_dims=False"),
        ("SOAP", {"normalize_grads": True}, "normalize_grads=True is not supported"),
        ("SOAP", {"correct_bias": False}, "correct_bias=False is not supported"),
        ("SOAP", {"betas": 0.9}, "betas must be two numbers"),
        ("Kron", {"memory_save_mode": "one_diag"}, "memory_save_mode='one_diag' is not supported"),
        ("Kron", {"preconditioner_update_probability": 0}, "preconditioner_update_probability must be None or"),
        ("Kron", {"precond_init_scale": 0.1}, "precond_init_scale=0.1 is not supported"),
        ("Muon", {"ns_coefficients": (1, 2)}, "ns_coefficients must be three numbers, got (1, 2)"),
        ("Muon", {"adjust_lr_fn": "originl"}, "unknown adjust of optimizer 'orthogonalize' 'originl': did you mean"),
        ("Shampoo", {"grafting": "adm"}, "unknown grafting of optimizer 'shampoo' 'adm': did you mean 'adam'?"),
        ("Shampoo", {"block_size": 3}, "unknown argument of Shampoo 'block_size'"),
    ],
)
def test_what_is_not_supported_is_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RavineError) as error:
        getattr(optim, name)([nn.Parameter(torch.zeros(3, 2))], **arguments)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("name", PUBLIC)
def test_they_are_copied_and_pickled(name: str) -> None:
    p = nn.Parameter(drawn((3, 2), 0))
    optimizer = getattr(optim, name)([{"params": [p], "use_muon": True}] if "Aux" in name else [p])
    p.grad = drawn((3, 2), 1)
    optimizer.step()
    ends = []
    for one in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer)), optimizer):
        (q,) = one.param_groups[0]["params"]
        q.grad = drawn((3, 2), 2)
        one.step()
        ends.append(q.detach())
    assert torch.equal(ends[0], ends[2])
    assert torch.equal(ends[1], ends[2])


def test_muon_alone_refuses_vectors() -> None:
    with pytest.raises(RavineError, match="it is a vector, and there is nothing to orthogonalize"):
        optim.Muon(nn.Linear(3, 2).parameters())


# ---------------------------------------------------------------- beside the authors' packages, where installed


def test_muon_walks_with_keller_jordans() -> None:
    """On matrices: his package of 2025 flattens kernels and forgets to fold them back."""
    theirs = pytest.importorskip("muon").SingleDeviceMuon
    shapes = [(24, 20), (8, 64)]
    ours, found = (trained(lambda ps, m=m: m(ps, lr=0.02, weight_decay=0.1), shapes, F32) for m in (optim.Muon, theirs))
    assert distance(ours, found.double()) <= 0.01


@pytest.mark.parametrize("every", [1, 40])
def test_soap_walks_with_pytorch_optimizers(every: int) -> None:
    """A matrix of full rank. Their count begins after the first step, so they turn their bases one step later than the
    paper: every step, or not at all, is the same."""
    theirs = pytest.importorskip("pytorch_optimizer").SOAP
    shapes = [(6, 6), (5,)]
    ours = trained(lambda ps: optim.SOAP(ps, precondition_frequency=every, weight_decay=0), shapes)
    found = trained(lambda ps: theirs(ps, precondition_frequency=every, weight_decay=0), shapes)
    torch.testing.assert_close(ours, found, rtol=0, atol=1e-5 if every == 1 else 1e-10)  # they take QR in float32


def test_kron_walks_with_pytorch_optimizers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handed the same noise, and never balanced."""
    theirs = pytest.importorskip("pytorch_optimizer").Kron
    shapes, drawn_for = [(6, 5), (4, 3, 2), (7,)], {}

    def noise(x: Tensor, **_: Any) -> Tensor:
        i = [torch.Size(shape) for shape in shapes].index(x.shape)
        drawn_for[i] = drawn_for.get(i, 0) + 1
        return normal_for(x, (0, 0, i, 0), drawn_for[i])

    ours = trained(lambda ps: optim.Kron(ps), shapes)
    monkeypatch.setattr(torch, "randn_like", noise)
    monkeypatch.setattr(np.random, "random", lambda: 1.0)
    found = trained(lambda ps: theirs(ps, precondition_dtype=F64), shapes)
    torch.testing.assert_close(ours, found, rtol=0, atol=1e-7)  # they solve in float32
