"""Fashion-MNIST: 70,000 images of clothing, 28x28, in 10 classes (Xiao, Rasul & Vollgraf 2017)."""

import torch
from torch import nn

from ravine import data
from ravine.core.supervised import supervised
from ravine.core.task import Task


def _mlp() -> nn.Module:
    layers = (nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    return nn.Sequential(*layers)


def mlp() -> Task:
    """Fashion-MNIST 28x28, an MLP 784-256-256-10 (accuracy). Needs `ravine data fetch fashion_mnist`."""
    arrays = data.load("fashion_mnist")
    assert isinstance(arrays, dict)
    x = torch.from_numpy(arrays["x_train"]).float() / 255
    y = torch.from_numpy(arrays["y_train"]).long()
    test = (torch.from_numpy(arrays["x_test"]).float() / 255, torch.from_numpy(arrays["y_test"]).long())
    return supervised(
        name="fashion-mlp",
        model=_mlp,
        criterion=nn.CrossEntropyLoss(),
        train=(x[:-5000], y[:-5000]),
        valid=(x[-5000:], y[-5000:]),
        test=test,
        batch_size=128,
    )
