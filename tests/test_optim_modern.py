"""The newer drop-in names: the authors' arguments, torch's numbers where torch has the rule, and what is refused."""

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_optimizer import F64, mlp, saved
from torch import Tensor, nn

import ravine
from ravine import optim
from ravine.core.errors import RavineError
from ravine.optim import fourth_root, modern

PUBLIC = [name for name, kind in vars(optim).items() if inspect.isclass(kind) and kind.__module__ == modern.__name__]
SHAPES = ((5, 4), (4,), (3, 2, 3, 3), (2, 1), (1,), ())
Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def weights() -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=draw, dtype=F64)) for shape in SHAPES]


def run(ps: list[nn.Parameter], optimizer: torch.optim.Optimizer, steps: range = range(50)) -> Tensor:
    """Down a bumpy bowl with noise in its gradients."""
    for step in steps:
        draw = torch.Generator().manual_seed(step)
        for p in ps:
            noise = torch.randn(p.shape, generator=draw, dtype=F64)
            p.grad = (p + torch.sin(3 * p)).detach() + 0.3 * noise
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in ps])


def trained(make: Make) -> Tensor:
    ps = weights()
    return run(ps, make(ps))


# ---------------------------------------------------------------- Adafactor, which torch has


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"lr": 0.3},
        {"lr": 0.05, "beta2_decay": -0.5, "weight_decay": 0.1},
        {"lr": 0.3, "d": 3.0, "eps": (1e-3, 0.1)},
        {"lr": 0.3, "eps": (None, 0.5), "maximize": True},
        {"lr": 0.3, "eps": (0.5, 1e-3), "beta2_decay": -1.0},
    ],
)
def test_adafactor_equals_torchs_over_50_steps(arguments: dict[str, Any]) -> None:
    expected, found = (trained(lambda ps, m=m: m.Adafactor(ps, **arguments)) for m in (torch.optim, optim))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    start = torch.cat([p.detach().flatten() for p in weights()])
    assert (expected - start).abs().max() > 0.01


def test_adafactors_arguments_are_torchs() -> None:
    ours, theirs = (inspect.signature(kind).parameters for kind in (optim.Adafactor, torch.optim.Adafactor))
    taken = {key: parameter for key, parameter in ours.items() if parameter.kind is not parameter.VAR_KEYWORD}
    assert [(key, one.default) for key, one in taken.items()] == [(key, theirs[key].default) for key in taken]
    assert set(theirs) - set(taken) == {"foreach", "maximize"}


# ---------------------------------------------------------------- all names: the rule behind the arguments


RULES: list[tuple[str, dict[str, Any], str]] = [
    ("AdaBelief", {}, "adabelief + decay(weight_decay=0)"),
    ("AdaBelief", {"rectify": False, "weight_decouple": False}, "adabelief(rectify=false)"),
    ("AdaBelief", {"weight_decouple": False, "weight_decay": 0.1, "eps": 1e-8},
     "decay(weight_decay=0.1) + adabelief(eps=1e-08)"),
    ("Adan", {}, "adan + decay(weight_decay=0.0, form='proximal')"),
    ("Adan", {"no_prox": True, "betas": (0.9, 0.8, 0.7)},
     "adan(beta1=0.9, beta2=0.8, beta3=0.7) + decay(weight_decay=0.0)"),
    ("Adan", {"max_grad_norm": 5.0, "weight_decay": 0.02},
     "clip_norm(limit=5.0) + adan + decay(weight_decay=0.02, form='proximal')"),
    ("ADOPT", {}, "adopt"),
    ("ADOPT", {"clip_lambda": None, "weight_decay": 0.1}, "decay(weight_decay=0.1) + adopt(clip=false)"),
    ("ADOPT", {"clip_lambda": fourth_root, "weight_decay": 0.1, "decouple": True}, "adopt + decay(weight_decay=0.1)"),
    ("AdEMAMix", {}, "ademamix + decay(weight_decay=0)"),
    ("AdEMAMix", {"alpha": 5.0, "beta3_warmup": 9, "alpha_warmup": 9},
     "ademamix(alpha=5.0, warmup=9) + decay(weight_decay=0)"),
    ("Adafactor", {}, "adafactor(form='torch') + decay(weight_decay=0.0)"),
    ("Adafactor", {"eps": (1e-8, 1e-4)}, "adafactor(eps1=1e-08, eps2=0.0001, form='torch') + decay(weight_decay=0.0)"),
    ("Lamb", {}, "lamb"),
    ("Lamb", {"bias_correction": False, "weight_decay": 0.1}, "lamb(weight_decay=0.1, bias_correction=false)"),
    ("LARS", {"trust_coefficient": 0.02, "momentum": 0.8, "weight_decay": 0.1},
     "lars(momentum=0.8, weight_decay=0.1, trust=0.02)"),
    ("Lion", {"betas": (0.95, 0.98), "weight_decay": 0.1}, "lion(beta1=0.95, beta2=0.98) + decay(weight_decay=0.1)"),
    ("Prodigy", {}, "prodigy"),
    ("Prodigy", {"weight_decay": 0.1, "beta3": 0.9, "d_coef": 2.0}, "prodigy(beta3=0.9, weight_decay=0.1, d_coef=2.0)"),
    ("Prodigy", {"weight_decay": 0.1, "decouple": False}, "decay(weight_decay=0.1) + prodigy"),
    ("Prodigy", {"safeguard_warmup": True, "growth_rate": 1.02, "fsdp_in_use": True},
     "prodigy(growth_rate=1.02, safeguard_warmup=true)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "spec"), RULES)
def test_the_arguments_make_the_rule_and_a_copy_goes_on_as_it_would_have(
    name: str, arguments: dict[str, Any], spec: str
) -> None:
    ps = weights()
    optimizer = getattr(optim, name)(ps, lr=0.01, **arguments)
    described = optimizer._described(**optimizer._arguments)
    assert str(described) == spec
    wanted = ravine.Optimizer(weights(), described, 0.01)
    assert torch.equal(run(ps, optimizer, range(5)), run(wanted.param_groups[0]["params"], wanted, range(5)))
    others, again = copy.deepcopy((ps, pickle.loads(pickle.dumps(optimizer.state_dict()))))
    twin = getattr(optim, name)(others, lr=0.01, **arguments)
    twin.load_state_dict(saved(again))
    assert torch.equal(run(ps, optimizer, range(5, 9)), run(others, twin, range(5, 9)))


def test_every_name_is_tried_and_keeps_its_arguments_when_pickled() -> None:
    assert {name for name, *_ in RULES} == set(PUBLIC)
    for name in PUBLIC:
        optimizer = getattr(optim, name)(mlp().parameters())
        again = pickle.loads(pickle.dumps(optimizer))
        assert again._arguments == optimizer._arguments
        again.add_param_group({"params": [nn.Parameter(torch.zeros(3))], "weight_decay": 0.5})
        assert again.param_groups[1]["weight_decay"] == 0.5


def test_prodigy_finds_the_distance_to_the_solution() -> None:
    """On |x - 3|, from 0: d ends between a tenth of the distance and the distance, from 1e-6."""
    p = nn.Parameter(torch.zeros(1, dtype=F64))
    optimizer = optim.Prodigy([p])
    for _ in range(300):
        p.grad = (p - 3).sign().detach()
        optimizer.step()
    assert 0.3 < optimizer.state[p]["d"].item() <= 3
    assert p.item() == pytest.approx(3, abs=1)


P = nn.Parameter(torch.zeros(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.AdaBelief([P], amsgrad=True), "amsgrad=True is not supported; leave it out, or amsgrad=False"),
        (lambda: optim.AdaBelief([P], fixed_decay=True), "fixed_decay=True is not supported; leave it out"),
        (lambda: optim.AdaBelief([P], degenerated_to_sgd=False), "degenerated_to_sgd=False is not supported"),
        (lambda: optim.AdaBelief([P], eps=0), "adabelief: eps must be in (0, inf), got 0"),
        (lambda: optim.Adan([P], betas=(0.9, 0.99)), "betas must be three numbers, as in betas=(0.9, 0.999, 0.9999), "),
        (lambda: optim.Adan([P], betas=(0.9, 0.99, 1.0)), "adan: beta3 must be in [0, 1), got 1.0"),
        (lambda: optim.Adan([P], max_grad_norm=-1.0), "clip_norm: limit must be in (0, inf), got -1.0"),
        (lambda: optim.ADOPT([P], clip_lambda=lambda t: t), "clip_lambda must be ravine.optim.fourth_root or None, "),
        (lambda: optim.AdEMAMix([P], alpha_warmup=5), "beta3_warmup and alpha_warmup must be one number of steps, as "),
        (lambda: optim.AdEMAMix([P], alpha_warmup=-5, beta3_warmup=-5), "ademamix: warmup must be in [0, inf), got -5"),
        (lambda: optim.AdEMAMix([P], betas=(0.9, 0.9, 0.0)), "ademamix: beta3 must be in (0, 1), got 0.0"),
        (lambda: optim.Adafactor([P], eps=1e-3), "eps must be two numbers, as in eps=(None, 0.001), got 0.001"),
        (lambda: optim.Adafactor([P], beta2_decay=0.8), "adafactor: beta2_decay must be in (-inf, 0], got 0.8"),
        (lambda: optim.Lamb([P], betas=0.9), "betas must be two numbers, as in betas=(0.9, 0.999), got 0.9"),
        (lambda: optim.LARS([P], trust_coefficient=0.0), "lars: trust must be in (0, inf), got 0.0"),
        (lambda: optim.Lion([P], weight_decay=-1), "decay: weight_decay must be in [0, inf), got -1"),
        (lambda: optim.Prodigy([P], slice_p=11), "slice_p=11 is not supported; leave it out, or slice_p=1"),
        (lambda: optim.Prodigy([P], d0=0.0), "prodigy: d0 must be in (0, inf), got 0.0"),
        (lambda: optim.Prodigy([P], growth_rate=1.0), "prodigy: growth_rate must be in (1, inf], got 1.0"),
        (lambda: optim.Lion([P], cautious=True), "unknown argument of Lion 'cautious': "),
        (lambda: optim.Lion([{"params": [P], "eps": 0.1}]), "unknown hyperparameter of 'lion + decay"),
    ],
)
def test_what_is_wrong_is_said(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RavineError) as error:
        make()
    assert str(error.value).startswith(message)
