"""A network of three hidden layers on digits, with batch normalization put in or without: many copies side by side.

Each copy is a plain model into which `batch_norm.insert` may have put its layers; what they hold is stacked.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from ravine.strategies import batch_norm

WIDTHS = (64, 100, 100, 100, 10)
BATCH, TRAIN, VALID = 60, 960, 337
PASS = TRAIN // BATCH  # minibatches
SIDES = {"without": False, "with": True}
Part = tuple[Tensor, Tensor]


class Digits(NamedTuple):
    """For every seed its own parts of the 1,797 digits: images (S, n, 64) with pixels in [0, 1], and labels (S, n)."""

    train: Part
    valid: Part
    test: Part


def digits(seeds: Sequence[int]) -> Digits:
    """960 images to train on, 337 to choose by and 500 to judge by, in another shuffle for every seed."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)
    order = torch.stack([torch.randperm(len(y), generator=_chance(seed)) for seed in seeds])
    rows = torch.split(order, [TRAIN, VALID, len(y) - TRAIN - VALID], 1)
    return Digits(*((x[part], y[part]) for part in rows))


def network(
    seed: int, norm: bool, unit: type[nn.Module] = nn.Sigmoid, scale: float = 1.0, last: float = 1.0
) -> nn.Module:
    """Weights normal with a standard deviation of scale / sqrt(fan-in), of the output layer last / sqrt(fan-in)."""
    draw, layers = _chance(seed), []
    for fan_in, fan_out in pairwise(WIDTHS):
        layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
        factor = last if fan_out == WIDTHS[-1] else scale
        nn.init.normal_(layer.weight, 0, factor * fan_in**-0.5, generator=draw)
        nn.init.zeros_(layer.bias)
        layers += [layer, unit()]
    model = nn.Sequential(*layers[:-1])
    if norm:
        batch_norm.insert(model)
    return model


class Copies:
    """Models of one shape with their learning rates (R,), each trained by plain gradient descent on its own loss."""

    def __init__(self, models: Sequence[nn.Module], lr: Tensor) -> None:
        self.one, self.lr = models[0], lr
        self.parameters, self.buffers = stack_module_state(list(models))

    def losses(self, part: Part) -> Tensor:
        """Each copy's mean cross-entropy with the statistics of this batch."""
        return self._made(part, training=True)[0]

    def descend(self, part: Part) -> Tensor:
        """A step of each copy on its own minibatch; returns the losses before it."""
        losses = self.losses(part)
        slopes = torch.autograd.grad(losses.sum(), list(self.parameters.values()))
        with torch.no_grad():
            for parameter, slope in zip(self.parameters.values(), slopes, strict=True):
                parameter -= self.lr.view(-1, *[1] * (slope.ndim - 1)) * slope
        return losses.detach()

    def accuracies(self, part: Part) -> Tensor:
        """Each copy's right answers in percent, with running statistics."""
        with torch.no_grad():
            return self._made(part, training=False)[1]

    def _made(self, part: Part, training: bool) -> tuple[Tensor, Tensor]:
        self.one.train(training)
        x, y = (one.repeat(len(self.lr) // len(one), *[1] * (one.ndim - 1)) for one in part)
        made: tuple[Tensor, Tensor] = vmap(self._loss_and_accuracy)(self.parameters, self.buffers, x, y)
        return made

    def _loss_and_accuracy(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor
    ) -> Part:
        logits = functional_call(self.one, (parameters, buffers), (x,))
        return F.cross_entropy(logits, y), 100 * (logits.argmax(1) == y).float().mean()


def arms(models: Sequence[nn.Module], lrs: Sequence[float]) -> Copies:
    """The same models at each learning rate, arm after arm."""
    return Copies([*models] * len(lrs), torch.tensor(lrs).repeat_interleave(len(models)))


def steps(copies: Copies, data: Digits, seeds: Sequence[int], count: int) -> Iterator[Tensor]:
    """That many steps, in a new order of the images in every pass and for every seed; yields the losses before each."""
    x, y = data.train
    draws, rows = [_chance(seed + 1) for seed in seeds], torch.arange(len(seeds))[:, None]
    for k in range(count):
        if k % PASS == 0:
            order = torch.stack([torch.randperm(TRAIN, generator=draw) for draw in draws])
        batch = order[:, k % PASS * BATCH : (k % PASS + 1) * BATCH]
        yield copies.descend((x[rows, batch], y[rows, batch]))


def _chance(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
