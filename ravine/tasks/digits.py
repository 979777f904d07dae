"""scikit-learn's handwritten digits: 1797 images of 8x8 in 10 classes, on disk wherever scikit-learn is."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from ravine.core.supervised import supervised
from ravine.core.task import Task

Split = tuple[Tensor, Tensor]


@cache
def _splits() -> tuple[Split, Split, Split]:
    """1197 images to train on, 300 to judge, 300 to test; pixels in [0, 1]; one fixed shuffle."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(images, dtype=torch.float32)[order] / 16
    y = torch.tensor(labels, dtype=torch.int64)[order]
    return (x[600:], y[600:]), (x[:300], y[:300]), (x[300:600], y[300:600])


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def _digits(name: str, model: Callable[[], nn.Module]) -> Task:
    train, valid, test = _splits()
    return supervised(
        name=name, model=model, criterion=nn.CrossEntropyLoss(), train=train, valid=valid, test=test, batch_size=64
    )  # fmt: skip


def mlp() -> Task:
    """Handwritten digits 8x8, an MLP 64-64-64-10 (accuracy)."""
    return _digits("digits-mlp", _mlp)


def cnn() -> Task:
    """Handwritten digits 8x8, a small convolutional network (accuracy)."""
    return _digits("digits-cnn", _cnn)
