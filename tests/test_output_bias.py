"""Biases: the output's from the data, ReLU's, forget gates' and gates'."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ravine import RavineError, init


def labels(counts: list[int]) -> torch.Tensor:
    return torch.cat([torch.full((count,), k) for k, count in enumerate(counts)])


def test_the_loss_before_training_is_the_entropy_of_the_classes() -> None:
    """Slide 36 of the chapter: c = (.9, .05, .05) gives 0.3944 instead of ln 3 = 1.0986."""
    layer, y = nn.Linear(4, 3, dtype=torch.float64), labels([90, 5, 5])
    init.output_bias(layer, y)
    nn.init.zeros_(layer.weight)
    loss = F.cross_entropy(layer(torch.randn(100, 4, dtype=torch.float64)), y)
    c = (0.9, 0.05, 0.05)
    assert loss.item() == pytest.approx(-sum(p * math.log(p) for p in c), rel=1e-12)
    assert loss.item() == pytest.approx(0.3944, abs=5e-5)


def test_targets_of_any_shape_and_probabilities_count_as_classes() -> None:
    layer = nn.Linear(4, 3)
    tokens = labels([6, 3, 3]).view(3, 4)
    b = init.output_bias(layer, tokens)
    torch.testing.assert_close(b.softmax(0), torch.tensor([0.5, 0.25, 0.25]))
    assert torch.equal(b, layer.bias)
    soft = init.output_bias(layer, torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]), kind="softmax")
    torch.testing.assert_close(soft.softmax(0), torch.tensor([0.4, 0.2, 0.4]))


def test_a_class_without_examples_counts_as_half_an_example() -> None:
    b = init.output_bias(nn.Linear(4, 4), labels([8, 4, 0, 3]))
    torch.testing.assert_close(b.softmax(0), torch.tensor([8, 4, 0.5, 3]) / 15.5)


def test_one_hot_rows_of_whole_numbers_are_not_class_numbers() -> None:
    rows = F.one_hot(torch.tensor([0, 0, 1, 2]), 3)
    expected = torch.tensor([0.5, 0.25, 0.25])
    torch.testing.assert_close(init.output_bias(nn.Linear(4, 3), rows).softmax(0), expected)
    torch.testing.assert_close(init.output_bias(nn.Linear(4, 3), rows.bool(), "softmax").softmax(0), expected)
    pictures = rows.T.view(1, 3, 2, 2)
    torch.testing.assert_close(init.output_bias(nn.Conv2d(4, 3, 1), pictures).softmax(0), expected)
    tokens = torch.tensor([[0, 1, 2], [0, 1, 0]])  # as many positions as classes
    torch.testing.assert_close(init.output_bias(nn.Linear(4, 3), tokens).softmax(0), torch.tensor([3, 2, 1]) / 6)


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 3, 1), nn.ConvTranspose2d(4, 3, 1)])
def test_outputs_of_convolutions_are_in_dimension_1(layer: nn.Module) -> None:
    y = torch.rand(5, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(init.output_bias(layer, y), y.mean((0, 2, 3)))
    b = init.output_bias(layer, (y > 0.5).long(), kind="sigmoid")
    torch.testing.assert_close(b.sigmoid(), (y > 0.5).float().mean((0, 2, 3)))
    soft = init.output_bias(layer, y.softmax(1), kind="softmax")
    torch.testing.assert_close(soft.softmax(0), y.softmax(1).mean((0, 2, 3)))
    one, mask = nn.Conv2d(4, 1, 1), y[:, 0]
    torch.testing.assert_close(init.output_bias(one, mask), mask.mean()[None])
    wide = nn.Conv2d(4, 6, 1)
    b = init.output_bias(wide, y, kind="precision")
    torch.testing.assert_close(b, torch.cat([y.mean((0, 2, 3)), 1 / y.var((0, 2, 3), correction=0)]))
    torch.testing.assert_close(init.output_bias(nn.Linear(4, 2), y), y.mean((0, 1, 2)))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_sigmoid_outputs_predict_the_share(dtype: torch.dtype) -> None:
    y = labels([3, 1]).to(dtype)
    b = init.output_bias(nn.Linear(4, 1), y, kind="sigmoid" if dtype == torch.float32 else None)
    torch.testing.assert_close(b.sigmoid(), torch.tensor([0.25]))
    many = torch.tensor([[1, 0], [0, 0], [1, 0], [1, 0]]).bool()
    torch.testing.assert_close(init.output_bias(nn.Linear(4, 2), many).sigmoid(), torch.tensor([0.75, 0.125]))


def test_regression_predicts_the_mean_and_its_precision() -> None:
    """Equation 8.24: with b = mean and beta = 1 / var the mean NLL is 1/2 ln(2 pi e s^2)."""
    y = torch.randn(500, dtype=torch.float64) * 3 + 10
    mean = init.output_bias(nn.Linear(4, 1, dtype=torch.float64), y)
    assert mean.item() == pytest.approx(y.mean().item())
    b, beta = init.output_bias(nn.Linear(4, 2, dtype=torch.float64), y, kind="precision").tolist()
    nll = (0.5 * math.log(2 * math.pi / beta) + 0.5 * beta * (y - b) ** 2).mean()
    assert nll.item() == pytest.approx(0.5 * math.log(2 * math.pi * math.e * y.var(correction=0).item()), rel=1e-12)
    _, log_variance = init.output_bias(nn.Linear(4, 2, dtype=torch.float64), y, kind="log_variance").tolist()
    assert math.exp(-log_variance) == pytest.approx(beta)
    several = init.output_bias(nn.Linear(4, 3), torch.tensor([[1.0, 2, 3], [3, 4, 5]]))
    assert several.tolist() == [2, 3, 4]


def _frozen() -> nn.Module:
    layer = nn.Linear(4, 3)
    layer.bias.requires_grad_(False)
    return layer


@pytest.mark.parametrize(
    ("layer", "targets", "kind", "message"),
    [
        (nn.Linear(4, 3), labels([1, 1, 1, 1]), None, r"labels must be in 0..2 for 3 outputs, got labels from 0 to 3"),
        (nn.Linear(4, 3), torch.tensor([0, -100]), None, "got labels from -100 to 0; drop those that the loss ignores"),
        (nn.Linear(4, 3, bias=False), labels([1, 1]), None, "needs a layer with a bias, got Linear without one"),
        (nn.ReLU(), labels([1, 1]), None, "got ReLU without one"),
        (_frozen(), labels([1, 1]), None, "the bias is frozen"),
        (nn.LazyLinear(3), labels([1, 1]), None, "lazy or on the meta device"),
        (nn.Linear(4, 3), torch.tensor([]), None, r"with at least one, got an empty one of shape \(0,\)"),
        (nn.Linear(4, 3), [0, 1], None, "with at least one, got list"),
        (nn.Linear(4, 1), torch.tensor([0.0, math.nan]), None, "must be real and finite"),
        (nn.Linear(4, 3), labels([1, 1]), "sofmax", "unknown kind of output 'sofmax': did you mean 'softmax'"),
        (nn.Linear(4, 3), torch.rand(5), None, r"'mean' of a layer with 3 outputs needs 3 .* got 1 \(shape \(5,\)\)"),
        (nn.Linear(4, 1), torch.tensor([0.0, 2.0]), "sigmoid", r"sigmoid needs targets in \[0, 1\], got 0 to 2; .*"),
        (nn.Linear(4, 1), torch.tensor([3, 7]), None, "got 3 to 7; for numbers .* take kind='mean'"),
        (nn.Linear(4, 3), torch.tensor([[1, 1, 0], [0, 0, 1]]), None, r"kind='sigmoid', for class .*flatten\(\)"),
        (nn.Linear(4, 2).half(), torch.tensor([[1e6, 1.0], [1e6, 1.0]]), None, "would be 1e.06, and torch.float16"),
        (nn.Conv2d(4, 3, 1), torch.rand(5, 2, 4, 4), "mean", r"needs 3 targets .* got 2 \(shape \(5, 2, 4, 4\)\)"),
        (nn.Linear(4, 2), torch.ones(5), "precision", "the variance of a target is zero"),
        (nn.Linear(4, 1), labels([2, 2]), "softmax", "softmax over one output is constant"),
        (nn.Linear(4, 3), torch.rand(5, 2), "softmax", r"probabilities of shape \(n, 3\), got floats \(5, 2\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_changes(
    layer: nn.Module, targets: torch.Tensor, kind: str | None, message: str
) -> None:
    bias = getattr(layer, "bias", None)
    plain = isinstance(bias, nn.Parameter) and not isinstance(bias, nn.parameter.UninitializedParameter)
    before = bias.detach().clone() if plain else None
    with pytest.raises(RavineError, match=message):
        init.output_bias(layer, targets, kind)
    assert before is None or torch.equal(before, layer.bias)


def test_relu_units_begin_active_as_often_as_the_normal_distribution_says() -> None:
    """Phi(.1 / s) = .841 for pre-activations of deviation s = .1."""
    model = nn.Sequential(nn.Linear(200, 400), nn.ReLU(), nn.Linear(400, 4))
    nn.init.normal_(model[0].weight, std=0.1 / math.sqrt(200), generator=torch.Generator().manual_seed(0))
    assert init.relu_bias(model) == ["0"]
    x = torch.randn(500, 200, generator=torch.Generator().manual_seed(1))
    active = (model[1](model[0](x)) > 0).double().mean().item()
    assert active == pytest.approx(0.8413, abs=0.02)
    assert model[0].bias.unique().tolist() == [pytest.approx(0.1)]
    assert not (model[2].bias == 0.1).any()
    with pytest.raises(RavineError, match="pass example=inputs"):
        init.relu_bias(nn.TransformerEncoderLayer(8, 2))


def test_relu_bias_is_that_of_the_normalization_between() -> None:
    """Batch normalization takes the layer's bias away: with it nothing but the running mean would change."""
    model = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 8), nn.RMSNorm(8), nn.ReLU())
    before = [model[0].bias.clone(), model[1](model[0](torch.ones(1, 8).expand(4, 8) * torch.arange(4)[:, None]))]
    assert init.relu_bias(model, 0.5) == ["1", "3"]
    assert torch.equal(model[0].bias, before[0])
    after = model[1](model[0](torch.ones(1, 8).expand(4, 8) * torch.arange(4)[:, None]))
    torch.testing.assert_close(after, before[1] + 0.5)
    bare = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False), nn.ReLU())
    assert init.relu_bias(bare) == []

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
            self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x + self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))).relu()

    assert init.relu_bias(Block(), example=torch.zeros(2, 4, 3, 3)) == ["norm1", "norm2"]


def test_relu_bias_sees_functional_calls_on_an_example() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert init.relu_bias(layer, 0.2, example=torch.zeros(1, 3, 8)) == ["linear1"]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_gates_remember_and_torch_adds_two_biases(kind: type[nn.RNNBase]) -> None:
    model = kind(3, 5, 2, bidirectional=True)
    names = init.forget_bias(model, 1.0)
    assert len(names) == 8
    for layer in ("l0", "l1", "l0_reverse", "l1_reverse"):
        total = model.get_parameter(f"bias_ih_{layer}") + model.get_parameter(f"bias_hh_{layer}")
        assert torch.equal(total[5:10], torch.ones(5))
    with pytest.raises(RavineError, match="no LSTM or GRU with trainable biases"):
        init.forget_bias(nn.RNN(3, 5))


def test_the_gradient_through_a_forget_gate_lasts() -> None:
    """.731^30 = 8.3e-5 instead of .5^30 = 9.3e-10, with weights of zero."""
    for value, kept in ((1.0, 8.3e-5), (0.0, 9.3e-10)):
        cell = nn.LSTMCell(1, 1, dtype=torch.float64)
        for p in cell.parameters():
            nn.init.zeros_(p)
        init.forget_bias(cell, value)
        first = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
        h, c = torch.zeros(1, 1, dtype=torch.float64), first
        for _ in range(30):
            h, c = cell(torch.zeros(1, 1, dtype=torch.float64), (h, c))
        assert torch.autograd.grad(c.sum(), first)[0].item() == pytest.approx(kept, rel=0.01)


def test_gates_begin_open() -> None:
    layer = nn.Linear(4, 6)
    b = init.open_gates(layer, 0.9)
    torch.testing.assert_close(b.sigmoid(), torch.full((6,), 0.9))
    with pytest.raises(RavineError, match=r"openness must be in \(0, 1\), got 1.5"):
        init.open_gates(layer, 1.5)
