"""The papers' algorithms, naive: one number at a time, in Python floats, from the whole history of its gradients.

Each function gives the step u of one number, which then moves to x - lr u, from its gradients g_1 ... g_t and where it
stands. Nothing is carried from step to step, so nothing here can share a mistake in a recursion with the package.
`RULES` has one entry for every rule and every named chain; a test fails where one is missing.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import reference_matrix
import reference_modern
from reference_sums import Tensors, each, mean, rows, squares

Step = Callable[..., float]


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
    m_hat = mean(gradients, beta1) / (1 - beta1**t)
    v_hat = mean(squares(gradients), beta2) / (1 - beta2**t)
    return m_hat / (math.sqrt(v_hat) + eps)


def amsgrad(gradients: Sequence[float], x: float, beta1: float, beta2: float, eps: float) -> float:
    """Reddi, Kale & Kumar 2018, Algorithm 2, with Adam's bias corrections: the largest v of all steps so far."""
    t = len(gradients)
    largest = max(mean(squares(gradients[:i]), beta2) for i in range(1, t + 1))
    m_hat = mean(gradients, beta1) / (1 - beta1**t)
    return m_hat / (math.sqrt(largest / (1 - beta2**t)) + eps)


def nadam(
    gradients: Sequence[float], x: float, beta1: float, beta2: float, eps: float, momentum_decay: float
) -> float:  # fmt: skip
    """Dozat 2016, Algorithm 2, with the schedule mu_t = beta1 (1 - 0.5 0.96^(t momentum_decay)) of his section 3."""
    t = len(gradients)
    mu = [beta1 * (1 - 0.5 * 0.96 ** (i * momentum_decay)) for i in range(1, t + 2)]
    g_hat = gradients[-1] / (1 - math.prod(mu[:t]))
    m_hat = mean(gradients, beta1) / (1 - math.prod(mu))
    n_hat = mean(squares(gradients), beta2) / (1 - beta2**t)
    return ((1 - mu[t - 1]) * g_hat + mu[t] * m_hat) / (math.sqrt(n_hat) + eps)


def decay(gradients: Sequence[float], x: float, weight_decay: float) -> float:
    """The gradient of the loss and of (weight_decay / 2) x^2."""
    return gradients[-1] + weight_decay * x


def adamw(gradients: Sequence[float], x: float, weight_decay: float, **hyperparameters: float) -> float:
    """Loshchilov & Hutter 2019, Algorithm 2: Adam of the loss alone, and the pull of the weights beside it."""
    return adam(gradients, x, **hyperparameters) + weight_decay * x


def nadamw(gradients: Sequence[float], x: float, weight_decay: float, **hyperparameters: float) -> float:
    return nadam(gradients, x, **hyperparameters) + weight_decay * x


def adagrad(gradients: Sequence[float], x: float, eps: float, initial: float, lr_decay: float) -> float:
    """Duchi, Hazan & Singer 2011; the decay of lr as torch documents it."""
    r = initial + math.fsum(squares(gradients))
    return gradients[-1] / (math.sqrt(r) + eps) / (1 + (len(gradients) - 1) * lr_decay)


def rmsprop(gradients: Sequence[float], x: float, rho: float, eps: float) -> float:
    """Hinton 2012, with the constant outside the root."""
    return gradients[-1] / (math.sqrt(mean(squares(gradients), rho)) + eps)


def adadelta(gradients: Sequence[float], x: float, rho: float, eps: float) -> float:
    """Zeiler 2012, Algorithm 1: every past step is worked out again."""
    steps: list[float] = []
    for i, g in enumerate(gradients, 1):
        past = mean([0.0, *squares(steps)][1:], rho) if steps else 0.0
        steps.append(math.sqrt(past + eps) / math.sqrt(mean(squares(gradients[:i]), rho) + eps) * g)
    return steps[-1]


def adamax(gradients: Sequence[float], x: float, beta1: float, beta2: float, eps: float) -> float:
    """Kingma & Ba 2015, Algorithm 2, with eps added to |g| as torch has it: the maximum unrolled."""
    t = len(gradients)
    largest = max(beta2 ** (t - i) * (abs(g) + eps) for i, g in enumerate(gradients, 1))
    return mean(gradients, beta1) / (1 - beta1**t) / largest


def radam(gradients: Sequence[float], x: float, beta1: float, beta2: float, eps: float) -> float:
    """Liu et al. 2020, Algorithm 2, with the threshold 5 of its authors' code."""
    t = len(gradients)
    m_hat = mean(gradients, beta1) / (1 - beta1**t)
    longest = 2 / (1 - beta2) - 1
    rho = longest - 2 * t * beta2**t / (1 - beta2**t)
    if rho <= 5:
        return m_hat
    r = math.sqrt((rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho))
    return m_hat * r * math.sqrt(1 - beta2**t) / (math.sqrt(mean(squares(gradients), beta2)) + eps)


def rprop(
    gradients: Sequence[float], x: float, lr: float, eta_minus: float, eta_plus: float, step_min: float, step_max: float
) -> float:  # fmt: skip
    """Igel & Huesken 2000, iRprop-: the whole displacement."""
    eta, before = lr, 0.0
    for g in gradients:
        if g * before > 0:
            eta = eta * eta_plus
        elif g * before < 0:
            eta, g = eta * eta_minus, 0.0
        eta, before = min(max(eta, step_min), step_max), g
    return math.copysign(eta, before) if before else 0.0


def delta_bar_delta(
    gradients: Sequence[float], x: float, lr: float, kappa: float, phi: float, theta: float
) -> float:  # fmt: skip
    """Jacobs 1988, section 5: the whole displacement; the averages are unrolled."""
    rate = lr
    for i, g in enumerate(gradients):
        average = (1 - theta) * math.fsum(theta ** (i - 1 - j) * gradients[j] for j in range(i))
        rate = rate + kappa if average * g > 0 else rate * (1 - phi) if average * g < 0 else rate
    return rate * gradients[-1]


def clip_value(gradients: Sequence[float], x: float, limit: float) -> float:
    return min(max(gradients[-1], -limit), limit)


def sign(gradients: Sequence[float], x: float) -> float:
    return float((gradients[-1] > 0) - (gradients[-1] < 0))


def lion(gradients: Sequence[float], x: float, beta1: float, beta2: float) -> float:
    """Chen et al. 2023, Algorithm 2, its momentum unrolled."""
    c = beta1 * mean(gradients[:-1], beta2) + (1 - beta1) * gradients[-1]
    return float((c > 0) - (c < 0))


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
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adadelta": adadelta,
    "adamax": adamax,
    "radam": radam,
    "rprop": rprop,
    "delta_bar_delta": delta_bar_delta,
    "clip_value": clip_value,
    "sign": sign,
    "lion": lion,
    "gradient_average": reference_matrix.gradient_average,
    **reference_modern.RULES,
}
# Specs of rules with other choices than their defaults.
VARIANTS: dict[str, Step] = {
    "gradient_average(nesterov=false)": partial(reference_matrix.gradient_average, nesterov=False),
    **reference_modern.VARIANTS,
}
# Rules that draw: their functions are given the noise too.
NOISY: dict[str, Step] = {**reference_modern.NOISY}


def clip_norm(gradients: list[Tensors], x: list[Tensors], lr: list[float], limit: float) -> Tensors:
    """Pascanu, Mikolov & Bengio 2013, Algorithm 1, with the 1e-6 of torch."""
    norm = math.sqrt(math.fsum(g * g for tensor in gradients[-1] for row in rows(tensor) for g in row))
    share = min(1.0, limit / (norm + 1e-6))
    return [each(tensor, lambda row: [share * g for g in row]) for tensor in gradients[-1]]


def adaptive_clip(
    gradients: list[Tensors], x: list[Tensors], lr: list[float], limit: float, eps: float
) -> Tensors:  # fmt: skip
    """Brock et al. 2021, eq. 3, unit by unit."""

    def clipped(row: list[float], weights: list[float]) -> list[float]:
        norm, allowed = math.hypot(*row), limit * max(math.hypot(*weights), eps)
        return [g * allowed / norm for g in row] if norm > allowed else row

    made = []
    for tensor, weights in zip(gradients[-1], x[-1], strict=True):
        units = [clipped(*pair) for pair in zip(rows(tensor), rows(weights), strict=True)]
        made.append(units if isinstance(tensor[0], list) else units[0])
    return made


def centralize(gradients: list[Tensors], x: list[Tensors], lr: list[float]) -> Tensors:
    """Yong et al. 2020, eq. 1: matrices only."""

    def centred(row: list[float]) -> list[float]:
        mean = math.fsum(row) / len(row)
        return [g - mean for g in row]

    return [each(tensor, centred) if isinstance(tensor[0], list) else tensor for tensor in gradients[-1]]


# Rules that see more than one number, and specs of such with other choices: functions from the gradients of all
# parameters at all steps so far, the values at which they were taken, and the learning rates, to the present steps.
WHOLE: dict[str, Callable[..., Tensors]] = {
    "clip_norm": clip_norm,
    "adaptive_clip": adaptive_clip,
    "centralize": centralize,
    **reference_modern.WHOLE,
}

# Rules whose references stand beside their tests, because they take more than a gradient or stand around others.
ELSEWHERE: dict[str, str] = {
    "accumulate": "test_wrappers.py",
    "adahessian": "test_curved_rules.py",
    **dict.fromkeys(("ema", "polyak", "swa"), "test_averaging.py"),
    "lookahead": "test_wrappers.py",
    "sam": "test_wrappers.py",
    "schedule_free": "test_wrappers.py",
    "schedule_free_adamw": "test_wrappers.py",
    **dict.fromkeys(reference_matrix.RULES, "test_matrix_rules.py"),
    "sophia": "test_curved_rules.py",
}
