"""The papers' algorithms, naive: one number at a time, in Python floats, from the whole history of its gradients.

Each function gives the step u of one number, which then moves to x - lr u, from its gradients g_1 ... g_t and where it
stands. Nothing is carried from step to step, so nothing here can share a mistake in a recursion with the package.
`RULES` has one entry for every rule and every named chain; a test fails where one is missing.
"""

import math
from collections.abc import Callable, Sequence

Step = Callable[..., float]


def _mean(values: Sequence[float], beta: float) -> float:
    """(1 - beta) sum_i beta^(t-i) values_i: the exponential moving average that starts at zero."""
    t = len(values)
    return (1 - beta) * math.fsum(beta ** (t - i) * value for i, value in enumerate(values, 1))


def _squares(gradients: Sequence[float]) -> list[float]:
    return [g * g for g in gradients]


def sgd(gradients: Sequence[float], x: float) -> float:
    """Robbins & Monro 1951: theta <- theta - lr g."""
    return gradients[-1]


def momentum(gradients: Sequence[float], x: float, momentum: float, dampening: float) -> float:
    """Polyak 1964 as torch documents it: b_1 = g_1, b_t = momentum b_{t-1} + (1 - dampening) g_t, unrolled."""
    t = len(gradients)
    share = [1.0] + [1 - dampening] * (t - 1)
    return math.fsum(momentum ** (t - i) * share[i - 1] * g for i, g in enumerate(gradients, 1))


def nesterov(gradients: Sequence[float], x: float, momentum: float) -> float:
    """The sum of momentum, looked at one step further: g_t + momentum b_t."""
    t = len(gradients)
    velocity = math.fsum(momentum ** (t - i) * g for i, g in enumerate(gradients, 1))
    return gradients[-1] + momentum * velocity


def adam(gradients: Sequence[float], x: float, beta1: float, beta2: float, eps: float) -> float:
    """Kingma & Ba 2015, Algorithm 1."""
    t = len(gradients)
    m_hat = _mean(gradients, beta1) / (1 - beta1**t)
    v_hat = _mean(_squares(gradients), beta2) / (1 - beta2**t)
    return m_hat / (math.sqrt(v_hat) + eps)


def amsgrad(gradients: Sequence[float], x: float, beta1: float, beta2: float, eps: float) -> float:
    """Reddi, Kale & Kumar 2018, Algorithm 2, with Adam's bias corrections: the largest v of all steps so far."""
    t = len(gradients)
    largest = max(_mean(_squares(gradients[:i]), beta2) for i in range(1, t + 1))
    m_hat = _mean(gradients, beta1) / (1 - beta1**t)
    return m_hat / (math.sqrt(largest / (1 - beta2**t)) + eps)


def nadam(
    gradients: Sequence[float], x: float, beta1: float, beta2: float, eps: float, momentum_decay: float
) -> float:  # fmt: skip
    """Dozat 2016, Algorithm 2, with the schedule mu_t = beta1 (1 - 0.5 0.96^(t momentum_decay)) of his section 3."""
    t = len(gradients)
    mu = [beta1 * (1 - 0.5 * 0.96 ** (i * momentum_decay)) for i in range(1, t + 2)]
    g_hat = gradients[-1] / (1 - math.prod(mu[:t]))
    m_hat = _mean(gradients, beta1) / (1 - math.prod(mu))
    n_hat = _mean(_squares(gradients), beta2) / (1 - beta2**t)
    return ((1 - mu[t - 1]) * g_hat + mu[t] * m_hat) / (math.sqrt(n_hat) + eps)


def decay(gradients: Sequence[float], x: float, weight_decay: float) -> float:
    """The gradient of the loss and of (weight_decay / 2) x^2."""
    return gradients[-1] + weight_decay * x


def adamw(gradients: Sequence[float], x: float, weight_decay: float, **hyperparameters: float) -> float:
    """Loshchilov & Hutter 2019, Algorithm 2: Adam of the loss alone, and the pull of the weights beside it."""
    return adam(gradients, x, **hyperparameters) + weight_decay * x


def nadamw(gradients: Sequence[float], x: float, weight_decay: float, **hyperparameters: float) -> float:
    return nadam(gradients, x, **hyperparameters) + weight_decay * x


RULES: dict[str, Step] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adam": adam,
    "amsgrad": amsgrad,
    "nadam": nadam,
    "decay": decay,
    "adamw": adamw,
    "nadamw": nadamw,
}
