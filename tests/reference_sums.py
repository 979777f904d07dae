"""What the references share: averages unrolled over a history, and the rows of a tensor given as lists."""

import math
from collections.abc import Callable, Sequence

Tensors = list[list]  # of each parameter its rows, or its numbers


def mean(values: Sequence[float], beta: float) -> float:
    """(1 - beta) sum_i beta^(t-i) values_i: the exponential moving average that starts at zero."""
    t = len(values)
    return (1 - beta) * math.fsum(beta ** (t - i) * value for i, value in enumerate(values, 1))


def squares(values: Sequence[float]) -> list[float]:
    return [value * value for value in values]


def rows(tensor: list) -> list[list[float]]:
    return tensor if isinstance(tensor[0], list) else [tensor]


def each(tensor: list, change: Callable[[list[float]], list[float]]) -> list:
    """The tensor with every row changed."""
    return [change(row) for row in tensor] if isinstance(tensor[0], list) else change(tensor)


def flat(tensor: list) -> list[float]:
    return [value for row in rows(tensor) for value in row]


def shaped(values: Sequence[float], like: list) -> list:
    """The numbers in the rows of another tensor."""
    if not isinstance(like[0], list):
        return list(values)
    width = len(like[0])
    return [list(values[i : i + width]) for i in range(0, len(values), width)]


def norm(values: Sequence[float]) -> float:
    return math.sqrt(math.fsum(value * value for value in values))
