"""Twenty problems of More, Garbow & Hillstrom 1981, "Testing unconstrained optimization software", as residuals.

Each maps a float64 tensor x to residuals r; f = sum r^2 is what is minimized from the standard start. Numbers of the
problems are those of the paper.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Residuals = Callable[[Tensor], Tensor]


def _vector(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def _count(m: int) -> Tensor:
    return torch.arange(1, m + 1, dtype=torch.float64)


def rosenbrock(x: Tensor) -> Tensor:
    """1 and, for more than two numbers, 21: extended."""
    odd, even = x[0::2], x[1::2]
    return torch.cat([10 * (even - odd**2), 1 - odd])


def freudenstein_roth(x: Tensor) -> Tensor:
    a, b = x
    return torch.stack([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])


def powell_badly_scaled(x: Tensor) -> Tensor:
    return torch.stack([1e4 * x[0] * x[1] - 1, torch.exp(-x[0]) + torch.exp(-x[1]) - 1.0001])


def brown_badly_scaled(x: Tensor) -> Tensor:
    return torch.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def beale(x: Tensor) -> Tensor:
    return _vector(1.5, 2.25, 2.625) - x[0] * (1 - x[1] ** _count(3))


def jennrich_sampson(x: Tensor) -> Tensor:
    i = _count(10)
    return 2 + 2 * i - (torch.exp(i * x[0]) + torch.exp(i * x[1]))


def helical_valley(x: Tensor) -> Tensor:
    turn = torch.atan(x[1] / x[0]) / (2 * math.pi) + (0.5 if float(x[0]) < 0 else 0.0)
    return torch.stack([10 * (x[2] - 10 * turn), 10 * (torch.hypot(x[0], x[1]) - 1), x[2]])


def bard(x: Tensor) -> Tensor:
    y = _vector(0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39)
    u = _count(15)
    v = 16 - u
    return y - (x[0] + u / (v * x[1] + torch.minimum(u, v) * x[2]))


def gaussian(x: Tensor) -> Tensor:
    half = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521]
    t = (8 - _count(15)) / 2
    return x[0] * torch.exp(-x[1] * (t - x[2]) ** 2 / 2) - _vector(*half, 0.3989, *half[::-1])


def box(x: Tensor) -> Tensor:
    t = 0.1 * _count(10)
    return torch.exp(-t * x[0]) - torch.exp(-t * x[1]) - x[2] * (torch.exp(-t) - torch.exp(-10 * t))


def powell_singular(x: Tensor) -> Tensor:
    a, b, c, d = x
    return torch.stack([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


def wood(x: Tensor) -> Tensor:
    a, b, c, d = x
    return torch.stack(
        [10 * (b - a**2), 1 - a, 90**0.5 * (d - c**2), 1 - c, 10**0.5 * (b + d - 2), (b - d) / 10**0.5]
    )


def kowalik_osborne(x: Tensor) -> Tensor:
    y = _vector(0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246)
    u = _vector(4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)
    return y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(x: Tensor) -> Tensor:
    t = _count(20) / 5
    return (x[0] + t * x[1] - torch.exp(t)) ** 2 + (x[2] + x[3] * torch.sin(t) - torch.cos(t)) ** 2


def biggs(x: Tensor) -> Tensor:
    t = 0.1 * _count(13)
    y = torch.exp(-t) - 5 * torch.exp(-10 * t) + 3 * torch.exp(-4 * t)
    return x[2] * torch.exp(-t * x[0]) - x[3] * torch.exp(-t * x[1]) + x[5] * torch.exp(-t * x[4]) - y


def watson(x: Tensor) -> Tensor:
    t, j = _count(29) / 29, _count(len(x))
    slope = ((j[1:] - 1) * x[1:] * t[:, None] ** (j[1:] - 2)).sum(1)
    value = (x * t[:, None] ** (j - 1)).sum(1)
    return torch.cat([slope - value**2 - 1, x[:1], (x[1] - x[0] ** 2 - 1).reshape(1)])


def variably_dimensioned(x: Tensor) -> Tensor:
    total = (_count(len(x)) * (x - 1)).sum()
    return torch.cat([x - 1, torch.stack([total, total**2])])


def trigonometric(x: Tensor) -> Tensor:
    return len(x) - torch.cos(x).sum() + _count(len(x)) * (1 - torch.cos(x)) - torch.sin(x)


def broyden_tridiagonal(x: Tensor) -> Tensor:
    zero = x.new_zeros(1)
    return (3 - 2 * x) * x - torch.cat([zero, x[:-1]]) - 2 * torch.cat([x[1:], zero]) + 1


PROBLEMS: dict[str, tuple[Residuals, Tensor]] = {
    "1 Rosenbrock": (rosenbrock, _vector(-1.2, 1)),
    "2 Freudenstein-Roth": (freudenstein_roth, _vector(0.5, -2)),
    "3 Powell badly scaled": (powell_badly_scaled, _vector(0, 1)),
    "4 Brown badly scaled": (brown_badly_scaled, _vector(1, 1)),
    "5 Beale": (beale, _vector(1, 1)),
    "6 Jennrich-Sampson": (jennrich_sampson, _vector(0.3, 0.4)),
    "7 helical valley": (helical_valley, _vector(-1, 0, 0)),
    "8 Bard": (bard, _vector(1, 1, 1)),
    "9 Gaussian": (gaussian, _vector(0.4, 1, 0)),
    "12 box": (box, _vector(0, 10, 20)),
    "13 Powell singular": (powell_singular, _vector(3, -1, 0, 1)),
    "14 Wood": (wood, _vector(-3, -1, -3, -1)),
    "15 Kowalik-Osborne": (kowalik_osborne, _vector(0.25, 0.39, 0.415, 0.39)),
    "16 Brown-Dennis": (brown_dennis, _vector(25, 5, -5, -1)),
    "18 Biggs EXP6": (biggs, _vector(1, 2, 1, 1, 1, 1)),
    "20 Watson, n=6": (watson, torch.zeros(6, dtype=torch.float64)),
    "21 Rosenbrock, n=10": (rosenbrock, _vector(-1.2, 1).repeat(5)),
    "25 variably dimensioned, n=10": (variably_dimensioned, 1 - _count(10) / 10),
    "26 trigonometric, n=10": (trigonometric, torch.full((10,), 0.1, dtype=torch.float64)),
    "30 Broyden tridiagonal, n=10": (broyden_tridiagonal, -torch.ones(10, dtype=torch.float64)),
}
