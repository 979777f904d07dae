"""A task of one's own: which cultivar a wine comes from, by 13 chemical measurements. Race it:

ravine race examples/wine.py:task --optimizers "sgd, adam" --steps 300
"""

import ravine
import torch
from sklearn.datasets import load_wine
from torch import nn


def task():
    x, y = load_wine(return_X_y=True)
    x = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
    data = torch.utils.data.TensorDataset(x, torch.tensor(y))
    train, valid = torch.utils.data.random_split(data, [118, 60], torch.Generator().manual_seed(0))
    return ravine.supervised(
        name="wine",
        model=lambda: nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3)),
        criterion=nn.CrossEntropyLoss(),
        train=train,
        valid=valid,
        metric="loss",
        batch_size=16,
    )
