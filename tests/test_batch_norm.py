"""Batch normalization put in and folded out, frozen, by ghost batches; its identities; and what cannot be done."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import ravine
from ravine.core.errors import RavineError
from ravine.core.roles import roles
from ravine.strategies import batch_norm
from ravine.strategies.batch_norm import BatchNorm, GhostBatchNorm, fold, frozen, insert, recalibrate
from ravine.strategies.norms import GroupNorm, Normalized, NormalizedRNN

F64 = torch.float64


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 6), nn.Tanh()), nn.Linear(6, 3))


class Block(nn.Module):
    def __init__(self, width: int, normed: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.bn1, self.bn2 = (nn.BatchNorm2d(width) if normed else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class ResNet(nn.Module):
    """Layers registered in another order than they run."""

    def __init__(self, normed: bool = True, width: int = 6) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 4)
        self.blocks = nn.ModuleList([Block(width, normed) for _ in range(2)])
        self.stem = nn.Conv2d(3, width, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(width) if normed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm, self.fc = nn.Embedding(9, 4), nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(self.embed(x))[0])


class Transformer(nn.Module):
    """Pre-norm attention and a small network, on (batch, time, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.out = nn.Embedding(9, 8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.ln = nn.LayerNorm(8)
        self.up, self.down, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 9)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        q, k, v = self.qkv(self.ln(h)).chunk(3, -1)
        h = h + self.out(nn.functional.scaled_dot_product_attention(q, k, v))
        return self.head(h + self.down(torch.relu(self.up(h))))


WORDS = torch.arange(24).view(4, 6) % 9
MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "mlp": (mlp, torch.randn(7, 5, generator=torch.Generator().manual_seed(0))),
    "resnet": (lambda: ResNet(False), torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(0))),
    "transformer": (Transformer, WORDS),
    "lstm": (Recurrent, WORDS),
}


def lively(model: nn.Module) -> nn.Module:
    """With statistics, scales and shifts that are not those of the beginning."""
    torch.manual_seed(3)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                for x in (m.running_mean, m.bias):
                    if x is not None:
                        x.normal_()
                for x in (m.running_var, m.weight):
                    if x is not None:
                        x.uniform_(0.3, 3)
    return model


def relative(a: Tensor, b: Tensor) -> float:
    return float(((a - b).abs().max() / b.abs().max()).detach())


# ---------------------------------------------------------------- identities (Goodfellow et al. 2016, section 8.7.1)


def standardized(h: Tensor, dims: tuple[int, ...] = (0,), eps: float = 1e-5) -> Tensor:
    """Equations 8.35 to 8.37, with the variance of the batch."""
    mean = h.mean(dims, keepdim=True)
    return (h - mean) / ((h - mean).square().mean(dims, keepdim=True) + eps).sqrt()


def both(kind: str, channels: int = 4) -> nn.Module:
    made = (
        BatchNorm(channels, eps=1e-12) if kind == "batch" else GhostBatchNorm(channels, 64, channel_dim=-1, eps=1e-12)
    )
    return made.double()


@pytest.mark.parametrize("kind", ["batch", "ghost"])
def test_outputs_have_mean_0_and_variance_1(kind: str) -> None:
    for shape in ((30, 4), (5, 6, 4), (2, 3, 5, 4)):
        h = (3 + 2 * torch.randn(*shape, dtype=F64)) * torch.arange(1, 5)
        made = both(kind)(h)
        assert made.shape == h.shape
        rows = made.reshape(-1, 4)
        torch.testing.assert_close(rows.mean(0), torch.zeros(4, dtype=F64), rtol=0, atol=1e-12)
        torch.testing.assert_close(rows.var(0, correction=0), torch.ones(4, dtype=F64), rtol=1e-10, atol=0)
        torch.testing.assert_close(rows, standardized(h.reshape(-1, 4), eps=1e-12), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("a", [0.1, 1.0, 7.0, 100.0])
def test_the_scale_of_a_weight_does_not_show_and_divides_its_gradient(a: float) -> None:
    """BN((aW)u) = BN(Wu), and the gradient to aW is 1/a of that to W: Ioffe & Szegedy 2015, section 3.3."""
    u, weight = torch.randn(20, 5, dtype=F64), torch.randn(4, 5, dtype=F64)
    direction, found = torch.randn(20, 4, dtype=F64), []
    for scale in (1.0, a):
        w = (scale * weight).requires_grad_()
        made = both("batch")(u @ w.T)
        found.append((made.detach(), torch.autograd.grad((made * direction).sum(), w)[0]))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(a * found[1][1], found[0][1], rtol=1e-6, atol=1e-7)


def test_shift_and_scale_of_the_input_take_no_gradient_and_a_bias_none() -> None:
    h, bias = torch.randn(20, 4, dtype=F64), torch.randn(4, dtype=F64, requires_grad=True)
    h.requires_grad_()
    made = both("batch")(h + bias)
    (made**3 * torch.randn(20, 4, dtype=F64)).sum().backward()
    assert h.grad is not None
    torch.testing.assert_close(h.grad.sum(0), torch.zeros(4, dtype=F64), rtol=0, atol=1e-10)
    inner = ((h + bias) * h.grad).sum(0)
    torch.testing.assert_close(inner, torch.zeros(4, dtype=F64), rtol=0, atol=1e-9)
    torch.testing.assert_close(bias.grad, torch.zeros(4, dtype=F64), rtol=0, atol=1e-10)


# ---------------------------------------------------------------- insertion


@pytest.mark.parametrize(
    ("model", "kind", "done"),
    [
        ("mlp", "batch", ["0", "2.0"]),
        ("mlp", "ghost", ["0", "2.0"]),
        ("mlp", "group", ["0", "2.0"]),
        ("resnet", "batch", ["blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2", "stem"]),
        ("resnet", "layer", ["blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2", "stem"]),
        ("resnet", "ghost", ["blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2", "stem"]),
        ("transformer", "batch", ["qkv", "out", "up", "down"]),
        ("transformer", "layer", ["qkv", "out", "up", "down"]),
        ("lstm", "layer", ["lstm"]),
    ],
)
def test_inserted_normalization_standardizes_what_it_stands_behind(model: str, kind: str, done: list[str]) -> None:
    make, example = MODELS[model]
    made = make().train()
    report = insert(made, kind, example=example, groups=2, size=2)
    assert report.model is made
    assert [name for name, _ in report.done] == done
    assert "it is the output layer" in dict(report.left).values()
    seen: dict[str, Tensor] = {}
    norms = {name: made.get_submodule(f"{name}.norm") for name in done}
    for name, norm in norms.items():
        norm.register_forward_hook(lambda _m, _i, output, name=name: seen.update({name: output.detach()}))
    made(example).sum().backward()
    for x in seen.values():
        rows = x.movedim(1, -1) if x.ndim == 4 else x
        if kind in ("batch", "ghost"):
            rows, dims = rows.reshape(-1, rows.shape[-1]), (0,)
        elif kind == "layer":
            rows, dims = rows.flatten(1) if x.ndim == 4 else rows.reshape(-1, rows.shape[-1]), (1,)
        else:
            rows, dims = rows.reshape(len(rows), 2, -1), (2,)
        close = {"rtol": 0, "atol": 1e-5}
        torch.testing.assert_close(rows.mean(dims), torch.zeros_like(rows.mean(dims)), **close)
        near = rows.var(dims, correction=0)
        assert float(near.max()) <= 1 + 1e-4
        assert float(near.median()) > 0.97
    assert seen.keys() == norms.keys()
    if kind in ("batch", "ghost"):
        assert all(made.get_submodule(f"{name}.layer").bias is None for name in done)
        assert all(role == "norm" for name, role in roles(made).items() if ".norm." in name)
    ravine.Optimizer(made.parameters(), ravine.rules.Adam()).step()


def test_weight_normalization_leaves_the_function() -> None:
    """Salimans & Kingma 2016, eq. 2: w = g v / |v|, also of a transposed convolution, for each output."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 6, 3, bias=False), nn.Conv2d(6, 2, 1))
    x = torch.randn(2, 3, 7, 7)
    before = model(x)
    report = insert(model, "weight", example=x)
    assert [name for name, _ in report.done] == ["0", "2"]
    torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-6)
    assert model[0].parametrizations.weight.original0.numel() == 4
    assert model[2].parametrizations.weight.original0.numel() == 6
    folded = fold(model)
    assert dict(folded.done) == {"0": "its weight is plain again", "2": "its weight is plain again"}
    assert isinstance(folded.model[0].weight, nn.Parameter)
    torch.testing.assert_close(folded.model(x), before, rtol=1e-5, atol=1e-6)


def test_where_says_which_layers() -> None:
    model = mlp()
    assert str(insert(model, "layer", where=["2.0", "3"])) == (
        "2.0  LayerNorm(6) behind it\n3    LayerNorm(3) behind it"
    )
    model = mlp()
    insert(model, "group", where=lambda name, m: m.out_features == 8, groups=3)
    assert isinstance(model[0].norm, GroupNorm)
    assert model[0].norm.num_groups == 2
    assert model[0].layer.bias is not None
    assert isinstance(model[3], nn.Linear)
    assert [name for name, _ in insert(mlp(), where="0").done] == ["0"]


def test_a_layer_that_is_normalized_already_is_left() -> None:
    model = ResNet()
    with pytest.raises(
        RavineError, match=r"no layer to put batch normalization behind .*'stem': it is normalized already"
    ):
        insert(model, example=MODELS["resnet"][1])
    chain = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert [name for name, _ in insert(chain).done] == ["2"]


def test_devices_types_and_modes_are_the_layers() -> None:
    model = mlp().double().eval()
    insert(model)
    assert model[0].norm.weight.dtype == F64
    assert not model[0].norm.training
    assert isinstance(model[0], Normalized)


def test_packed_sequences_keep_their_packing() -> None:
    model = nn.ModuleDict({"lstm": nn.LSTM(3, 4, batch_first=True, bidirectional=True), "fc": nn.Linear(8, 2)})
    insert(model, "layer", where=["lstm"])
    assert isinstance(model["lstm"], NormalizedRNN)
    x = torch.randn(2, 5, 3)
    packed = pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
    output, (h, _) = model["lstm"](packed)
    rows, lengths = pad_packed_sequence(output, batch_first=True)
    assert lengths.tolist() == [5, 3]
    assert h.shape == (2, 2, 4)
    torch.testing.assert_close(rows[0].mean(-1), torch.zeros(5), rtol=0, atol=1e-6)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.spare, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.fc(torch.relu(self.fc(x)))))


ONE = "input of shape (1, 3) to batch normalization: a batch of one example has no variance"
INSERTS: list[tuple[Callable[[], Any], str]] = [
    (lambda: insert(mlp(), "batchnorm"), "unknown kind of normalization 'batchnorm': did you mean 'batch'"),
    (lambda: insert(mlp(), where=["2.1"]), "'2.1' is a Tanh: choose among 0, 2.0, 3"),
    (lambda: insert(mlp(), where=["2.O"]), "unknown layer '2.O': did you mean '2.0'? Allowed: 0, 2.0, 3"),
    (lambda: insert(mlp(), groups=0), "insert: groups must be in [1, inf), got 0"),
    (lambda: insert(mlp(), "ghost", size=1), "the size of ghost batches must be a whole number from 2, got 1"),
    (
        lambda: insert(nn.Linear(3, 2)),
        "there is no layer to put batch normalization behind ('': it is the whole model)",
    ),
    (lambda: insert(nn.ReLU()), "there is no layer to put batch normalization behind (it has no such layer)"),
    (lambda: insert([]), "insert changes a model, an nn.Module; got list"),
    (lambda: insert(Recurrent()), "would differ from step to step: kind='layer' normalizes its outputs"),
    (lambda: insert(Recurrent(), where=["lstm"]), "'lstm' cannot have batch normalization behind it: the steps of an"),
    (lambda: insert(Twice(), where=["fc"], example=torch.ones(2, 4)), "it runs 2 times in a pass, whose statistics"),
    (lambda: insert(Twice(), where=["spare"], example=torch.ones(2, 4)), "it does not run with this example"),
    (
        lambda: insert(Twice(), example=torch.ones(2, 3)),
        "the model cannot be called with the example (RuntimeError: mat1",
    ),
    (
        lambda: insert(nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16), nn.Linear(8, 2))),
        "TransformerEncoderLayer reads its layers' weights past them, and has norms of its own",
    ),
    (
        lambda: insert(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))),
        "it has no shape yet: run the model once before",
    ),
    (lambda: fold(mlp()), "there is nothing to fold in this model (it has no batch normalization)"),
    (lambda: fold(3), "fold takes a model, an nn.Module; got int"),
    (lambda: fold(ResNet()), "what stands before 'blocks.0.bn1' does not show without a run: give example="),
    (lambda: fold(nn.BatchNorm1d(3)), "does not show without a run: give example="),
    (lambda: fold(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3))), "'1': beside it stands ReLU, no linear layer or conv"),
    (lambda: frozen(mlp()), "the model has no batch normalization, so there is nothing to freeze"),
    (lambda: frozen(nn.BatchNorm1d(3, track_running_stats=False)), "keeps no running statistics, so there is nothing"),
    (lambda: BatchNorm(3)(torch.ones(1, 3)), ONE),
    (lambda: BatchNorm(3)(torch.ones(3)), ONE),
    (lambda: GhostBatchNorm(3)(torch.ones(1, 3)), ONE),
]


@pytest.mark.parametrize(("call", "message"), INSERTS)
def test_bad_input(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(RavineError) as caught:
        call()
    assert message in str(caught.value)


def test_a_refusal_leaves_the_model_as_it_was() -> None:
    model = Recurrent()
    before, modules = copy.deepcopy(model.state_dict()), list(model.modules())
    with pytest.raises(RavineError):
        insert(model, where=["fc", "lstm"])
    assert [m is n for m, n in zip(model.modules(), modules, strict=True)] == [True] * len(modules)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


# ---------------------------------------------------------------- ghost batches


def test_ghost_batches_are_normalized_each_by_itself() -> None:
    """Hoffer et al. 2017, Algorithm 1: mean and variance of each ghost batch, running ones updated in turn."""
    for shape, dim in (((22, 3), 1), ((22, 3, 5), 1), ((22, 5, 3), -1)):
        h, norm = torch.randn(*shape, dtype=F64), GhostBatchNorm(3, 5, channel_dim=dim, momentum=0.3).double()
        made = norm(h)
        rows = h.movedim(dim, -1)
        mean, var = torch.zeros(3, dtype=F64), torch.ones(3, dtype=F64)
        wanted = []
        for size, begin in ((6, 0), (6, 6), (5, 12), (5, 17)):  # 22 = 6 + 6 + 5 + 5
            part = rows[begin : begin + size]
            flat = part.reshape(-1, 3)
            wanted.append(standardized(flat).view(part.shape))
            mean, var = 0.7 * mean + 0.3 * flat.mean(0), 0.7 * var + 0.3 * flat.var(0)
        torch.testing.assert_close(made.movedim(dim, -1), torch.cat(wanted), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(norm.running_var, var, rtol=1e-12, atol=1e-12)
        norm.eval()
        wanted_eval = (rows - mean) / (var + 1e-5).sqrt()
        torch.testing.assert_close(norm(h).movedim(dim, -1), wanted_eval, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- folding

PAIRS: dict[str, tuple[nn.Module, nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(6, 4), nn.BatchNorm1d(4), (5, 6)),
    "linear without bias": (nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4, affine=False), (5, 6)),
    "features last": (nn.Linear(6, 4), BatchNorm(4), (5, 3, 6)),
    "ghost": (nn.Linear(6, 4), GhostBatchNorm(4, 2, channel_dim=-1), (5, 3, 6)),
    "conv1d": (nn.Conv1d(6, 4, 3, padding=2), nn.BatchNorm1d(4), (5, 6, 7)),
    "conv2d": (nn.Conv2d(6, 4, 3, stride=2, padding="valid"), nn.BatchNorm2d(4), (5, 6, 7, 7)),
    "grouped": (nn.Conv2d(6, 4, 3, groups=2, bias=False), nn.BatchNorm2d(4), (5, 6, 7, 7)),
    "conv3d": (nn.Conv3d(6, 4, 2), nn.BatchNorm3d(4), (2, 6, 3, 3, 3)),
    "transposed": (nn.ConvTranspose2d(6, 4, 3, stride=2), nn.BatchNorm2d(4), (5, 6, 4, 4)),
    "transposed, grouped": (nn.ConvTranspose1d(6, 4, 3, groups=2, bias=False), nn.BatchNorm1d(4), (5, 6, 4)),
}


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("pair", PAIRS)
def test_folded_behind_a_layer_gives_the_same(pair: str, seen: bool, dtype: torch.dtype) -> None:
    layer, norm, shape = copy.deepcopy(PAIRS[pair])
    model = lively(nn.Sequential(layer, norm, nn.ReLU())).to(dtype).train()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(5)).to(dtype)
    before = copy.deepcopy(model.state_dict())
    report = fold(model, x if seen else None)
    assert report.done == (("1", "folded into '0'"),)
    assert isinstance(report.model[1], nn.Identity)
    assert model.training
    assert not report.model.training
    assert all(torch.equal(y, before[name]) for name, y in model.state_dict().items())
    assert relative(report.model(x), model.eval()(x)) < (1e-13 if dtype is F64 else 1e-5)
    assert report.model[0].weight.dtype == dtype


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 4, bias=False), (5, 6)),
        (nn.Conv2d(6, 4, 3, stride=2), (5, 6, 7, 7)),
        (nn.Conv2d(6, 9, 3, groups=3), (5, 6, 7, 7)),
    ],
)
@pytest.mark.parametrize("seen", [False, True])
def test_folded_before_a_layer_gives_the_same(layer: nn.Module, shape: tuple[int, ...], seen: bool) -> None:
    norm = BatchNorm(6) if len(shape) == 2 else nn.BatchNorm2d(6)
    model = lively(nn.Sequential(nn.ReLU(), norm, layer)).double().eval()
    x = torch.randn(shape, dtype=F64)
    report = fold(model, x if seen else None)
    assert report.done == (("1", "folded into '2'"),)
    assert relative(report.model(x), model(x)) < 1e-13


def test_a_padded_or_transposed_convolution_takes_up_nothing_before_it() -> None:
    layers = (nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(6, 4, 3, padding="same"), nn.ConvTranspose2d(6, 4, 3))
    for layer, reason in zip(layers, ("pads with zeros", "pads with zeros", "fewer terms at the edges"), strict=True):
        with pytest.raises(RavineError, match=reason):
            fold(nn.Sequential(nn.BatchNorm2d(6), layer))


@pytest.mark.parametrize("model", ["mlp", "resnet", "transformer"])
def test_what_was_put_in_is_folded_out_again(model: str) -> None:
    make, example = MODELS[model]
    made = make().train()
    names = [name for name, _ in made.named_parameters()]
    insert(made, example=example)
    recalibrate(made, example)
    lively(made)
    report = fold(made, example)
    assert len(report.done) == len(insert(make(), example=example).done)
    found = [name for name, _ in report.model.named_parameters()]
    assert set(found) <= set(names) | {"stem.bias"}
    assert relative(report.model(example), made.eval()(example)) < 1e-5


def test_a_whole_network_is_folded() -> None:
    model, x = lively(ResNet()).eval(), MODELS["resnet"][1]
    report = fold(model, x)
    assert [name for name, _ in report.done] == ["blocks.0.bn1", "blocks.0.bn2", "blocks.1.bn1", "blocks.1.bn2", "norm"]
    assert relative(report.model(x), model(x)) < 1e-5
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in report.model.modules())


class Odd(nn.Module):
    """Normalizations that must stay: what is between is used elsewhere, a layer runs twice, a weight is tied."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (nn.Linear(4, 4) for _ in range(5))
        self.bn = nn.ModuleList([nn.BatchNorm1d(4) for _ in range(6)])
        self.d.weight = self.e.weight

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.a(x)
        x = torch.relu(self.bn[0](h) + h)
        x = torch.relu(self.bn[1](self.b(torch.relu(self.b(x)))))
        x = torch.relu(self.bn[2](self.d(x)) + self.e(x))
        x = torch.relu(self.bn[3](torch.relu(x)))
        returned = self.c(x)
        return self.bn[4](returned), returned


def test_what_cannot_be_folded_stays_and_is_told() -> None:
    model = lively(Odd())
    with pytest.raises(RavineError) as caught:
        fold(model, torch.randn(3, 4))
    for reason in (
        "'bn.0': what stands between it and 'a' is used elsewhere too",
        "'bn.1': 'b' runs more than once",
        "'bn.2': the layer beside it, or its weight, is used in two places",
        "'bn.3': no linear layer or convolution stands directly beside it",
        "'bn.4': what stands between it and 'c' is used elsewhere too",
        "'bn.5': it runs 0 times with this example",
    ):
        assert reason in str(caught.value)


class Hidden(nn.Module):
    """A weight that is looked at past the layer, which no run shows."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.fc(x)) + self.fc.weight.sum()


def test_outputs_that_would_differ_are_found_by_the_example() -> None:
    with pytest.raises(RavineError, match=r"fold: the outputs would differ by .* of the largest one"):
        fold(lively(Hidden()), torch.randn(3, 4))


# ---------------------------------------------------------------- frozen


def test_frozen_layers_use_and_keep_their_statistics_whatever_the_mode() -> None:
    model = lively(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))).train()
    x = torch.randn(1, 4)
    before = copy.deepcopy(model.state_dict())
    model.eval()
    wanted = model(x)
    model.train()
    with frozen(model, affine=True):
        model.train()  # as a loop does at every epoch
        torch.testing.assert_close(model(x), wanted)
        model(x).sum().backward()
        assert model[1].weight.grad is None
        assert model[0].weight.grad is not None
    assert model[1].training
    assert model[1].weight.requires_grad
    assert all(torch.equal(y, before[name]) for name, y in model.state_dict().items())
    hold = frozen(model)
    again = copy.deepcopy(model).train()
    torch.testing.assert_close(again(x), wanted)
    hold.release()
    hold.release()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model.train()(x)


# ---------------------------------------------------------------- training


def test_a_normalized_network_trains_where_the_scale_of_its_weights_forbids_it() -> None:
    """A hundred times the usual weights into sigmoids: without normalization the units are saturated."""
    x = torch.randn(256, 5, generator=torch.Generator().manual_seed(1))
    y = (x[:, :2].sum(1) > 0).long()
    losses = {}
    for normed in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 16), nn.Sigmoid(), nn.Linear(16, 16), nn.Sigmoid(), nn.Linear(16, 2))
        with torch.no_grad():
            for layer in (model[0], model[2]):
                layer.weight.mul_(100)
        if normed:
            insert(model)
        optimizer = ravine.Optimizer(model.parameters(), ravine.rules.Adam(), 0.01)
        for _ in range(100):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        losses[normed] = loss.item()
    assert losses[True] < 0.5 * losses[False], losses


def test_the_front_door_has_the_room() -> None:
    assert ravine.strategies.batch_norm is batch_norm
