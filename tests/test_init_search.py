"""`ravine.init.search`: what it scales, that nothing else changes, what it refuses, and the defect it has not."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravine.core.dry_run import hash_tensors
from ravine.core.errors import RavineError
from ravine.init import search


def chain(depth: int, width: int, activation: type[nn.Module] = nn.Tanh, std: float | None = None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), activation()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    for p in model.parameters():
        if p.ndim > 1 and std is not None:
            nn.init.normal_(p, 0, std)
        elif p.ndim == 1:
            nn.init.zeros_(p)
    return model


def plain_stds(model: nn.Sequential, x: Tensor) -> list[float]:
    """Standard deviations of a chain's linear layers, by nothing but the chain itself, in float64."""
    found, x = [], x.double()
    for layer in copy.deepcopy(model).double():
        x = layer(x)
        if isinstance(layer, nn.Linear):
            found.append(float(x.detach().std(correction=0)))
    return found


def test_a_twenty_layer_net_is_brought_to_unit_std_in_three_passes():
    model, x = chain(20, 256, std=0.01), torch.randn(128, 256)
    assert plain_stds(model, x)[-1] < 1e-10
    report = search(model, x)
    assert report.passes <= 3
    assert all(0.9 <= std <= 1.1 for std in plain_stds(model, x))
    assert [one.name for one in report.layers] == [str(2 * n) for n in range(21)]


def test_every_layer_gets_its_own_factor():
    """In lsuv 0.3 a layer's first correction is its own, and all further ones, which biases make necessary, go to the
    first layer: it ends at 1.47, 1.27, 1.11, 0.99 where ours is within 0.9-1.1.
    """
    model, x = chain(3, 64, std=0.01), torch.randn(256, 64)
    for layer in model[::2]:
        nn.init.normal_(layer.bias, 0, 0.5)
    wrong = copy.deepcopy(model)
    for number in range(4):
        for attempt in range(11):
            std = plain_stds(wrong, x)[number]
            if abs(std - 1) <= 0.1:
                break
            wrong[0 if attempt else 2 * number].weight.data.div_(std)
    assert plain_stds(wrong, x)[0] > 1.2
    assert not all(0.9 <= std <= 1.1 for std in plain_stds(wrong, x))
    before = [layer.weight.detach().clone() for layer in model if isinstance(layer, nn.Linear)]
    report = search(model, x)
    after = [layer.weight.detach() for layer in model if isinstance(layer, nn.Linear)]
    assert all(0.9 <= std <= 1.1 for std in plain_stds(model, x))
    for old, new, told in zip(before, after, report.layers, strict=True):
        torch.testing.assert_close(new, old * told.factor, rtol=1e-5, atol=0)
        assert told.factor > 2


def test_layers_are_scaled_in_the_order_of_execution_not_of_registration():
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.Linear(32, 32), nn.Linear(16, 32)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).relu())

    model, x = Backwards(), torch.randn(64, 16)
    assert [one.name for one in search(model, x).layers] == ["first", "second"]
    h = model.first(x).detach()
    assert std(h) == pytest.approx(1, abs=1e-4)
    assert std(model.second(h.relu())) == pytest.approx(1, abs=1e-4)


def test_biases_that_stay_are_reckoned_with():
    model, x = nn.Sequential(nn.Linear(16, 64)), torch.randn(512, 16)
    nn.init.normal_(model[0].bias, 0, 0.6)
    bias = model[0].bias.detach().clone()
    assert search(model, x, passes=1).passes == 1
    assert torch.equal(model[0].bias, bias)
    assert std(model(x)) == pytest.approx(1, abs=1e-5)


def test_biases_alone_too_large_are_refused_and_nothing_has_changed():
    model, x = chain(2, 16), torch.randn(64, 16)
    nn.init.normal_(model[2].bias, 0, 3.0)
    before = hash_tensors(model.state_dict())
    with pytest.raises(RavineError, match=r"the biases of 2 alone have the standard deviation .* centre=True"):
        search(model, x)
    assert hash_tensors(model.state_dict()) == before
    search(model, x, centre=True)
    assert plain_stds(model, x) == pytest.approx([1, 1, 1], abs=1e-4)


def test_centring_takes_each_units_mean_out():
    model, x = chain(5, 64, nn.Sigmoid), torch.randn(256, 64)
    search(model, x, centre=True)
    h = x
    for layer in model:
        h = layer(h).detach()
        if isinstance(layer, nn.Linear):
            assert float(h.mean(0).abs().max()) < 1e-4
            assert std(h) == pytest.approx(1, abs=1e-4)


# ---------------------------------------------------------------- kinds of models


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.bn, self.up, self.head = nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 4, 2), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x), inplace=True)
        x = F.relu(x + self.bn(self.conv(x)), inplace=True)
        return self.head(self.up(x).mean((2, 3)))


def attention_parts(layer: nn.MultiheadAttention, x: Tensor) -> list[Tensor]:
    return list((x @ layer.in_proj_weight.T + layer.in_proj_bias).chunk(3, -1))


def std(x: Tensor) -> float:
    return float(x.detach().double().std(correction=0))


@pytest.mark.parametrize("centre", [False, True])
def test_a_residual_convolutional_network(centre):
    model, x = Residual(), torch.randn(32, 3, 8, 8)
    outputs = {}
    for name, module in model.named_children():
        if name != "bn":
            module.register_forward_hook(lambda m, a, o, name=name: outputs.__setitem__(name, o.clone()))
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    search(model, x, centre=centre)
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())
    model(x)
    assert {name: round(std(o), 3) for name, o in outputs.items()} == dict.fromkeys(("stem", "conv", "up", "head"), 1.0)
    if centre:
        assert float(outputs["up"].detach().mean((0, 2, 3)).abs().max()) < 1e-4


@pytest.mark.parametrize("training", [False, True])
def test_attention_has_q_k_v_and_its_output_scaled(training):
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True).train(training)
    x = torch.randn(32, 6, 16)
    report = search(layer, x)
    assert [one.name for one in report.layers] == [
        "self_attn.q", "self_attn.k", "self_attn.v", "self_attn.out", "linear1", "linear2",
    ]  # fmt: skip
    assert [std(part) for part in attention_parts(layer.self_attn, x)] == pytest.approx([1, 1, 1], abs=1e-4)
    assert std(layer.self_attn(x, x, x)[0]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_layers_have_their_inputs_scaled_and_nothing_else(kind, bidirectional):
    layer = kind(8, 16, num_layers=2, bidirectional=bidirectional, batch_first=True)
    x = torch.randn(32, 5, 8)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    search(layer, x)
    first = kind(8, 16, bidirectional=bidirectional, batch_first=True)
    first.load_state_dict({name: p for name, p in layer.state_dict().items() if "_l1" not in name})
    assert std(x @ layer.weight_ih_l0.T) == pytest.approx(1, abs=1e-4)
    assert std(first(x)[0] @ layer.weight_ih_l1.T) == pytest.approx(1, abs=1e-4)
    for name, p in layer.named_parameters():
        assert torch.equal(p, before[name]) == ("weight_ih" not in name), name


def test_a_cell_is_scaled_by_all_its_steps():
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(4, 8)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[1], 8)
            for step in x:
                h = self.cell(step, h)
            return h

    model, x = Steps(), torch.randn(6, 64, 4) * torch.arange(1, 7)[:, None, None]
    search(model, x)
    assert std(x @ model.cell.weight_ih.T) == pytest.approx(1, abs=1e-4)


# ---------------------------------------------------------------- with a loss


def gradient_ratio(model: nn.Sequential, x: Tensor, y: Tensor) -> float:
    found = torch.autograd.grad(F.cross_entropy(model(x), y), [layer.weight for layer in model[::2]])
    return float(found[0].norm() / found[-1].norm())


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Softplus, nn.Tanh])
def test_with_a_loss_gradients_are_balanced_too(activation):
    model, x, y = chain(40, 64, activation), torch.randn(128, 64), torch.randint(10, (128,))
    for layer in model[::2]:
        nn.init.orthogonal_(layer.weight)
    plain = copy.deepcopy(model)
    search(plain, x)
    report = search(model, (x, y), nn.CrossEntropyLoss(), generator=torch.Generator().manual_seed(0))
    assert 0.1 < gradient_ratio(model, x, y) < 10
    assert abs(math.log(gradient_ratio(model, x, y))) < abs(math.log(gradient_ratio(plain, x, y)))
    assert plain_stds(model, x) == pytest.approx([report.level] * 41, rel=1e-3)
    assert report.after is not None
    assert report.after.weights == pytest.approx(gradient_ratio(model, x, y), rel=1e-2)
    assert "gradients first / last" in str(report)


@pytest.mark.parametrize("draw", ["dense", "sparse", "either"])
def test_dense_or_sparse_is_drawn_from_the_generator(draw):
    x, y = torch.randn(64, 32), torch.randint(10, (64,))

    def made(seed: int) -> nn.Sequential:
        torch.manual_seed(3)
        model = chain(3, 32, nn.Tanh)
        search(model, (x, y), F.cross_entropy, draw=draw, generator=torch.Generator().manual_seed(seed))
        return model

    one, again, other = made(0), made(0), made(1)
    assert hash_tensors(one.state_dict()) == hash_tensors(again.state_dict()) != hash_tensors(other.state_dict())
    incoming = (one[0].weight != 0).sum(1)
    if draw == "sparse":
        assert set(incoming.tolist()) == {15}
    if draw == "dense":
        w = one[0].weight.detach().double()
        gram = w @ w.T / (w @ w.T).diagonal().mean()
        torch.testing.assert_close(gram, torch.eye(32).double(), atol=1e-5, rtol=0)


# ---------------------------------------------------------------- nothing else changes, and what is refused


def test_nothing_but_weights_changes():
    between = nn.BatchNorm1d(16), nn.ReLU(inplace=True), nn.Dropout(0.5)
    model = nn.Sequential(nn.Linear(8, 16), *between, nn.Linear(16, 3))
    model[4].eval()
    x, y = torch.randn(64, 8), torch.randint(3, (64,))
    F.cross_entropy(model(x), y).backward()
    grads = [p.grad.clone() for p in model.parameters()]
    buffers = [b.clone() for b in model.buffers()]
    modes = [m.training for m in model.modules()]
    state = torch.get_rng_state()
    search(model, (x, y), lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]))
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))
    assert all(torch.equal(b, c) for b, c in zip(model.buffers(), buffers, strict=True))
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())


@pytest.mark.parametrize("at", [0, 1, 2])
def test_weights_are_restored_bit_for_bit_whatever_fails(at):
    class Failing(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > at:
                raise KeyboardInterrupt
            return x

    model, x = nn.Sequential(nn.Linear(8, 8), Failing(), nn.Linear(8, 2)), torch.randn(16, 8)
    before = hash_tensors(model.state_dict())
    with pytest.raises(KeyboardInterrupt):
        search(model, x)
    assert hash_tensors(model.state_dict()) == before
    assert not any(m._forward_hooks for m in model.modules())


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    return model


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model[0].weight.requires_grad_(False)
    return model


def with_nan() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model[2].weight.data[0, 0] = math.nan
    return model


def dead() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model[0].bias.data.fill_(-100.0)
    return model


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).log())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tied, r"the weight of 0 is shared: 0\.weight and 2\.weight are one tensor.*skip=\['0'\]"),
        (frozen, r"the weight of 0 is frozen: let it require gradients, or leave it alone by skip=\['0'\]"),
        (with_nan, r"the weight of 2 has numbers that are not finite"),
        (dead, r"2 is dead: its outputs have the standard deviation 0\.0"),
        (Broken, r"b gives numbers that are not finite: look at what comes before it"),
        (lambda: nn.Sequential(nn.LazyLinear(8)), r"0\.weight is lazy: .* call the model once on a batch"),
        (lambda: nn.Linear(8, 8, device="meta"), r"weight is on the meta device and has no numbers: call"),
        (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), r"is computed .* search before it"),
        (lambda: nn.LayerNorm(8), r"no layer whose weights could be scaled: it has no linear"),
        (lambda: nn.Linear, r"model must be an nn\.Module, got the class Linear"),
        (lambda: nn.Linear(9, 8), r"the model does not take this batch \(\(64, 8\) float32\): RuntimeError"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_has_changed(model, message):
    made = model()
    numbers = isinstance(made, nn.Module) and "Lazy" not in repr(made) and not any(p.is_meta for p in made.parameters())
    before = hash_tensors(made.state_dict()) if numbers else None
    with pytest.raises(RavineError, match=message):
        search(made, torch.randn(64, 8))
    if before is not None:
        assert hash_tensors(made.state_dict()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 0.0}, r"target must be in \(0, inf\)"),
        ({"passes": 0}, r"passes must be in \[1, inf\)"),
        ({"tolerance": 1.5}, r"tolerance must be in \(0, 1\)"),
        ({"draw": "dens"}, r"unknown draw 'dens': did you mean 'dense'"),
        ({"draw": "either"}, r"give loss="),
        ({"skip": ["heed"]}, r"unknown module in skip= 'heed': Allowed: 0\."),
        ({"loss": 3}, r"loss must be a function"),
    ],
)
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(RavineError, match=message):
        search(nn.Sequential(nn.Linear(8, 8)), torch.randn(64, 8), **options)


def test_what_is_skipped_stays_and_labels_outside_of_the_classes_are_told():
    model, x = frozen(), torch.randn(64, 8)
    kept = model[0].weight.clone()
    assert [one.name for one in search(model, x, skip="0").layers] == ["2"]
    assert torch.equal(model[0].weight, kept)
    labels = torch.full((64,), 12)
    with pytest.raises(RavineError, match=r"whole numbers in it run from 12 to 12\): IndexError: Target 12"):
        search(model, (x, labels), nn.CrossEntropyLoss(), skip="0")
    with pytest.raises(RavineError, match="the batch has numbers that are not finite"):
        search(model, x * math.nan, skip="0")
