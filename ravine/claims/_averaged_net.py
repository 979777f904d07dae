"""Ten small networks on the digits at a constant learning rate, and exponential averages of their weights."""

from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from torch import Tensor, nn

from ravine.core.claim import Trial
from ravine.optimizer import Optimizer
from ravine.rules import EMA, SGD, chain

COPIES, LR, BATCH, DECAY = 10, 0.5, 16, 0.99
SETTING = (
    f"64-32-10 rectified network on scikit-learn's digits, SGD with ε = {LR}, minibatches of {BATCH}, α = {DECAY}; "
    f"{COPIES} seeds"
)


def trained(
    start: Tensor, gradient: Callable[[Tensor], Tensor], stops: Collection[int]
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """At each of the steps `stops` the weights of all copies, and their averages."""
    weights = nn.Parameter(start)
    optimizer = Optimizer([weights], chain(SGD(), EMA(DECAY)), lr=LR, execution="loop")
    for step in range(1, max(stops) + 1):
        weights.grad = gradient(weights)
        optimizer.step()
        if step in stops:
            with optimizer.swapped():
                averaged = weights.detach().clone()
            yield step, weights.detach().clone(), averaged


def generators(trial: Trial, name: str) -> list[torch.Generator]:
    """A stream of chance for each copy."""
    return [trial.torch(name, i) for i in range(COPIES)]


def losses_of(loss: Callable[[Tensor, Tensor, Tensor], Tensor], weights: Tensor, data: Sequence[Tensor]) -> list[float]:
    """The loss of each copy on the images and labels that come last in `data`, in nats."""
    with torch.no_grad():
        return [one.item() for one in loss(weights, *data[-2:])]
