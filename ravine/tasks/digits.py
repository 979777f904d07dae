"""scikit-learn's handwritten digits, on disk wherever scikit-learn is: 1797 images of 8x8 in 10 classes.

Every image comes in nine places: as it is, and moved by a pixel in each direction. Unmoved, the set is learnt in 300
steps and 400 judged images cannot tell 97 % from 98 %; moved, a thousand steps are still climbing, and 3600 can.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravine.core.supervised import supervised
from ravine.core.task import Task

Split = tuple[Tensor, Tensor]


@cache
def _splits() -> tuple[Split, Split, Split]:
    """997 images to train on, 400 to judge, 400 to test, each nine times; pixels in [0, 1]; one fixed shuffle."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(images, dtype=torch.float32)[order] / 16
    y = torch.tensor(labels, dtype=torch.int64)[order]
    return _moved(x[800:], y[800:]), _moved(x[:400], y[:400]), _moved(x[400:800], y[400:800])


def _moved(x: Tensor, y: Tensor) -> Split:
    """Every 8x8 image in its nine places within a frame of empty pixels."""
    framed = F.pad(x.view(-1, 8, 8), (1, 1, 1, 1))
    places = [framed[:, i : i + 8, j : j + 8].flatten(1) for i in range(3) for j in range(3)]
    return torch.cat(places), y.repeat(9)


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


def _deep_sigmoid() -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(20):
        layers += [nn.Linear(64, 64), nn.Sigmoid()]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    for layer in model:
        if isinstance(layer, nn.Linear):  # Glorot & Bengio 2010, eq. 1: the heuristic of the time
            nn.init.uniform_(layer.weight, -(layer.in_features**-0.5), layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
    return model


def _digits(name: str, model: Callable[[], nn.Module], batch_size: int | None = 64) -> Task:
    train, valid, test = _splits()
    return supervised(
        name=name, model=model, criterion=nn.CrossEntropyLoss(), train=train, valid=valid, test=test,
        batch_size=batch_size or len(train[0]),
    )  # fmt: skip


def mlp() -> Task:
    """Handwritten digits 8x8, an MLP 64-64-64-10 (accuracy)."""
    return _digits("digits-mlp", _mlp)


def mlp_full() -> Task:
    """Handwritten digits 8x8, the task digits-mlp with all 8,973 examples in every batch (accuracy)."""
    return _digits("digits-mlp-full", _mlp, None)


def cnn() -> Task:
    """Handwritten digits 8x8, a small convolutional network (accuracy)."""
    return _digits("digits-cnn", _cnn)


def deep_sigmoid() -> Task:
    """Handwritten digits 8x8, 20 layers of 64 sigmoids with weights uniform in ±1/8: does not train (accuracy)."""
    return _digits("digits-deep-sigmoid", _deep_sigmoid)
