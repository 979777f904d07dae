"""Skips and heads around a user's own layers: the papers' formulas, how they begin, and what they refuse."""

import copy
import dataclasses
import itertools
import pickle

import pytest
import small_nets as nets
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ravine
from ravine.core.errors import RavineError
from ravine.nn import Headed, Residual, heads_task, layers, with_heads, with_skips, without_heads

D = torch.float64


@pytest.fixture(autouse=True)
def checkpoints_at_every_row(monkeypatch):
    """So that what was cut off goes on in the middle of a run, and does not begin anew."""
    monkeypatch.setattr("ravine.resume._EVERY_SECONDS", -1.0)
    monkeypatch.setattr("ravine.resume._EVERY_COSTS", 0.0)


def net(*widths: int, act: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    parts: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        parts += [nn.Linear(a, b), act()]
    return nn.Sequential(*parts[:-1]).double()


def affine(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


# the formulas


def test_residual_is_the_sum_of_both_ways():
    """He et al. 2016, eq. 1 and 2; ReZero's scalar before F."""
    plain = net(4, 6, 6, 6, 2)
    made = with_skips(plain, every=1)
    with torch.no_grad():
        made[1].scale.fill_(0.7)
        made[2].scale.fill_(-0.3)
        made[0].scale.fill_(1.5)
    w, p = dict(plain.named_parameters()), dict(made.named_parameters())
    x = torch.randn(5, 4, dtype=D)
    h = affine(p, "0.projection", x) + 1.5 * torch.tanh(affine(w, "0", x))
    h = h + 0.7 * torch.tanh(affine(w, "2", h))
    h = h - 0.3 * torch.tanh(affine(w, "4", h))
    torch.testing.assert_close(made(x), affine(w, "6", h), rtol=1e-13, atol=1e-13)


def test_highway_weighs_both_ways_by_its_gate():
    """Srivastava et al. 2015, eq. 3, around two layers at once."""
    plain = net(4, 4, 4, 2)
    made = with_skips(plain, every=2, kind="highway", gate_bias=-3)
    w, p = dict(plain.named_parameters()), dict(made.named_parameters())
    x = torch.randn(5, 4, dtype=D)
    t = 1 / (1 + torch.exp(-(x @ p["0.gate.weight"].T - 3)))
    h = torch.tanh(affine(w, "2", torch.tanh(affine(w, "0", x))))
    torch.testing.assert_close(made(x), affine(w, "4", h * t + x * (1 - t)), rtol=1e-13, atol=1e-13)


def test_dense_layers_see_everything_before_them():
    """Huang et al. 2017, eq. 2, each concatenation brought to the width of the user's layer."""
    plain = net(3, 4, 5, 6, 2)
    made = with_skips(plain, every=3, kind="dense")
    w, p = dict(plain.named_parameters()), dict(made.named_parameters())
    x = torch.randn(5, 3, dtype=D)
    h1 = torch.tanh(affine(w, "0", x))
    h2 = torch.tanh(affine(w, "2", affine(p, "0.projections.0", torch.cat([x, h1], 1))))
    h3 = torch.tanh(affine(w, "4", affine(p, "0.projections.1", torch.cat([x, h1, h2], 1))))
    torch.testing.assert_close(made(x), affine(w, "6", h3), rtol=1e-13, atol=1e-13)
    assert made[0].projections[1].in_features == 3 + 4 + 5


# how they begin


def test_residual_blocks_begin_as_the_identity_to_the_bit():
    plain = net(6, 6, 6, 6, 6, 3)
    made = with_skips(plain, every=2)
    x = torch.randn(7, 6, dtype=D)
    assert torch.equal(made[:-1](x), x)
    made(x).sum().backward()
    assert all(block.scale.grad is not None for block in made if isinstance(block, Residual))


def test_convolutions_begin_as_the_identity_too():
    plain = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())
    made = with_skips(nn.Sequential(plain, nn.Flatten(), nn.Linear(48, 2)), example=torch.randn(2, 3, 4, 4))
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(made[0](x), x)


@pytest.mark.parametrize("bias", [-1.0, -2.0, -4.0])
def test_highways_carry_most_at_first(bias):
    """With W_T = 0 exactly 1 - sigmoid(b) of x comes through."""
    made = with_skips(net(4, 4, 2), every=1, kind="highway", gate_bias=bias)
    gate = made[0].gate
    assert (gate.bias == bias).all()
    with torch.no_grad():
        gate.weight.zero_()
    x = torch.randn(5, 4, dtype=D)
    h = made[0].layers(x)
    t = 1 / (1 + torch.exp(torch.tensor(-bias, dtype=D)))
    torch.testing.assert_close(made[0](x), t * h + (1 - t) * x)
    assert 1 - t > 0.73


def test_a_deep_sigmoid_net_has_a_gradient_at_its_first_layer_only_with_skips():
    """What skips are for: 20 layers of sigmoids, whose derivative is 1/4 at most."""
    torch.manual_seed(0)
    plain = net(6, *[6] * 20, 3, act=nn.Sigmoid)
    x, y = torch.randn(32, 6, dtype=D), torch.randint(3, (32,))

    def first(model: nn.Module) -> float:
        F.cross_entropy(model(x), y).backward()
        return float(next(p for p in model.parameters() if p.ndim == 2).grad.norm())

    vanishing = first(copy.deepcopy(plain))
    assert vanishing < 1e-9
    assert first(with_skips(plain, every=1, scale=1.0)) > 1e6 * vanishing
    assert first(with_skips(plain, every=1, kind="highway")) > 1e6 * vanishing


# where they go


def test_layers_are_weights_and_what_follows_them():
    model = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )
    assert [layer.names for layer in layers(model)] == [("0", "1", "2", "3", "4"), ("5",)]
    assert [str(layer) for layer in layers(nets.ResNet())] == ["stem", "stage.0", "stage.1", "fc"]
    assert [str(layer) for layer in layers(nn.Linear(2, 2))] == [""]
    wrapped = nn.ModuleDict({"inner": nets.ResNet(), "act": nn.ReLU()})
    assert [layer.names[0] for layer in layers(wrapped)] == ["inner.stem", "inner.stage.0", "inner.stage.1", "inner.fc"]
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    found = layers(nn.Sequential(nn.Embedding(5, 8), encoder, nn.Linear(8, 5)))
    assert [str(layer) for layer in found] == ["0", "1.layers.0", "1.layers.1", "2"]


def test_the_layers_are_the_users_and_the_model_given_is_left_alone():
    plain = net(4, 6, 6, 6, 2)
    before = copy.deepcopy(plain.state_dict())
    made = with_skips(plain, every=2)
    assert [type(m).__name__ for m in made] == ["Linear", "Tanh", "Residual", "Linear"]
    assert all(torch.equal(before[name], value) for name, value in plain.state_dict().items())
    assert torch.equal(made[2].layers[0].weight, plain[2].weight)


@pytest.mark.parametrize("kind", ["residual", "highway"])
def test_a_convolutional_net_changes_channels_and_strides(kind):
    plain = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 3),
    )  # fmt: skip
    made = with_skips(plain, every=1, kind=kind, example=torch.randn(2, 64))
    assert made(torch.randn(5, 64)).shape == (5, 3)
    if kind == "residual":
        assert [type(m).__name__ for m in made] == ["Unflatten", "Residual", "Residual", "Flatten", "Linear"]
        assert made[1].projection.stride == (2, 2)


def test_dense_convolutions_concatenate_channels():
    """Huang et al. 2017, eq. 2: the second layer is given both what went in and what the first made."""
    plain = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 5, 3, padding=1), nn.Flatten(), nn.Linear(80, 3)
    )
    made = with_skips(plain, every=2, kind="dense", example=torch.randn(2, 2, 4, 4))
    assert made[0].projections[0].in_channels == 2 + 4
    x = torch.randn(5, 2, 4, 4)
    expected = plain[2](made[0].projections[0](torch.cat([x, plain[:2](x)], 1)))
    torch.testing.assert_close(made[0](x), expected)


def test_modules_inside_any_model_are_found_by_running_it():
    model = nets.task("transformer").model()
    made = with_skips(model, every=1, at="blocks", example=nets.TEXT)
    assert [type(block).__name__ for block in made.blocks] == ["Residual", "Residual"]
    assert torch.equal(made.blocks[0](torch.ones(1, 2, 8)), torch.ones(1, 2, 8))
    resnet = with_skips(nets.ResNet(), every=2, example=nets.IMAGES[:2])
    assert type(resnet.stage[0]).__name__ == "Residual"
    assert resnet(nets.IMAGES[:2]).shape == (2, 3)


def test_attributes_that_feed_one_another_become_one_block():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.act, self.second, self.last = nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.second(self.act(self.first(x))))

    made = with_skips(Net(), every=2, example=torch.randn(2, 4))
    x = torch.randn(3, 4)
    assert torch.equal(made(x), made.last(x))  # the block is the identity
    assert isinstance(made.act, nn.Identity)


@pytest.mark.parametrize(("kind", "every"), [("residual", 1), ("highway", 1), ("dense", 2)])
def test_tasks_train_with_skips_and_resume(kind, every, tmp_path):
    task = nets.task("mlp")
    eased = dataclasses.replace(task, model=lambda: with_skips(nets.mlp(), every=every, kind=kind))
    whole = nets.told(ravine.train(eased, "adam(lr=0.03)", steps=60, every=6))
    assert whole[0][-1]["loss"] < 0.9 * whole[0][1]["loss"]
    for moment in ravine.train(eased, "adam(lr=0.03)", steps=60, every=6, out=tmp_path):
        if moment.work == 24:
            break
    resumed = list(ravine.train(eased, "adam(lr=0.03)", steps=60, every=6, out=tmp_path))
    assert {moment.replayed for moment in resumed} == {True, False}
    nets.same(nets.told(resumed), whole)


@pytest.mark.parametrize("kind", ["cnn", "transformer"])
def test_other_models_train_with_skips_and_resume(kind, tmp_path):
    at, example = {"cnn": ("stage", nets.IMAGES[:2]), "transformer": ("blocks", nets.TEXT)}[kind]
    task = nets.task(kind)
    eased = dataclasses.replace(task, model=lambda: with_skips(task.model(), every=1, at=at, example=example))
    whole = nets.told(ravine.train(eased, "adam", steps=6, every=2))
    for moment in ravine.train(eased, "adam", steps=6, every=2, out=tmp_path):
        if moment.work == 2:
            break
    nets.same(nets.told(ravine.train(eased, "adam", steps=6, every=2, out=tmp_path)), whole)


# what is refused


def test_a_forward_that_is_no_chain_says_what_was_found():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2, self.fc3 = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))

    with pytest.raises(
        RavineError, match=r"need a chain of so many.*longest has 1: .*between 'fc1' and 'fc2' 'relu' hap"
    ):
        with_skips(Net(), every=2, example=torch.randn(2, 4))
    with pytest.raises(RavineError, match="'lstm' \\(LSTM\\) takes or gives something beside one tensor"):
        with_skips(nets.Reader(), every=2, example=nets.TEXT)


def test_what_is_fed_whole_numbers_is_left_out():
    with pytest.raises(RavineError, match=r"the longest has 1: 'fc'; 'embedding' \(Embedding\) is fed whole numbers"):
        with_skips(nets.Reader(), every=1, example=nets.TEXT)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    plain = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 8), nn.Tanh(), encoder, nn.Linear(8, 5))
    made = with_skips(plain, every=1)
    assert [type(part).__name__ for part in made] == ["Embedding", "Residual", "Residual", "Linear"]
    x = nets.TEXT[:3]
    assert torch.equal(made(x), plain[4](plain[0](x)))  # the blocks are the identity


class Eager(nn.Module):
    """Writes over its input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.relu_())


@pytest.mark.parametrize("settings", [{"every": 1}, {"every": 1, "kind": "highway"}, {"every": 2, "kind": "dense"}])
def test_a_layer_that_writes_over_what_it_is_given_is_refused(settings):
    plain = nn.Sequential(nn.Linear(4, 4), Eager(), nn.Linear(4, 4), nn.Linear(4, 2))
    with pytest.raises(RavineError, match=r"'1' \(Eager\) writes over what it is given"):
        with_skips(plain, **settings)


def test_what_a_layer_writes_over_of_its_own_is_no_matter():
    plain = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4), Eager(), nn.Linear(4, 2))
    made = with_skips(plain[:2].append(plain[4]), every=1)
    x = torch.randn(5, 4)
    assert torch.equal(made[:-1](x), x)
    block = with_skips(nn.Sequential(plain[2], Eager(), plain[4]), every=2)[0]  # within a block, not at its start
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every must be in"),
        ({"every": 1, "kind": "dense"}, "every=1 leaves none, give every=2 or more"),
        ({"kind": "residul"}, "unknown kind of skip 'residul': did you mean 'residual'"),
        ({"on_change": "drop"}, "unknown value of on_change 'drop'"),
        ({"gate_bias": 1.0}, "gate_bias must be in"),
        ({"every": 9}, "need a chain of so many and one that makes the output"),
        ({"at": "5"}, "unknown layer '5'"),
        ({"on_change": "refuse"}, r"'0' to '3' make \(2, 6\) of \(2, 4\): with on_change='refuse'"),
    ],
)
def test_skips_refuse(settings, message):
    with pytest.raises(RavineError, match=message):
        with_skips(net(4, 6, 6, 2), **settings)


def test_left_out_where_the_shape_changes():
    made = with_skips(net(4, 6, 6, 2), every=1, on_change="leave")
    assert [type(m).__name__ for m in made] == ["Linear", "Tanh", "Residual", "Linear"]
    with pytest.raises(RavineError, match="leaves no skip"):
        with_skips(net(4, 6, 2), every=1, on_change="leave")


def test_shapes_need_an_example():
    with pytest.raises(RavineError, match="give example=, a batch of its inputs"):
        with_skips(nets.ResNet())


def test_what_is_used_elsewhere_cannot_be_skipped():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            inside = self.a(x)
            return self.c(self.b(inside)) * inside

    with pytest.raises(RavineError, match="uses what goes on between these layers elsewhere"):
        with_skips(Net(), every=3, example=torch.randn(2, 4))


def test_a_module_called_twice_cannot_be_moved():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.b(self.act(self.a(x)))) * 2

    with pytest.raises(RavineError, match="'act' is called 2 times: give each place"):
        with_skips(Net(), every=2, example=torch.randn(2, 4))


# heads


def test_heads_join_the_loss_with_their_weight():
    """Szegedy et al. 2015, section 5: the total loss is the own one plus 0.3 of each head's."""
    plain = net(4, 6, 6, 2)
    made = with_heads(plain, at=["1", "3"])
    x, y = torch.randn(5, 4, dtype=D), torch.randint(2, (5,))
    out = made(x)
    h1 = torch.tanh(affine(dict(plain.named_parameters()), "0", x))
    h2 = torch.tanh(affine(dict(plain.named_parameters()), "2", h1))
    p = dict(made.named_parameters())
    expected = 0.3 * (F.cross_entropy(affine(p, "heads.0", h1), y) + F.cross_entropy(affine(p, "heads.1", h2), y))
    found = made.auxiliary(lambda one: F.cross_entropy(one, y))
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    assert torch.equal(out, plain(x))
    with pytest.raises(RavineError, match="call the model first"):
        made.auxiliary(lambda one: one.sum())


@pytest.mark.parametrize(("kind", "at"), [("mlp", ["1", "5"]), ("cnn", ["stem"]), ("lstm", ["lstm"]),
                                          ("transformer", ["blocks.0"])])  # fmt: skip
def test_evaluation_is_the_plain_model_to_the_bit(kind, at):
    task = nets.task(kind)
    model = task.model()
    x = task.train[0][:8]
    made = with_heads(model, at, example=x)
    assert torch.equal(made.eval()(x), model.eval()(x))
    assert made.auxiliary(lambda one: one.sum()) == 0.0
    dropped = without_heads(made)
    assert dropped.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(dropped(x), model(x))
    made.train()(x)
    assert made.auxiliary(lambda one: one.square().sum()).requires_grad


@pytest.mark.parametrize("kind", nets.KINDS)
def test_the_loop_trains_with_heads_and_resumes_to_the_bit(kind, tmp_path):
    at = {"mlp": ["1"], "cnn": ["stage.0"], "lstm": ["embedding"], "transformer": ["blocks.0"]}[kind]
    task = heads_task(nets.task(kind), at)
    whole = nets.told(ravine.train(task, "adam", steps=6, every=2))
    for moment in ravine.train(task, "adam", steps=6, every=2, out=tmp_path / "run"):
        if moment.work == 2:
            break
    again = ravine.train(task, "adam", steps=6, every=2, out=tmp_path / "run")
    nets.same(nets.told(again), whole)
    plain = nets.told(ravine.train(nets.task(kind), "adam", steps=6, every=2))
    assert plain[0][0]["metric"] == whole[0][0]["metric"]
    assert plain[0][1]["loss"] < whole[0][1]["loss"]


def test_heads_reach_the_first_layer_of_a_deep_sigmoid_net():
    """Slide 60: the first layer's gradient is at least ten times as large."""
    torch.manual_seed(0)
    plain = net(6, *[6] * 20, 3, act=nn.Sigmoid)
    x, y = torch.randn(32, 6, dtype=D), torch.randint(3, (32,))
    F.cross_entropy(plain(x), y).backward()
    made = with_heads(plain, at=["1", "11", "21"])
    (F.cross_entropy(made(x), y) + made.auxiliary(lambda out: F.cross_entropy(out, y))).backward()
    assert made.model[0].weight.grad.norm() > 10 * plain[0].weight.grad.norm()


def test_heads_of_ones_own_and_models_with_heads():
    own = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))
    task = heads_task(nets.task("mlp"), {"3": own}, weight=1.0)
    assert task.model().heads[0][0].out_features == 5
    ready = dataclasses.replace(nets.task("mlp"), model=lambda: with_heads(nets.mlp(), "1"))
    *_, last = ravine.train(heads_task(ready), "adam", steps=2)
    assert isinstance(last.model, Headed)
    with pytest.raises(RavineError, match="has no heads: give heads_task at="):
        list(ravine.train(heads_task(nets.task("mlp")), "adam", steps=2))


def test_a_loss_without_criterion_sees_the_heads_too():
    task = nets.task("mlp")
    bare = dataclasses.replace(task, forward=None, criterion=None, sample=None)
    a = nets.told(ravine.train(heads_task(task, "1"), "sgd", steps=3, every=1))
    b = nets.told(ravine.train(heads_task(bare, "1"), "sgd", steps=3, every=1))
    nets.same(a, b)


def test_a_model_that_has_just_run_can_be_copied_and_pickled():
    made = with_heads(net(4, 6, 2), "1")
    x = torch.randn(3, 4, dtype=D)
    expected = made(x)
    for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(copied(x), expected)


def test_heads_refuse():
    model = net(4, 6, 6, 2)
    with pytest.raises(RavineError, match=r"unknown layer '11'.*Allowed: 0, 1, 2, 3, 4"):
        with_heads(model, ["11"])
    with pytest.raises(RavineError, match="names no module"):
        with_heads(model, [])
    with pytest.raises(RavineError, match="weight must be in"):
        with_heads(model, "1", weight=0.0)
    with pytest.raises(RavineError, match="takes what with_heads made, got a Sequential"):
        without_heads(model)
    grow = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 12), nn.Unflatten(1, (3, 4)))
    with pytest.raises(
        RavineError, match=r"behind '0': features of shape \(2, 4\) do not have the places of an output"
    ):
        with_heads(grow, "0")
