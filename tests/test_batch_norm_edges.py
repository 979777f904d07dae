"""Batch normalization where it could do harm without a word: shared classes, small groups, guesses, bad options."""

import copy
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import ravine
from ravine.core.errors import RavineError
from ravine.strategies import batch_norm
from ravine.strategies.batch_norm import BatchNorm, GhostBatchNorm, fold, frozen, insert
from ravine.strategies.norms import Normalized


def lively(model: nn.Module) -> nn.Module:
    """With statistics, scales and shifts that are not those of the beginning, in evaluation mode."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                for x in (m.running_mean, m.bias):
                    x.copy_(torch.randn(x.shape, generator=draw))
                for x in (m.running_var, m.weight):
                    x.copy_(0.3 + torch.rand(x.shape, generator=draw))
    return model.eval()


def mlp(*widths: int) -> nn.Sequential:
    layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
    return nn.Sequential(*[m for pair in layers for m in pair][:-1])


# ---------------------------------------------------------------- what folding leaves alone


@pytest.mark.parametrize("kind", ["inserted", "torch's", "torch's, its bias parametrized too"])
def test_folding_leaves_the_model_and_its_copies_their_weights(kind: str) -> None:
    """A deepcopy of a parametrized layer shares the class that holds the property `weight`."""
    if kind == "inserted":
        model = mlp(4, 4, 2)
        insert(model, "weight")
    else:
        layer = weight_norm(nn.Linear(4, 4))
        if "bias" in kind:
            nn.utils.parametrize.register_parametrization(layer, "bias", nn.Tanh())
        model = nn.Sequential(layer, BatchNorm(4), nn.Linear(4, 2))
    lively(model)
    x, other = torch.randn(3, 4), copy.deepcopy(model)
    before = model(x)
    folded = fold(model)
    assert torch.equal(model(x), before)
    assert torch.equal(other(x), before)
    assert isinstance(folded.model[0]._parameters["weight"], nn.Parameter)
    torch.testing.assert_close(folded.model(x), before, rtol=1e-5, atol=1e-6)
    again = fold(other)  # a second time, of a copy
    torch.testing.assert_close(again.model(x), before, rtol=1e-5, atol=1e-6)


class Backwards(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return self[1](torch.relu(self[0](x)))


class Activated(nn.BatchNorm2d):
    """As in packages of vision models: a normalization that has its activation in it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(super().forward(x))


def test_a_forward_of_its_own_is_no_chain() -> None:
    model = lively(Backwards(nn.Linear(4, 4), BatchNorm(4)))
    with pytest.raises(RavineError, match="what stands before '1' does not show without a run: give example="):
        fold(model)
    model = lively(nn.Sequential(nn.Conv2d(3, 4, 1), Activated(4)))
    with pytest.raises(RavineError, match="Activated has a forward of its own"):
        fold(model)


@pytest.mark.parametrize("before", [False, True])
def test_torchs_batch_norm_of_sequences_is_not_folded_into_a_linear_layer(before: bool) -> None:
    """On (N, T, C) it normalizes positions: with as many of them as features nothing but a run shows it."""
    layer = nn.Linear(5, 5)
    model = lively(nn.Sequential(nn.BatchNorm1d(5), layer) if before else nn.Sequential(layer, nn.BatchNorm1d(5)))
    assert "was taken to see inputs of two dimensions" in str(fold(model))
    with pytest.raises(RavineError, match="of an input of 3 dimensions it normalizes another one"):
        fold(model, torch.randn(4, 5, 5))
    x = torch.randn(4, 5)
    for report in (fold(model), fold(model, x)):
        torch.testing.assert_close(report.model(x), model(x), rtol=1e-5, atol=1e-6)
    assert not report.notes


def test_sizes_that_do_not_fit_are_left_with_the_reason() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(6), nn.Linear(8, 8), BatchNorm(8))
    report = fold(lively(model))
    assert dict(report.done) == {"3": "folded into '2'"}
    assert dict(report.left) == {
        "1": "it normalizes 6 channels, but the layer beside it has 8; it normalizes 6 channels, but the layer beside "
        "it has 8"
    }
    x = torch.randn(4, 6, 5)
    torch.testing.assert_close(report.model(x), model(x), rtol=1e-5, atol=1e-6)


class Nearly(nn.Module):
    """A bias that is looked at past the layer, with a small part in the output."""

    def __init__(self, part: float = 0.0) -> None:
        super().__init__()
        self.fc, self.bn, self.part = nn.Linear(4, 4), nn.BatchNorm1d(4), part

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.fc(x)) + self.part * self.fc.bias.sum()


def test_outputs_are_compared_to_the_hundred_thousandth() -> None:
    model, x = lively(Nearly()), torch.randn(3, 4)
    change = float((fold(model, x).model.fc.bias.sum() - model.fc.bias.sum()).detach())
    for apart, allowed in ((3e-6, True), (3e-5, False)):
        model.part = apart * float(model(x).abs().max().detach()) / change
        if allowed:
            fold(model, x)
        else:
            with pytest.raises(RavineError, match=r"fold: the outputs would differ by .*e-05 of the largest one"):
                fold(model, x)
        model.part = 0.0


# ---------------------------------------------------------------- groups that leave something


def test_groups_hold_at_least_eight_channels_unless_told_otherwise() -> None:
    for width, parts in ((16, 2), (32, 4), (64, 8), (100, 10), (512, 32), (6, 1), (13, 1)):
        model = mlp(4, width, 2)
        report = insert(model, "group")
        norm = model[0].norm
        assert norm.num_groups == parts
        assert dict(report.done)["0"] == f"GroupNorm({width} in groups of {width // parts}) behind it"
        made = model[0](torch.randn(16, 4))
        assert made.unique().numel() > 8 * width  # it was 1 value for 32 features, the shift, and 2 for 64
        assert model(torch.randn(1, 4)).shape == (1, 2)
    conv = nn.Sequential(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    insert(conv, "group")
    assert conv[0].norm.num_groups == 2
    assert float(conv[0](torch.randn(1, 1, 5, 5)).detach().std()) > 0.5


@pytest.mark.parametrize(
    ("call", "where"),
    [
        (lambda: insert(mlp(4, 8, 2), "group", groups=8), "'0'"),
        (lambda: insert(mlp(4, 8, 2), "group", groups=32, where=["0"]), "'0'"),
        (lambda: insert(mlp(4, 1, 2), "layer"), "'0'"),
        (lambda: insert(nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Conv2d(4, 2, 1)), "group", groups=4,
                        example=torch.randn(2, 1, 5, 5)), "'0'"),
    ],
)  # fmt: skip
def test_groups_of_one_value_are_refused(call: Callable[[], Any], where: str) -> None:
    with pytest.raises(RavineError) as caught:
        call()
    assert "each group would have one value, of which normalization leaves nothing" in str(caught.value)
    assert where in str(caught.value)


def test_groups_that_are_given_are_kept() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    insert(model, "group", groups=4, example=torch.randn(2, 1, 5, 5))  # each channel by itself, over 9 positions
    assert model[0].norm.num_groups == 4


# ---------------------------------------------------------------- ghost batches counted


def test_without_momentum_the_running_mean_is_that_of_all_parts() -> None:
    norm = GhostBatchNorm(3, 8, momentum=None).double()
    parts = []
    for i in range(3):
        x = torch.randn(32, 3, dtype=torch.float64) + torch.arange(32 * i, 32 * (i + 1))[:, None]
        norm(x)
        parts += x.split(8)
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean(0) for x in parts]).mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(norm.running_var, torch.stack([x.var(0) for x in parts]).mean(0), rtol=1e-12, atol=0)
    assert norm.num_batches_tracked == 12


# ---------------------------------------------------------------- what insertion takes for granted, and undoes


def test_a_layer_that_is_named_twice_is_normalized_once() -> None:
    model = mlp(4, 4, 2)
    assert [name for name, _ in insert(model, where=["0", "0"]).done] == ["0"]
    assert isinstance(model[0].layer, nn.Linear)


def test_a_layer_that_stands_twice_in_a_chain_is_refused_as_with_an_example() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(4, 2))
    for example in (None, torch.randn(3, 4)):
        with pytest.raises(RavineError, match=r"'0': it (stands|runs) (in )?2 (places|times)"):
            insert(model, example=example)
    insert(model, "layer")
    assert model[0] is model[2]


class Attributes(nn.Module):
    """Convolution and normalization as attributes, and a head that is registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.conv, self.bn = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.more = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.more(torch.relu(self.bn(self.conv(x))))).mean((2, 3)))


def test_the_report_says_what_was_assumed_without_an_example() -> None:
    report = insert(Attributes())
    assert "note: without example= layers count as run in the order in which the model registers them" in str(report)
    assert "note: 'bn' (BatchNorm2d) may normalize one of these layers already, which shows with example= only" in str(
        report
    )
    report = insert(Attributes(), example=torch.randn(2, 1, 7, 7))
    assert report.notes == ()
    assert dict(report.left) == {"head": "it is the output layer", "conv": "it is normalized already"}
    assert insert(mlp(4, 4, 2)).notes == ()


class Reads(nn.Module):
    """Calls a layer, and computes with its weight besides."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)) + self.a.weight.sum() * x.new_zeros(2, self.a.out_features)[:, :2].sum()


def kept(model: nn.Module) -> dict[str, Any]:
    return {f"{name}.{key}": x for name, m in model.named_modules() for key, x in [*m._parameters.items(), ("", m)]}


@pytest.mark.parametrize("kind", ["batch", "layer", "ghost"])
def test_a_model_that_would_fail_is_left_as_it_was(kind: str) -> None:
    model, x = Reads(), torch.randn(5, 4)
    before, own = model(x), kept(model)
    with pytest.raises(RavineError, match=r"the model fails on the example \(AttributeError: 'weight' belongs to the"):
        insert(model, kind, example=x)
    assert {key: id(x) for key, x in kept(model).items()} == {key: id(x) for key, x in own.items()}
    assert torch.equal(model(x), before)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    with pytest.raises(RavineError, match=r"fails on the example .*expected 4D input .*Nothing was changed"):
        insert(model, "batch", example=torch.randn(1, 9, 9))
    assert isinstance(model[0], nn.Conv2d)
    assert model[0].bias is not None


def test_what_is_put_in_hands_on_the_layers_settings_but_no_weights() -> None:
    pair = Normalized(nn.Linear(3, 4), BatchNorm(4))
    assert pair.out_features == 4
    assert not hasattr(pair, "weight")
    assert not hasattr(pair, "reset_parameters")
    with pytest.raises(AttributeError, match=r"'weight' belongs to the Linear inside, as \.layer\.weight"):
        pair.weight  # noqa: B018
    with pytest.raises(AttributeError, match="'Normalized' object has no attribute 'wieght'"):
        pair.wieght  # noqa: B018
    assert isinstance(copy.deepcopy(pair), Normalized)
    model = nn.ModuleDict({"lstm": nn.LSTM(3, 4, num_layers=2), "fc": nn.Linear(4, 2)})
    insert(model, "layer")
    assert model["lstm"].num_layers == 2


def zero_row() -> nn.Sequential:
    model = mlp(4, 4, 2)
    with torch.no_grad():
        model[0].weight[1] = 0
    return model


def tied_twice() -> nn.Module:
    model = nn.ModuleList([nn.Embedding(9, 4), nn.Linear(4, 9, bias=False), nn.Linear(9, 2)])
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: insert(zero_row(), "weight"), "'0': a row of its weight is zero, which has no direction"),
        (lambda: insert(tied_twice(), "weight"), "'1': its weight is that of another layer too, and would be tied no"),
        (lambda: insert(mlp(4, 4, 2), eps=-1.0), "insert: eps must be in [0, inf), got -1.0"),
        (lambda: insert(mlp(4, 4, 2), eps="a"), "insert: eps must be a number, got 'a'"),
        (lambda: insert(mlp(4, 4, 2), momentum=5), "insert: momentum must be in [0, 1], got 5"),
        (lambda: insert(mlp(4, 4, 2), groups=2.5), "insert: groups must be a whole number or none, got 2.5"),
        (lambda: insert(mlp(4, 4, 2), where=3), "where must be names of layers, or a function of name and module; got"),
        (lambda: insert(mlp(4, 4, 2), where=[]), "no layer to put batch normalization behind (where chooses none)"),
        (lambda: frozen("a"), "frozen takes a model, an nn.Module; got str"),
    ],
)
def test_bad_options(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(RavineError) as caught:
        call()
    assert message in str(caught.value)


def test_weight_normalization_of_a_layer_that_stands_twice_stays_one() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(3, 4)
    before = model(x)
    batch_norm.insert(model, "weight")
    assert model[0] is model[2]
    torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- batches of one


def test_a_batch_of_one_is_told_what_to_do_behind_convolutions_too() -> None:
    for kind in ("batch", "ghost"):
        model = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
        insert(model, kind)
        with pytest.raises(RavineError, match=r"input of shape \(1, 4, 1, 1\) .* use larger batches \(drop_last=True"):
            model(torch.randn(1, 1, 5, 5))
        model(torch.randn(2, 1, 5, 5))
        model.eval()(torch.randn(1, 1, 5, 5))


def test_training_in_batches_of_one_is_refused_with_advice_before_anything_moves() -> None:
    """Of a user's own layers, in a model that is the same at every call."""
    model = nn.Sequential(
        nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, 4),
        nn.BatchNorm1d(4), nn.Linear(4, 3),
    )  # fmt: skip
    before = copy.deepcopy(model.state_dict())
    data = (torch.randn(12, 8), torch.arange(12) % 3)
    task = ravine.supervised(
        name="ones", model=lambda: model, criterion=nn.CrossEntropyLoss(), train=data, valid=data, batch_size=1
    )
    with pytest.raises(RavineError, match=r"more than 1 value per channel .* use larger batches"):
        next(ravine.train(task, "sgd(lr=0.1)", steps=3))
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


# ---------------------------------------------------------------- killed and resumed

PROGRAM = """
import sys, torch, ravine
from torch import nn
from ravine.strategies import batch_norm

def model():
    made = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
    batch_norm.insert(made, sys.argv[1], size=4)
    return made

x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
data = (x, x[:, :3].argmax(1))
kinds = dict(name="normed", model=model, criterion=nn.CrossEntropyLoss(), train=data, valid=data, batch_size=16)
task = ravine.supervised(**kinds)
for moment in ravine.train(task, "adam(lr=0.01)", steps=60, every=10, out=sys.argv[2]):
    print(repr((moment.step, moment.loss, moment.metric)), flush=True)
torch.save(moment.model.state_dict(), sys.argv[3])
"""


@pytest.mark.parametrize("kind", ["batch", "ghost", "weight"])
def test_training_with_inserted_normalization_is_killed_and_goes_on_to_the_bit(kind: str, tmp_path: Path) -> None:
    def start(folder: str) -> subprocess.Popen[str]:
        places = [str(tmp_path / folder), str(tmp_path / f"{folder}.pt")]
        command = [sys.executable, "-c", PROGRAM, kind, *places]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    killed = start("cut")
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith("(20,"):
            killed.kill()
            break
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    lines = []
    for folder in ("cut", "whole"):
        process = start(folder)
        lines.append(process.communicate()[0].splitlines())
        assert process.returncode == 0
    assert len(lines[0]) == 7
    assert lines[0] == lines[1]
    cut, whole = (torch.load(tmp_path / f"{folder}.pt", weights_only=True) for folder in ("cut", "whole"))
    assert cut.keys() == whole.keys()
    assert all(torch.equal(x, whole[name]) for name, x in cut.items())
