"""Deep autoencoders, the yardstick of second-order methods since Hinton & Salakhutdinov (2006) and Martens (2010).

Logistic units, a linear layer of codes, weights drawn by Martens' sparse initialization (15 incoming weights a unit,
N(0, 1), biases 0). What is minimized is summed over pixels and averaged over images: cross-entropy where pixels lie in
[0, 1], half the squared error for faces. What is judged is the squared error of the reconstruction, summed over pixels
and averaged over images, as the papers report it.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravine import data
from ravine.core.batches import Batch, in_order, to
from ravine.core.errors import RavineError
from ravine.core.task import Task
from ravine.init import sparse

CURVES, MNIST, FACES = (784, 400, 200, 100, 50, 25, 6), (784, 1000, 500, 250, 30), (625, 2000, 1000, 500, 30)
BATCH = 200
_EVALUATION_BATCH = 1000


def autoencoder(sizes: Sequence[int]) -> nn.Sequential:
    """The encoder of these sizes and its mirror; the last layer gives logits, or the reconstruction itself."""
    mirrored = [*sizes, *reversed(sizes[:-1])]
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(mirrored)):
        layer = nn.Linear(inputs, outputs)
        with torch.no_grad():
            layer.weight.copy_(sparse((outputs, inputs), k=min(15, inputs)))
            layer.bias.zero_()
        layers.append(layer)
        if i not in (len(sizes) - 2, len(mirrored) - 2):  # codes are linear, and so is what comes out
            layers.append(nn.Sigmoid())
    return nn.Sequential(*layers)


def curves(n_train: int = 10_000) -> Task:
    """Images of curves 28x28, a deep autoencoder 784-400-200-100-50-25-6 (squared error an image)."""
    train, valid, test = _curves(n_train)
    return _task("autoencoder-curves", CURVES, train, valid, test, binary=True)


def mnist() -> Task:
    """MNIST 28x28, a deep autoencoder 784-1000-500-250-30 (squared error an image). Needs `ravine data fetch mnist`."""
    arrays = data.load("mnist")
    assert isinstance(arrays, dict)
    x, test = (torch.from_numpy(arrays[key]).flatten(1).float() / 255 for key in ("x_train", "x_test"))
    return _task("autoencoder-mnist", MNIST, x[:-5000], x[-5000:], test, binary=True)


def faces(each: int = 40) -> Task:
    """Patches of faces 25x25, an autoencoder with codes of 30 (squared error). Needs `ravine data fetch orl_faces`."""
    from ravine.data.faces import patches

    arrays = data.load("orl_faces")
    assert isinstance(arrays, dict)
    portraits, people = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    among = [people < 25, (people >= 25) & (people < 30), people >= 30]  # no person is in two of the sets
    train, valid, test = (patches(portraits[chosen], each, seed) for seed, chosen in enumerate(among))
    mean = train.mean(0)
    scale = (train - mean).square().mean().sqrt()
    return _task("autoencoder-faces", FACES, *((x - mean) / scale for x in (train, valid, test)), binary=False)


@cache
def _curves(n_train: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images to train on, 1,000 to judge and 10,000 to test; the first 10,000 to train on are always the same."""
    from ravine.data.curves import curves as drawn

    if isinstance(n_train, bool) or not isinstance(n_train, int) or n_train < BATCH:
        raise RavineError(f"n_train must be a whole number from {BATCH}, the size of a batch, got {n_train!r}")
    train, valid, test = (torch.from_numpy(drawn(n, seed)) for seed, n in enumerate((n_train, 1000, 10_000)))
    return train, valid, test


def _task(name: str, sizes: Sequence[int], train: Tensor, valid: Tensor, test: Tensor, *, binary: bool) -> Task:
    """Batches are (images, targets), which are the images once more."""
    summed = _cross_entropy if binary else _half_square
    drawn: Callable[[Tensor], Tensor] = _coins if binary else _normal

    def squared(model: nn.Module, images: Any) -> float:
        device = next(model.parameters()).device
        total = 0.0
        for x, _ in in_order(images, _EVALUATION_BATCH):
            x = to(x, device)
            made = model(x)
            total += float((made.sigmoid() if binary else made).sub_(x).square_().sum(dtype=torch.float64))
        return total / len(images[0])

    return Task(
        name=name,
        model=lambda: autoencoder(sizes),
        loss=lambda model, batch: summed(model(batch[0]), batch),
        train=(train, train),
        valid=(valid, valid),
        test=(test, test),
        metric=squared,
        metric_name="squared error",
        better="lower",
        batch_size=BATCH,
        forward=lambda model, batch: model(batch[0]),
        criterion=summed,
        sample=lambda outputs, batch: ((batch[0], drawn(outputs)), len(outputs)),
    )


def _cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """-Σ x log p + (1 - x) log(1 - p) over pixels, the mean over images."""
    return F.binary_cross_entropy_with_logits(logits, batch[1], reduction="sum") / len(logits)


def _half_square(made: Tensor, batch: Batch) -> Tensor:
    """½ Σ (x - made)² over pixels, the mean over images: a normal distribution's of variance 1."""
    return F.mse_loss(made, batch[1], reduction="sum") / (2 * len(made))


def _coins(logits: Tensor) -> Tensor:
    return torch.bernoulli(logits.detach().sigmoid())


def _normal(made: Tensor) -> Tensor:
    return made.detach() + torch.randn_like(made)
