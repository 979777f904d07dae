"""A task of one's own: whether a tumour is malignant, from 30 measurements of its cells (569 patients). Race it:

ravine race examples/cancer.py:task --optimizers "sgd, adam" --steps 100
"""

import ravine
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn


def task():
    x, y = load_breast_cancer(return_X_y=True)
    x = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
    data = torch.utils.data.TensorDataset(x, torch.tensor(y))
    train, valid = torch.utils.data.random_split(data, [369, 200], torch.Generator().manual_seed(0))
    return ravine.supervised(
        name="cancer",
        model=lambda: nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2)),
        criterion=nn.CrossEntropyLoss(),
        train=train,
        valid=valid,
        metric="loss",
        batch_size=32,
    )
