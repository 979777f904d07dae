"""Four small networks and their tasks: an MLP, a residual CNN, an LSTM and a transformer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ravine
from ravine.core.task import Task
from ravine.tasks.moby import CONTEXT, Transformer

G = torch.Generator().manual_seed(0)
X = torch.randn(96, 6, generator=G)
Y = X[:, :3].argmax(1)
IMAGES = torch.randn(96, 1, 8, 8, generator=G)
TEXT = torch.randint(5, (96, 7), generator=G)


def mlp() -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(6, 8), nn.Tanh()]
    for _ in range(3):
        layers += [nn.Linear(8, 8), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(8, 3))


class Block(nn.Module):
    """Two convolutions with batch norm and a skip of its own."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(wide, wide, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(wide), nn.BatchNorm2d(wide)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class ResNet(nn.Module):
    """A stem, two blocks, the mean over space and a linear layer; functions between the modules."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.stage = nn.Sequential(Block(4), Block(4))
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stage(F.relu(self.stem(x))).mean((2, 3)))


class Reader(nn.Module):
    """An LSTM of two layers that reads a text and says what it is about."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 6)
        self.lstm = nn.LSTM(6, 8, 2, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, text: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(text))
        return self.fc(states[:, -1])


def _classes(kind: str, make: Callable[[], nn.Module], x: Tensor, y: Tensor, more: dict[str, Any]) -> Task:
    settings = {"train": (x, y), "valid": (x[:40], y[:40]), "batch_size": 16, "criterion": nn.CrossEntropyLoss()}
    return ravine.supervised(**({"name": kind, "model": make} | settings | more))


def task(kind: str, **more: Any) -> Task:
    """The small task of that kind; each learns something within a few dozen steps."""
    if kind == "mlp":
        return _classes(kind, mlp, X, Y, more)
    if kind == "cnn":
        return _classes(kind, ResNet, IMAGES, IMAGES.mean((1, 2, 3)).gt(0).long(), more)
    if kind == "lstm":
        return _classes(kind, Reader, TEXT, TEXT[:, -1] % 3, more)
    text = torch.randint(5, (48, CONTEXT + 1), generator=torch.Generator().manual_seed(1))[:, :9]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())

    windows = text[:, :-1], text[:, 1:]
    return Task(
        name="transformer", model=lambda: Transformer(5, width=8, depth=2, heads=2), loss=loss, train=windows,
        valid=windows, metric=lambda model, data: float(loss(model, data)), better="lower", batch_size=8,
        forward=lambda model, batch: model(batch[0]),
        criterion=lambda outputs, batch: F.cross_entropy(outputs.flatten(0, 1), batch[1].flatten()),
    )  # fmt: skip


KINDS = ("mlp", "cnn", "lstm", "transformer")


def told(moments: Any) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """The rows of all moments, without what depends on the clock, and the last model's weights."""
    rows = []
    for moment in moments:
        rows.append({key: value for key, value in moment.row().items() if key != "observed"})
    return rows, {name: value.clone() for name, value in moment.model.state_dict().items()}


def same(a: Any, b: Any) -> None:
    """Two ends as `told` tells them are equal to the bit."""
    assert a[0] == b[0]
    assert a[1].keys() == b[1].keys()
    assert all(torch.equal(a[1][name], b[1][name]) for name in a[1])
