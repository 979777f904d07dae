"""Five healthy starts and seven sick ones, for `ravine init examples/starts.py:deep_tanh`."""

from collections.abc import Callable

import ravine
import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 10
HEALTHY = ("relu_he", "tanh_glorot", "small_resnet", "small_transformer", "small_lstm")
SICK = ("deep_tanh", "wide_sigmoid", "equal_weights", "dead_relu", "exploding", "huge_logits", "forgetful_rnn")


def _task(name: str, model: Callable[[], nn.Module], x: Tensor) -> ravine.Task:
    """Ten classes, cut from a random direction of the inputs."""
    draw = torch.Generator().manual_seed(1)
    flat = x.flatten(1).float()
    score = flat @ torch.randn(flat.shape[1], generator=draw)
    y = (score.argsort().argsort() * CLASSES // len(x)).long()
    return ravine.supervised(
        name=name, model=model, criterion=nn.CrossEntropyLoss(), train=(x, y), valid=(x[:64], y[:64]), batch_size=128
    )


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _chain(depth: int, width: int, activation: Callable[[], nn.Module], draw: Callable[[Tensor], object]) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), activation()]
    model = nn.Sequential(*layers, nn.Linear(width, CLASSES))
    for module in model:
        if isinstance(module, nn.Linear):
            draw(module.weight)
            nn.init.zeros_(module.bias)
    return model


def _vectors(name: str, *chain: object) -> ravine.Task:
    return _task(name, lambda: _chain(*chain), _normal(1024, 64))


# ---------------------------------------------------------------- healthy


def relu_he() -> ravine.Task:
    """Five ReLU layers by He's rule."""
    return _vectors("relu-he", 5, 64, nn.ReLU, nn.init.kaiming_normal_)


def tanh_glorot() -> ravine.Task:
    """Five tanh layers by Glorot's rule."""
    return _vectors("tanh-glorot", 5, 64, nn.Tanh, nn.init.xavier_uniform_)


class Block(nn.Module):
    """Two convolutions around which the signal can pass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(x + self.bn2(self.conv2(h)))


def small_resnet() -> ravine.Task:
    """A residual network of 9 layers on images 3x8x8, with batch norm, as torch initializes it."""

    def model() -> nn.Module:
        stem = (nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        blocks = (Block(16) for _ in range(3))
        return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))

    return _task("small-resnet", model, _normal(512, 3, 8, 8))


class Transformer(nn.Module):
    """An encoder of two pre-norm layers; the mean over positions is classified."""

    def __init__(self, characters: int = 30, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.1, batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, text: Tensor) -> Tensor:
        x = self.embedding(text)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits


def small_transformer() -> ravine.Task:
    """A transformer encoder of two layers, as torch initializes it."""
    text = torch.randint(30, (512, 12), generator=torch.Generator().manual_seed(0))
    return _task("small-transformer", Transformer, text)


class Recurrent(nn.Module):
    """A recurrent layer, and its last output through a linear one."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(layer.hidden_size, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layer(x)[0][:, -1])
        return out


def small_lstm() -> ravine.Task:
    """An LSTM over 16 steps with orthogonal recurrent weights and forget gates opened by a bias of 1."""

    def model() -> nn.Module:
        layer = nn.LSTM(8, 32, batch_first=True)
        for gate in layer.weight_hh_l0.detach().chunk(4):
            nn.init.orthogonal_(gate)
        nn.init.xavier_uniform_(layer.weight_ih_l0)
        layer.bias_ih_l0.detach().zero_()
        layer.bias_hh_l0.detach().zero_()[32:64] = 1.0
        return Recurrent(layer)

    return _task("small-lstm", model, _normal(512, 16, 8))


# ---------------------------------------------------------------- sick


def deep_tanh() -> ravine.Task:
    """Twenty tanh layers of weights N(0, 0.01^2): the signal vanishes."""
    return _vectors("deep-tanh", 20, 64, nn.Tanh, lambda w: nn.init.normal_(w, 0, 0.01))


def wide_sigmoid() -> ravine.Task:
    """Sigmoids of weights ten times too large: saturated."""
    return _vectors("wide-sigmoid", 4, 64, nn.Sigmoid, lambda w: nn.init.xavier_normal_(w, 10))


def equal_weights() -> ravine.Task:
    """Every weight the same: all units of a layer are one."""
    return _vectors("equal-weights", 3, 64, nn.Tanh, lambda w: nn.init.constant_(w, 0.05))


def dead_relu() -> ravine.Task:
    """ReLU layers with biases of -10: nothing gets through."""

    def model() -> nn.Module:
        made = _chain(4, 64, nn.ReLU, nn.init.kaiming_normal_)
        for name, p in made.named_parameters():
            if name in ("2.bias", "4.bias"):
                p.detach().fill_(-10.0)
        return made

    return _task("dead-relu", model, _normal(1024, 64))


def exploding() -> ravine.Task:
    """Fifty ReLU layers with weights twice too large."""
    return _vectors("exploding", 50, 64, nn.ReLU, lambda w: nn.init.kaiming_normal_(w).detach().mul_(2))


def huge_logits() -> ravine.Task:
    """An output layer a hundred times too large: confidently wrong."""

    def model() -> nn.Module:
        made = _chain(3, 64, nn.ReLU, nn.init.kaiming_normal_)
        list(made.parameters())[-2].detach().mul_(100)
        return made

    return _task("huge-logits", model, _normal(1024, 64))


def forgetful_rnn() -> ravine.Task:
    """A tanh RNN over 40 steps whose recurrent weights halve the state: nothing of the first step is left."""

    def model() -> nn.Module:
        layer = nn.RNN(8, 32, batch_first=True)
        nn.init.orthogonal_(layer.weight_hh_l0).detach().mul_(0.5)
        return Recurrent(layer)

    return _task("forgetful-rnn", model, _normal(512, 40, 8))
