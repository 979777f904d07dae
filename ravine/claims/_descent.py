"""Walks of ravine's own rules down functions whose gradient is known, many replicas at once, and their exponents."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import count

import numpy as np
import torch
from torch import Tensor

from ravine.core.evidence import Estimate
from ravine.core.rule import Rule
from ravine.optimizer import Optimizer
from ravine.racing import estimate
from ravine.schedules import Schedule

GROUPS = 20
"""Independent groups of replicas. An exponent is fitted in each: its interval owes nothing to the regression."""


def walk(
    rule: Rule, lr: float, start: Tensor, gradient: Callable[[Tensor], Tensor], schedule: Schedule | None = None
) -> Iterator[Tensor]:
    """The parameters after 0, 1, 2, ... steps, without end, at the place that is to be judged.

    What is yielded is overwritten by the next step. All components share the rule but never mix in one that looks at
    each weight alone, so that a tensor can hold as many independent walks as it has room for.
    """
    x = start.to(torch.float64).clone().requires_grad_()
    optimizer = Optimizer([x], rule, lr=lr, schedule=schedule, nonfinite="ignore", execution="loop")
    for k in count():
        with optimizer.swapped() if k and rule.judges_elsewhere else nullcontext():
            yield x.detach()
        x.grad = gradient(x.detach())
        optimizer.step()


def seen(places: Iterator[Tensor], steps: Sequence[int]) -> Tensor:
    """The places after `steps` (rising) steps, stacked."""
    wanted = set(steps)
    return torch.stack([x.clone() for k, x in zip(range(max(wanted) + 1), places, strict=False) if k in wanted])


def steps_until(places: Iterator[Tensor], distance: float) -> int:
    """The number of steps after which the parameters are first closer to the origin than `distance`."""
    return next(k for k, x in enumerate(places) if float(x.square().sum()) < distance**2)


def spread(low: int, high: int, points: int = 30) -> list[int]:
    """Whole numbers from low to high, evenly in the logarithm."""
    return [int(k) for k in np.unique(np.geomspace(low, high, points).round())]


def exponents(steps: Sequence[int], errors: Tensor) -> list[float]:
    """The power of k at which the mean error falls, one for each group of replicas. errors: (steps, replicas)."""
    means = errors.reshape(len(steps), GROUPS, -1).mean(2)
    return [estimate.slope(steps, column).value for column in means.T.tolist()]


def exponent(steps: Sequence[int], errors: Tensor) -> Estimate:
    """The power of k at which the mean error falls, with Student's interval over the groups of replicas."""
    return estimate.mean(exponents(steps, errors))
