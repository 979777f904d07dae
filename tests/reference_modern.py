"""The papers' algorithms of today's rules, in the manner of `reference.py`, which puts all tables together.

Functions of one number get its gradients so far, and where it stands. Functions of whole tensors get, of all steps so
far, the gradients of all parameters, the values at which they were taken, and the learning rates.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from reference_sums import Tensors, flat, mean, norm, shaped, squares

Numbers = Sequence[float]
History = list[Tensors]


def adabelief(gradients: Numbers, x: float, beta1: float, beta2: float, eps: float, rectify: bool = True) -> float:
    """Zhuang et al. 2020, Algorithm 2; rectified, with RAdam's factor, as in the authors' package."""
    t = len(gradients)
    strays = [g - mean(gradients[:i], beta1) for i, g in enumerate(gradients, 1)]
    s = mean(squares(strays), beta2) + eps * math.fsum(beta2 ** (t - i) for i in range(1, t + 1))
    m_hat = mean(gradients, beta1) / (1 - beta1**t)
    if not rectify:
        return m_hat / (math.sqrt(s / (1 - beta2**t)) + eps)
    longest = 2 / (1 - beta2) - 1
    rho = longest - 2 * t * beta2**t / (1 - beta2**t)
    if rho < 5:
        return m_hat
    r = math.sqrt((rho - 4) / (longest - 4) * (rho - 2) / (longest - 2) * longest / rho)
    return r * math.sqrt(1 - beta2**t) * m_hat / (math.sqrt(s) + eps)


def adan(gradients: Numbers, x: float, beta1: float, beta2: float, beta3: float, eps: float) -> float:
    """Xie et al. 2022, Algorithm 1, in the averages' own betas and with the bias corrections of the authors' code."""
    t = len(gradients)
    changes = [0.0] + [b - a for a, b in pairwise(gradients)]
    ahead = [g + beta2 * y for g, y in zip(gradients, changes, strict=True)]
    m_hat = mean(gradients, beta1) / (1 - beta1**t)
    v_hat = mean(changes, beta2) / (1 - beta2**t)
    n_hat = mean(squares(ahead), beta3) / (1 - beta3**t)
    return (m_hat + beta2 * v_hat) / (math.sqrt(n_hat) + eps)


def proximal_adan(gradients: Numbers, x: float, lr: float, weight_decay: float, **hyperparameters: float) -> float:
    """Xie et al. 2022, eq. 7: the whole displacement to (1 + lr weight_decay)^-1 (x - lr u)."""
    return x - (x - lr * adan(gradients, x, **hyperparameters)) / (1 + lr * weight_decay)


def adopt(gradients: Numbers, x: float, beta1: float, beta2: float, eps: float, clip: bool = True) -> float:
    """Taniguchi et al. 2024, Algorithms 2 and 1: gradients are numbered 0, 1, ..., v_0 = g_0^2, and m_0 = 0."""
    last = len(gradients) - 1

    def v(i: int) -> float:
        return beta2**i * gradients[0] ** 2 + mean([0.0, *squares(gradients[1 : i + 1])], beta2)

    normed = [0.0] + [gradients[i] / max(math.sqrt(v(i - 1)), eps) for i in range(1, last + 1)]
    if clip:
        normed = [min(max(value, -(i**0.25)), i**0.25) for i, value in enumerate(normed)]
    return mean(normed, beta1)


def ademamix(
    gradients: Numbers, x: float, beta1: float, beta2: float, beta3: float, alpha: float, eps: float, warmup: int = 0
) -> float:  # fmt: skip
    """Pagliardini et al. 2024, section 3, with f_alpha and f_beta3 as written there."""

    def slow(i: int) -> float:
        if i >= warmup:
            return beta3
        short, long = math.log(beta1), math.log(beta3)
        return math.exp(short * long / ((1 - i / warmup) * long + i / warmup * short))

    t = len(gradients)
    m1 = mean(gradients, beta1) / (1 - beta1**t)
    m2 = math.fsum(
        (1 - slow(i)) * math.prod(slow(j) for j in range(i + 1, t + 1)) * g for i, g in enumerate(gradients, 1)
    )
    mixed = m1 + (min(t / warmup, 1.0) if warmup else 1.0) * alpha * m2
    return mixed / (math.sqrt(mean(squares(gradients), beta2) / (1 - beta2**t)) + eps)


def stochastic_sign(gradients: Numbers, x: float, noise: float, b: float) -> float:
    """Jin et al. 2020, Definition 2: +1 with probability (b + g) / (2 b), by a uniform number made of a normal one."""
    return 1.0 if statistics.NormalDist().cdf(noise) < (b + gradients[-1]) / (2 * b) else -1.0


RULES: dict[str, Callable[..., float]] = {
    "adabelief": adabelief,
    "adan": adan,
    "adopt": adopt,
    "ademamix": ademamix,
}
VARIANTS: dict[str, Callable[..., float]] = {
    "adabelief(rectify=false)": partial(adabelief, rectify=False),
    "adan + decay(form='proximal')": proximal_adan,
    "adopt(clip=false)": partial(adopt, clip=False),
    "ademamix(warmup=30)": partial(ademamix, warmup=30),
}
NOISY: dict[str, Callable[..., float]] = {"stochastic_sign": stochastic_sign}


def _columns(gradients: History, k: int) -> list[list[float]]:
    """The history of each number of the parameter `k`."""
    return [list(history) for history in zip(*(flat(step[k]) for step in gradients), strict=True)]


def lamb(
    gradients: History, x: History, lr: Numbers, beta1: float, beta2: float, eps: float, weight_decay: float,
    corrected: bool = True,
) -> Tensors:  # fmt: skip
    """You et al. 2020, Algorithm 2, with phi(z) = z."""
    t, made = len(gradients), []
    first, second = (1 - beta1**t, 1 - beta2**t) if corrected else (1.0, 1.0)
    for k, weights in enumerate(x[-1]):
        r = [
            mean(g, beta1) / first / (math.sqrt(mean(squares(g), beta2) / second) + eps) + weight_decay * w
            for g, w in zip(_columns(gradients, k), flat(weights), strict=True)
        ]
        ratio = norm(flat(weights)) / norm(r)
        made.append(shaped([ratio * value for value in r], weights))
    return made


def lars(
    gradients: History, x: History, lr: Numbers, momentum: float, weight_decay: float, trust: float
) -> Tensors:  # fmt: skip
    """You, Gitman & Ginsburg 2017, Algorithm 1, its momentum unrolled: the whole displacement."""
    t, made = len(gradients), []
    for k, weights in enumerate(x[-1]):
        total = [0.0] * len(flat(weights))
        for i in range(t):
            g, w = flat(gradients[i][k]), flat(x[i][k])
            local = trust * norm(w) / (norm(g) + weight_decay * norm(w))
            share = momentum ** (t - 1 - i) * lr[i] * local
            total = [v + share * (a + weight_decay * b) for v, a, b in zip(total, g, w, strict=True)]
        made.append(shaped(total, weights))
    return made


def cautious(
    gradients: History, x: History, lr: Numbers, floor: float, momentum: float = 0.0, dampening: float = 0.0,
    paper: bool = False,
) -> Tensors:  # fmt: skip
    """Liang et al. 2024, Algorithm 2, behind Polyak's momentum; xi = 1 in the paper, a floor in the authors' code."""
    t, made = len(gradients), []
    for k, weights in enumerate(x[-1]):
        u = []
        for g in _columns(gradients, k):
            shares = [1.0] + [1 - dampening] * (t - 1)
            u.append(math.fsum(momentum ** (t - i) * shares[i - 1] * value for i, value in enumerate(g, 1)))
        phi = [float(a * b > 0) for a, b in zip(u, flat(gradients[-1][k]), strict=True)]
        scale = len(phi) / (sum(phi) + 1) if paper else 1 / max(sum(phi) / len(phi), floor)
        made.append(shaped([a * b * scale for a, b in zip(u, phi, strict=True)], weights))
    return made


def adafactor(
    gradients: History, x: History, lr: Numbers, beta2_decay: float, eps2: float, d: float, eps1: float = 1e-30,
    beta1: float = 0.0, relative: bool = True, scaled: bool = True,
) -> Tensors:  # fmt: skip
    """Shazeer & Stern 2018, Algorithms 4 and 5, with sums as in the paper: the whole displacement."""
    t = len(gradients)
    betas = [1 - i**beta2_decay for i in range(1, t + 1)]

    def averaged(values: Sequence[float], upto: int) -> float:
        kept = [math.prod(betas[i + 1 : upto]) * (1 - betas[i]) for i in range(upto)]
        return math.fsum(share * value for share, value in zip(kept, values, strict=False))

    def second(k: int, upto: int) -> list[float]:
        """V_hat of the parameter `k` after so many steps."""
        seen = [step[k] for step in gradients[:upto]]
        if not isinstance(seen[0][0], list):
            return [averaged([g * g + eps1 for g in own], upto) for own in zip(*seen, strict=True)]
        height, width = len(seen[0]), len(seen[0][0])
        r = [averaged([math.fsum(g * g + eps1 for g in step[i]) for step in seen], upto) for i in range(height)]
        c = [averaged([math.fsum(s[j] ** 2 + eps1 for s in step) for step in seen], upto) for j in range(width)]
        return [a * b / math.fsum(r) for a in r for b in c]

    def displacement(k: int, upto: int) -> list[float]:
        u = [g / math.sqrt(v) for g, v in zip(flat(gradients[upto - 1][k]), second(k, upto), strict=True)]
        size, w = math.sqrt(len(u)), flat(x[upto - 1][k])
        rho = min(lr[upto - 1], 1 / math.sqrt(upto)) if relative else lr[upto - 1]
        alpha = max(eps2, norm(w) / size) * rho if scaled else rho
        return [alpha * value / max(1.0, norm(u) / size / d) for value in u]

    made = []
    for k, weights in enumerate(x[-1]):
        past = [displacement(k, upto) for upto in range(1, t + 1)]
        moved = [mean(own, beta1) for own in zip(*past, strict=True)] if beta1 else past[-1]
        made.append(shaped(moved, weights))
    return made


def prodigy(
    gradients: History, x: History, lr: Numbers, beta1: float, beta2: float, eps: float, weight_decay: float, d0: float,
    d_coef: float, growth_rate: float, beta3: float | None = None, corrected: bool = False, safeguarded: bool = False,
) -> Tensors:  # fmt: skip
    """Mishchenko & Defazio 2023, Algorithm 4, with prodigyopt's options: the whole displacement."""
    root = math.sqrt(beta2) if beta3 is None else beta3
    g = [[value for tensor in step for value in flat(tensor)] for step in gradients]
    w = [[value for tensor in step for value in flat(tensor)] for step in x]
    d, rates, largest = [d0], [], d0
    for k in range(len(g)):
        t = k + 1
        rates.append(d[k] * lr[k] * (math.sqrt(1 - beta2**t) / (1 - beta1**t) if corrected else 1.0))
        inner = [math.fsum(a * (b - c) for a, b, c in zip(g[i], w[0], w[i], strict=True)) for i in range(t)]
        r = mean([d[i] * rates[i] * inner[i] for i in range(t)], root)
        own = d if safeguarded else rates
        s = [mean([d[i] * own[i] * g[i][j] for i in range(t)], root) for j in range(len(g[0]))]
        estimate = d_coef * r / math.fsum(map(abs, s))
        largest = max(largest, estimate)
        d.append(min(largest, (max(d[k], estimate) if d[k] == d0 else d[k]) * growth_rate))
    made = []
    for j, here in enumerate(w[-1]):
        m = mean([d[i] * step[j] for i, step in enumerate(g)], beta1)
        v = mean([(d[i] * step[j]) ** 2 for i, step in enumerate(g)], beta2)
        made.append(rates[-1] * (m / (math.sqrt(v) + d[-2] * eps) + weight_decay * here))
    ends = [0]
    for tensor in x[-1]:
        ends.append(ends[-1] + len(flat(tensor)))
    return [shaped(made[a:b], tensor) for (a, b), tensor in zip(pairwise(ends), x[-1], strict=True)]


WHOLE: dict[str, Callable[..., Tensors]] = {
    "adafactor": adafactor,
    "adafactor(eps1=0.01, relative_step=false)": partial(adafactor, eps1=0.01, relative=False),
    "adafactor(beta1=0.8, scale_parameter=false)": partial(adafactor, beta1=0.8, scaled=False),
    "cautious": cautious,
    "momentum + cautious": cautious,
    "momentum + cautious(form='paper')": partial(cautious, paper=True),
    "lamb": lamb,
    "lamb(bias_correction=false)": partial(lamb, corrected=False),
    "lars": lars,
    "prodigy": prodigy,
    "prodigy(d0=0.01, growth_rate=1.1, beta3=0.9)": partial(prodigy, beta3=0.9),
    "prodigy(d0=0.01, use_bias_correction=true)": partial(prodigy, corrected=True),
    "prodigy(d0=0.01, safeguard_warmup=true)": partial(prodigy, safeguarded=True),
}
