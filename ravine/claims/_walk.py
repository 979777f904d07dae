"""How a rule walks on a function whose gradient is known: the settings of several claims.

Rules that look at each coordinate alone walk from many starts, or at many learning rates, in one tensor.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor

from ravine.core.rule import Rule

Gradient = Callable[[Tensor], Tensor]
NEVER = float("inf")


def walk(rule: Rule, gradient: Gradient, start: Tensor, lr: float | Tensor) -> Iterator[Tensor]:
    """The points at which a rule takes gradients, the start first, without end."""
    p, state, t = start, rule.start(start), 0
    while True:
        yield p
        t += 1
        u, scale, state = rule.move(gradient(p), p, t, state, lr)
        p = p - scale * u


def path(rule: Rule, gradient: Gradient, start: Tensor, lr: float | Tensor, steps: int) -> Tensor:
    """The start and the points after each step, in one tensor."""
    return torch.stack(list(islice(walk(rule, gradient, start, lr), steps + 1)))


def steps_until(reached: Callable[[Tensor], Tensor], points: Iterator[Tensor], most: int) -> Tensor:
    """For each walker, the first step after which `reached` holds; infinite where it does not within `most`.

    With settings in rows, it ends early: at twice the steps in which the first row has all its walkers there.
    """
    found: Tensor | None = None
    for k, p in enumerate(points):
        now = reached(p)
        found = torch.full(now.shape, NEVER, dtype=torch.float64) if found is None else found
        found = torch.where(now & found.isinf(), torch.tensor(float(k), dtype=torch.float64), found)
        if k == most or (k % 16 == 0 and 2 * found.reshape(len(found), -1).amax(1).min() <= k):
            break
    assert found is not None
    return found


def best(steps: Tensor) -> tuple[Tensor, int]:
    """Of settings (rows), that with the smallest geometric mean over its repetitions: its row, and which it is."""
    place = int(steps.clamp(min=1e-30).log().mean(1).argmin())
    return steps[place], place
