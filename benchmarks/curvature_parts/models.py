"""The networks that curvature is taken of, and their data."""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
CRITERION = nn.CrossEntropyLoss()


def loss(model: nn.Module, batch: Batch) -> Tensor:
    return CRITERION(model(batch[0]), batch[1])


class Last(nn.Module):
    """The last outputs of a recurrent layer, through a linear one."""

    def __init__(self, layer: nn.Module, classes: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(layer.hidden_size, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Reader(nn.Module):
    """A small transformer that tells the next token."""

    def __init__(self, tokens: int = 64, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.embedding, self.head = nn.Embedding(tokens, width), nn.Linear(width, tokens)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.embedding(x))).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention by the fused kernel, then the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x, x, x, need_weights=False)[0].mean(1))


def digits(count: int) -> Batch:
    found = load_digits()
    chosen = np.random.default_rng(0).integers(0, len(found.data), count)
    return torch.tensor(found.data[chosen], dtype=torch.float32) / 16, torch.tensor(found.target[chosen])


def mlp(count: int) -> tuple[nn.Module, Batch]:
    layers = [nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 10)]
    return nn.Sequential(*layers), digits(count)


def cnn(count: int) -> tuple[nn.Module, Batch]:
    x, y = digits(count)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10)), (x.view(-1, 1, 8, 8), y)


def transformer(count: int) -> tuple[nn.Module, Batch]:
    tokens = [torch.randint(0, 64, (count,))]
    for _ in range(32):
        tokens.append((3 * tokens[-1] + torch.randint(0, 3, (count,))) % 64)
    text = torch.stack(tokens, 1)
    return Reader(), (text[:, :-1], text[:, 1:])


def lstm(count: int) -> tuple[nn.Module, Batch]:
    x, y = digits(count)
    return Last(nn.LSTM(8, 64, batch_first=True), 10), (x.view(-1, 8, 8), y)


CASES: dict[str, tuple[Callable[[int], tuple[nn.Module, Batch]], int]] = {
    "mlp": (mlp, 512), "cnn": (cnn, 128), "transformer": (transformer, 16), "lstm": (lstm, 128),
}  # fmt: skip


def trained(name: str, times: int = 1, steps: int = 30) -> tuple[nn.Module, Batch]:
    """A model after some steps of Adam, with its batch."""
    make, count = CASES[name]
    torch.manual_seed(0)
    model, batch = make(count * times)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    model.zero_grad(set_to_none=True)
    return model, batch
