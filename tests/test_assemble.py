"""From a spec to an optimizer on a model: roles, groups, horizons, and what does not fit."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import ravine
from ravine.assembly import assemble, parts
from ravine.core.composition import COMPOSITIONS
from ravine.core.errors import RavineError
from ravine.core.roles import ROLES, named_parameters, role, roles
from ravine.core.rule import Rule
from ravine.core.spec import parse
from ravine.rules import SGD, Adam, Decay, Momentum, chain
from ravine.schedules import cosine, linear, warmup


def model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)
    )


# ---------------------------------------------------------------- roles


def test_roles_of_a_convolutional_network() -> None:
    assert roles(model()) == {
        "0.weight": "input", "0.bias": "bias", "1.weight": "norm", "1.bias": "norm",
        "4.weight": "hidden", "4.bias": "bias", "6.weight": "output", "6.bias": "bias",
    }  # fmt: skip


def test_roles_of_a_model_that_begins_with_an_embedding() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte = nn.Embedding(9, 4)
            self.position_embedding = nn.Parameter(torch.zeros(3, 4))
            self.mix = nn.Linear(4, 4)
            self.ln_f = nn.LayerNorm(4)
            self.again = nn.Linear(4, 9, bias=False)
            self.again.weight = self.wte.weight  # tied: counts once, as the embedding
            self.head = nn.Linear(4, 9, bias=False)
            self.temperature = nn.Parameter(torch.ones(()))

    assert roles(Tied()) == {
        "temperature": "bias", "position_embedding": "embedding", "wte.weight": "embedding",
        "mix.weight": "hidden", "mix.bias": "bias", "ln_f.weight": "norm", "ln_f.bias": "norm", "head.weight": "output",
    }  # fmt: skip


def test_where_the_table_is_the_output_no_other_matrix_is_one() -> None:
    net = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False))
    assert roles(net)["2.weight"] == "hidden"
    assert roles(net)["3.weight"] == "output"
    net[3].weight = net[0].weight
    assert [kind for kind in roles(net).values() if kind != "bias"] == ["embedding", "hidden", "hidden"]


def test_a_single_matrix_is_the_output() -> None:
    assert roles(nn.Linear(3, 2)) == {"weight": "output", "bias": "bias"}
    assert roles(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)))["0.weight"] == "input"


class Patches(nn.Module):
    """A small vision transformer's ends: patches by a convolution, positions added, a head called embed_out."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 8))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, 8, 4, 4)})
        self.fc = nn.Linear(8, 8)
        self.embed_out = nn.Linear(8, 10)


def test_what_multiplies_is_no_embedding_whatever_its_name() -> None:
    assert {name: kind for name, kind in roles(Patches()).items() if kind != "bias"} == {
        "cls_token": "embedding", "pos_embed": "embedding", "patch_embed.proj.weight": "input", "fc.weight": "hidden",
        "embed_out.weight": "output",
    }  # fmt: skip
    made = ravine.groups(Patches(), output=SGD(), rest=Adam())
    assert [name for name, _ in made[0]["params"]] == ["embed_out.weight"]


def test_names_and_roles_are_the_same_whatever_wraps_the_model() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4)), nn.LayerNorm(4), nn.Linear(4, 2))
    wanted, ids = roles(net), {name: id(p) for name, p in net.named_parameters()}
    compiled = partial(torch.compile, backend="eager")
    net[1] = checkpoint_wrapper(compiled(net[1]))
    for wrapped in (net, compiled(net), nn.DataParallel(compiled(net)), compiled(nn.DataParallel(net))):
        assert roles(wrapped) == wanted
        assert {name: id(p) for name, p in named_parameters(wrapped).items()} == ids
        made = ravine.groups(wrapped, hidden=SGD(), rest=Adam())
        assert [name for name, _ in made[0]["params"]] == ["1.0.weight"]
        optimizer = assemble("sgd", wrapped, horizon=1)
        assert optimizer.param_groups[0]["param_names"] == list(ids)


def test_a_part_of_the_model_may_be_called_as_a_wrapper_calls_it() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(3, 4)

    assert list(named_parameters(Nested())) == ["module.weight", "module.bias"]


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("blocks.3.ln_1.weight", (64,), "norm"),
        ("layer1.0.bn2.bias", (64,), "norm"),
        ("encoder.rmsnorm.scale", (64,), "norm"),
        ("blinding.weight", (64,), "bias"),
        ("fc.weight", (10, 64), "hidden"),
        ("conv.weight", (8, 3, 3, 3), "hidden"),
        ("tok_embeddings.weight", (10, 64), "embedding"),
        ("embed.bias", (64,), "bias"),
        ("fc.bias", (10,), "bias"),
        ("cls_token", (1, 1, 64), "embedding"),
        ("attn.relative_position_bias_table", (49, 4), "embedding"),
        ("blocks.0.mlp_tokens.fc1.weight", (64, 64), "hidden"),
    ],
)
def test_the_role_by_name_and_shape_alone(name: str, shape: tuple[int, ...], expected: str) -> None:
    assert role(name, shape) == expected


# ---------------------------------------------------------------- what a spec means


def test_one_group_takes_every_trainable_parameter() -> None:
    net = model()
    net[0].weight.requires_grad_(False)
    spec = "adam(lr=0.02, beta1=0.8) + decay(weight_decay=0.3) @ warmup(steps=5) * cosine()"
    (group,) = assemble(spec, net, 40).param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in net.parameters() if p.requires_grad]
    assert group["param_names"] == [name for name, p in net.named_parameters() if p.requires_grad]
    assert (group["rule"], group["lr"], group["beta1"], group["weight_decay"]) == ("adam + decay", 0.02, 0.8, 0.3)
    assert group["schedule"] == "warmup(steps=5) * cosine(steps=40)"


def test_parts_are_values() -> None:
    hidden, rest = parts("hidden: momentum(momentum=0.5); rest: adamw(lr=0.1) @ linear(final=0)")
    assert (hidden.rule, hidden.lr, hidden.role) == (Momentum(0.5), 0.01, "hidden")
    assert (rest.rule, rest.lr, rest.schedule) == (chain(Adam(), Decay()), 0.1, linear(None, 0))
    assert hidden.schedule.bound(5)(3) == 1.0


@pytest.mark.parametrize("name", [*Rule.registry, *COMPOSITIONS])
def test_every_named_optimizer_can_be_written_alone_or_says_that_it_cannot(name: str) -> None:
    member = COMPOSITIONS[name].rule if name in COMPOSITIONS else Rule.registry[name]()
    if any(link.default_lr is not None for link in member.links):
        (part,) = parts(name)
        assert (part.rule, part.lr) == (member, member.lr)
    else:
        with pytest.raises(RavineError, match=f"'{name}' only changes another rule's step: chain it to one"):
            parts(name)


def test_role_groups_and_the_rest() -> None:
    net = model()
    spec = "hidden: momentum(lr=0.2); rest: adam(lr=0.003) @ cosine(); norm: sgd(lr=0.5)"
    optimizer = assemble(spec, net, 30)
    names = [group["param_names"] for group in optimizer.param_groups]
    assert names == [
        ["4.weight"],
        ["0.weight", "0.bias", "4.bias", "6.weight", "6.bias"],
        ["1.weight", "1.bias"],
    ]
    told = [(group["rule"], group["lr"], group["schedule"]) for group in optimizer.param_groups]
    assert told == [
        ("momentum", 0.2, "constant"), ("adam", 0.003, "cosine(steps=30)"), ("sgd", 0.5, "constant")
    ]  # fmt: skip


def test_a_rest_that_is_empty_is_left_out() -> None:
    net = nn.Linear(3, 2)
    optimizer = assemble("output: sgd; bias: sgd(lr=0.2); rest: adam", net, 10)
    assert [group["param_names"] for group in optimizer.param_groups] == [["weight"], ["bias"]]


def test_the_horizon_is_filled_in_and_reached() -> None:
    net = nn.Linear(1, 1, bias=False)
    optimizer = assemble("sgd(lr=1.0) @ linear(final=0)", net, 4)
    nn.init.zeros_(net.weight)
    places = []
    for _ in range(6):
        net.weight.grad = torch.ones(1, 1)
        optimizer.step()
        places.append(-net.weight.item())
    assert places == [1, 1.75, 2.25, 2.5, 2.5, 2.5]


def test_the_optimizer_that_is_made_moves_every_group_by_its_own_rule() -> None:
    torch.manual_seed(0)
    net, alone = model(), model()
    alone.load_state_dict(net.state_dict())
    optimizer = assemble("hidden: momentum(lr=0.2); rest: adam(lr=0.003, beta1=0.5)", net, 30)
    hidden = ravine.Optimizer([alone[4].weight], Momentum(), 0.2)
    rest = ravine.Optimizer([p for name, p in alone.named_parameters() if name != "4.weight"], Adam(0.5), 0.003)
    for _ in range(5):
        for p, q in zip(net.parameters(), alone.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        optimizer.step(), hidden.step(), rest.step()
    for p, q in zip(net.parameters(), alone.parameters(), strict=True):
        assert torch.equal(p, q)


def frozen() -> nn.Module:
    return model().requires_grad_(False)


@pytest.mark.parametrize(
    ("spec", "make", "message"),
    [
        ("adam", frozen, "the model has no trainable parameters"),
        ("embedding: sgd; rest: adam", model, "no parameter of this model has the role 'embedding'; its roles are"),
        ("hidden: sgd", model, "7 parameters belong to no group of 'hidden: sgd', '0.weight' among them"),
        ("hiden: sgd; rest: adam", model, "unknown role 'hiden': did you mean 'hidden'? Allowed: "),
        ("hidden: sgd; hidden: adam", model, "'hidden: sgd; hidden: adam' gives the role 'hidden' twice"),
        ("rest: sgd; rest: adam", model, "'rest: sgd; rest: adam' gives the role 'rest' twice"),
        ("sgd; rest: adam", model, "'sgd; rest: adam' has several groups: each needs a role (input, hidden, "),
        ("sgd(lr=0.1) + sgd(lr=0.1)", model, "'sgd(lr=0.1) + sgd(lr=0.1)' gives lr twice; a group has one"),
        ("adam(lr=0.1) + decay(lr=0.1)", model, "'adam(lr=0.1) + decay(lr=0.1)' gives lr twice; a group has one"),
        ("adam(lr=-1)", model, "adam: lr must be in [0, inf), got -1"),
        ("decay + adam(lr=-1)", model, "adam: lr must be in [0, inf), got -1"),
        ("adam(lr='big')", model, "adam: lr must be a number, got 'big'"),
        ("adam(lr=true)", model, "adam: lr must be a number, got True"),
        ("adam(beta1=2)", model, "adam: beta1 must be in [0, 1), got 2"),
        ("adam @ cosine(steps=0)", model, "cosine: steps must be in [1, inf), got 0"),
        ("adam @ cosin", model, "unknown schedule 'cosin': did you mean 'cosine'?"),
        ("adamm", model, "unknown optimizer 'adamm': did you mean 'adam'?"),
        ("decay(weight_decay=0.1)", model, "'decay(weight_decay=0.1)' only changes another rule's step: chain it "),
        ("adam(", model, "expected the name of an optimizer or schedule, found the end at position 5"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(spec: str, make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(RavineError) as error:
        assemble(spec, make(), 10)
    assert str(error.value).startswith(message)


def test_every_role_may_be_named() -> None:
    for each in ROLES:
        assert parts(f"{each}: sgd; rest: adam")[0].role == each


def test_schedules_that_are_bound_are_kept() -> None:
    optimizer = assemble(parse("sgd(lr=0.1) @ cosine(steps=7) * warmup(steps=2)"), nn.Linear(2, 2), 1000)
    assert optimizer.param_groups[0]["schedule"] == str(cosine(7) * warmup(2))
    assert math.isclose(cosine(7)(7), 0, abs_tol=1e-16)


# groups by role, for one's own loop


def test_groups_give_each_role_its_rule_and_leave_nothing_out():
    net = model()
    rest = "adam(lr=0.003) @ cosine(steps=9)"
    made = ravine.groups(net, hidden=Momentum(0.95), bias={"rule": SGD(), "lr": 0.5}, rest=rest)
    optimizer = ravine.Optimizer(made, lr=0.02)
    role_of = roles(net)
    said = {name: group["rule"] for group in optimizer.param_groups for name in group["param_names"]}
    assert said.keys() == dict(net.named_parameters()).keys()
    assert {(role_of[name], rule) for name, rule in said.items()} >= {("hidden", "momentum"), ("bias", "sgd")}
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.5, 0.003]
    assert optimizer.param_groups[2]["schedule"] == "cosine(steps=9)"


def test_frozen_parameters_are_in_their_group_and_move_once_they_are_thawed():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    net[1].requires_grad_(False)
    optimizer = ravine.Optimizer(ravine.groups(net, rest=Adam()), lr=0.1)
    before = net[1].weight.detach().clone()
    for thawed in (False, True):
        net[1].requires_grad_(thawed)
        net(torch.ones(3)).sum().backward()
        optimizer.step()
        assert torch.equal(net[1].weight.detach(), before) != thawed
    first = (net[1].weight.detach() - before).abs()
    assert first.max().item() == pytest.approx(0.1, rel=1e-4), "its own first step, with its own bias correction"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, "groups needs a rule for a role, as in"),
        ({"hiden": SGD()}, "unknown role 'hiden': did you mean 'hidden'"),
        ({"hidden": SGD()}, "7 parameters belong to no group of groups\\(...\\), '0.weight' among them"),
        ({"rest": 3}, "groups: rest= must be a rule such as Adam\\(\\), a spec or a dict, got 3"),
        ({"rest": {"lr": 1}}, "groups: rest= as a dict needs 'rule' and no 'params', got"),
        ({"rest": "bias: sgd; rest: adam"}, "must describe one group, without a role"),
    ],
)
def test_groups_that_make_no_sense_are_refused(wanted, said):
    with pytest.raises(RavineError, match=said):
        ravine.groups(model(), **wanted)


def test_without_a_rule_every_group_must_bring_one():
    with pytest.raises(RavineError, match=r"a group's rule must be a rule such as ravine.rules.Adam\(\), got None"):
        ravine.Optimizer(model().parameters(), lr=0.1)
