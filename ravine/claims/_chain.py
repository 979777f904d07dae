"""A chain of layers of one unit each, and a step of gradient descent on all of them: the setting of slide 51."""

import torch

from ravine.optimizer import Optimizer
from ravine.rules import SGD

DEPTHS = (2, 4, 8, 16, 32)
WEIGHTS = (0.8, 1.0, 1.3)
FIXED = 1e-3


def made(depth: int, weight: float) -> float:
    """The output of the chain, y = w^l, for an input of 1."""
    return float(weight**depth)


def book_lr(depth: int, weight: float) -> float:
    """0.1 / g'g, after which the first order of Taylor's series foretells a fall of 0.1."""
    return 0.1 * weight**2 / (depth * made(depth, weight) ** 2)


def moved(depth: int, weight: float, lr: float) -> float:
    """By how much y changes when one step of gradient descent on y moves every layer."""
    w = torch.full((depth,), weight, dtype=torch.float64, requires_grad=True)
    optimizer = Optimizer([w], SGD(), lr=lr)
    before = w.prod()
    before.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return w.prod().item() - before.item()


def foretold(depth: int, weight: float, lr: float) -> float:
    """What the first order foretells: -lr g'g."""
    return -lr * depth * (made(depth, weight) / weight) ** 2


def orders(depth: int, weight: float, lr: float) -> list[float]:
    """The terms of order 1 to l of the change: C(l, k) products of k moved layers, y (-lr y / w^2)^k each."""
    y, counts = made(depth, weight), [1]
    for k in range(1, depth + 1):
        counts.append(counts[-1] * (depth - k + 1) // k)
    return [counts[k] * y * (-lr * y / weight**2) ** k for k in range(1, depth + 1)]
