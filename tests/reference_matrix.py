"""The matrix rules' papers, naive: numpy, float64, from the whole history of one parameter's gradients.

Each function gives the step u of a parameter, which then moves to x - lr u, from its gradients G_1 ... G_t and where it
stands. Averages are unrolled; only what the papers themselves define step by step (the bases of SOAP, the factors of
PSGD) is gone through in order, from the beginning, at every call.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference_sums import mean

Array = NDArray[np.float64]
History = Sequence[Array]


def average(values: History, beta: float) -> Array:
    """(1 - beta) sum_i beta^(t-i) values_i."""
    t = len(values)
    return (1 - beta) * sum(beta ** (t - i) * value for i, value in enumerate(values, 1))


# ---------------------------------------------------------------- Muon


def gradient_average(gradients: Sequence[float], x: float, momentum: float, nesterov: bool = True) -> float:
    """Jordan et al. 2024: an average, and the gradient moved towards it by as much again."""
    m = mean(gradients, momentum)
    return momentum * m + (1 - momentum) * gradients[-1] if nesterov else m


def orthogonalize(
    gradients: History, x: Array, a: float, b: float, c: float, eps: float, steps: int = 5, adjust: str = "original",
    method: str = "newton_schulz", **_: Any,
) -> Array:  # fmt: skip
    """Jordan et al. 2024, with kernels as matrices (out, rest); Liu et al. 2025, eq. 4, for the other scale."""
    g = gradients[-1].reshape(len(gradients[-1]), -1)
    rows, columns = g.shape
    if method == "exact":
        u, _, vt = np.linalg.svd(g, full_matrices=False)
        o = u @ vt
    else:
        o = g / max(math.sqrt((g * g).sum()), eps)
        for _ in range(steps):
            gram = o @ o.T
            o = a * o + b * gram @ o + c * gram @ gram @ o
    scale = {"original": math.sqrt(max(1, rows / columns)), "match_rms_adamw": 0.2 * math.sqrt(max(rows, columns))}
    return (scale.get(adjust, 1) * o).reshape(gradients[-1].shape)


def muon(
    gradients: History, x: Array, momentum: float, weight_decay: float, nesterov: bool = True, **rest: Any
) -> Array:  # fmt: skip
    """Momentum, orthogonalized, and decoupled decay."""
    m = average(gradients, momentum)
    direction = momentum * m + (1 - momentum) * gradients[-1] if nesterov else m
    return orthogonalize([direction], x, **rest) + weight_decay * x


# ---------------------------------------------------------------- SOAP


def rows_of(x: Array, dim: int) -> Array:
    return np.moveaxis(x, dim, 0).reshape(x.shape[dim], -1)


def multiplied(x: Array, matrices: dict[int, Array]) -> Array:
    """Every dimension of x multiplied by its matrix: y_j = sum_i matrix_ji x_i."""
    for dim, matrix in matrices.items():
        x = np.moveaxis(np.tensordot(matrix, x, axes=(1, dim)), 0, dim)
    return x


def reflections(columns: Array) -> Array:
    """The product of Householder's reflections that bring `columns` to triangular form; a column of zeros has none."""
    n, left, q = len(columns), columns.copy(), np.eye(len(columns))
    for j in range(n):
        v = left[j:, j].copy()
        if not np.abs(v).max() > 0:
            continue
        v[0] += math.copysign(np.linalg.norm(v), v[0])
        v /= np.linalg.norm(v)
        left[j:] -= 2 * np.outer(v, v @ left[j:])
        left[j + 1 :, j] = 0
        q[:, j:] -= 2 * np.outer(q[:, j:] @ v, v)
    return q


def basis(columns: Array, values: Array) -> Array:
    """Orthogonal from `columns`; those of which nothing is known but that they are orthogonal to the others follow."""
    return reflections(np.where(values > len(values) * np.finfo(float).eps * values[0], columns, 0.0))


def soap(
    gradients: History, x: Array, beta1: float, beta2: float, shampoo_beta: float, eps: float, every: int = 10,
    max_size: int = 2048, vectors: bool = False,
) -> Array:  # fmt: skip
    """Vyas et al. 2024, Algorithm 3; the first gradient makes the bases only, as in the authors' code."""
    dims = [d for d, n in enumerate(x.shape) if 1 < n <= max_size and (x.ndim > 1 or vectors)]
    squares = [rows_of(g, d) @ rows_of(g, d).T for g in gradients for d in dims]
    covariances = {d: squares[i :: len(dims)] for i, d in enumerate(dims)}
    bases, orders = {}, {d: {} for d in dims}
    for d in dims:
        values, found = np.linalg.eigh(covariances[d][0])
        bases[d] = [basis(found[:, ::-1], values[::-1])]
        for t in range(2, len(gradients) + 1):
            q = bases[d][-1]
            if (t - 1) % every == 0:
                ahead = average(covariances[d][: t - 1], shampoo_beta) @ q
                values = (q * ahead).sum(0)
                orders[d][t] = order = np.argsort(-values, kind="stable")
                q = basis(ahead[:, order], values[order])
            bases[d].append(q)
    t = len(gradients)
    if t == 1:
        return np.zeros_like(x)

    def turned(g: Array, i: int) -> Array:
        return multiplied(g, {d: bases[d][i - 1].T for d in dims})

    seen = []
    for i in range(2, t + 1):
        square = turned(gradients[i - 1], i) ** 2
        for d, later in product(dims, range(i + 1, t + 1)):
            square = square.take(orders[d].get(later, range(x.shape[d])), axis=d)
        seen.append(square)
    m = turned(average(gradients[1:], beta1), t)
    u = m / (np.sqrt(average(seen, beta2)) + eps)
    scale = math.sqrt(1 - beta2 ** (t - 1)) / (1 - beta1 ** (t - 1))
    return scale * multiplied(u, {d: bases[d][t - 1] for d in dims})


# ---------------------------------------------------------------- Shampoo


def inverse_root(covariance: Array, eps: float, power: float) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    return vectors @ np.diag((np.maximum(values, 0) + eps * values.max()) ** power) @ vectors.T


def statistic(values: History, beta: float) -> Array:
    """The average without its bias, or, with beta = 1, the sum."""
    return sum(values) if beta == 1 else average(values, beta) / (1 - beta ** len(values))


def shampoo(
    gradients: History, x: Array, beta1: float, beta2: float, eps: float, graft_beta2: float, graft_eps: float,
    every: int = 10, block_size: int = 1024, root: int = 0, grafting: str = "adam", **_: Any,
) -> Array:  # fmt: skip
    """Gupta et al. 2018, Algorithm 1, as Anil et al. 2020 run it: block by block, with grafting."""
    t = len(gradients)
    m_hat = average(gradients, beta1) / (1 - beta1**t)
    if x.ndim < 2:
        d = statistic([g * g for g in gradients], beta2)
        u = m_hat * (d + eps * d.max()) ** (-1 / (root or 2))
    else:
        u = np.zeros((len(x), x[0].size))
        known = gradients[: 1 + (t - 1) // every * every]
        for place in product(*(slices(n, block_size) for n in u.shape)):
            part = [g.reshape(u.shape)[place] for g in known]
            left = inverse_root(statistic([g @ g.T for g in part], beta2), eps, -1 / (root or 4))
            right = inverse_root(statistic([g.T @ g for g in part], beta2), eps, -1 / (root or 4))
            u[place] = left @ m_hat.reshape(u.shape)[place] @ right
        u = u.reshape(x.shape)
    if grafting == "none":
        return u
    v = average([g * g for g in gradients], graft_beta2)
    grafted = {
        "sgd": m_hat,
        "rmsprop": m_hat / (np.sqrt(v) + graft_eps),
        "adam": m_hat / (np.sqrt(v / (1 - graft_beta2**t)) + graft_eps),
    }[grafting]
    return u * np.linalg.norm(grafted) / np.linalg.norm(u)


def slices(n: int, size: int) -> list[slice]:
    """As few equal parts as are at most `size` long; the last may be shorter."""
    length = math.ceil(n / math.ceil(n / size)) if size else n
    return [slice(i, min(i + length, n)) for i in range(0, n, length)]


# ---------------------------------------------------------------- PSGD


def fits(t: int, every: int, flat: int) -> float:
    """How many fits are due by step t, where step s has the share max(1/every, min(1, e^((flat - s)/1000)))."""
    shrunk = flat + 1000 * math.log(every)
    if t <= flat:
        return t
    if t <= shrunk:
        return flat + 1000 - 1000 * math.exp((flat - t) / 1000)
    return flat + 1000 - 1000 / every + (t - shrunk) / every


def psgd(
    gradients: History, x: Array, noise: History, momentum: float, precond_lr: float, every: int = 33, flat: int = 500,
    max_size: int = 2048,
) -> Array:  # fmt: skip
    """Li 2022: relative gradient descent on E[g^T P g + v^T P^-1 v], P = Q^T Q, with Q = Q_1 x Q_2 x ... triangular."""
    shape = x.shape or (1,)
    full = [x.ndim > 1 and 1 < n <= max_size for n in shape]
    qs = [np.eye(n) for n in shape]
    for t in range(1, len(gradients) + 1):
        if int(fits(t, every, flat)) == int(fits(t - 1, every, flat)):
            continue
        m_hat = (average(gradients[:t], momentum) / (1 - momentum**t)).reshape(shape)
        a = multiplied(m_hat, dict(enumerate(qs)))
        b = multiplied(noise[t - 1].reshape(shape), {d: np.linalg.inv(q).T for d, q in enumerate(qs)})
        fitted = []
        for d, q in enumerate(qs):
            one, other = rows_of(a, d) @ rows_of(a, d).T, rows_of(b, d) @ rows_of(b, d).T
            if full[d]:
                fitted.append(q - precond_lr / lower_bound(one + other) * np.triu(one - other) @ q)
            else:
                both = np.diag(one + other)
                fitted.append(q - precond_lr / both.max() * np.diag(np.diag(one - other)) @ q)
        qs = fitted
    m_hat = (average(gradients, momentum) / (1 - momentum ** len(gradients))).reshape(shape)
    u = multiplied(m_hat, {d: q.T @ q for d, q in enumerate(qs)}).reshape(x.shape)
    return u * min(1.0, 1.1 / (math.sqrt((u * u).mean()) + 1e-6))


def lower_bound(a: Array) -> float:
    """||A A a|| / ||A a||, where a is the largest row of A."""
    row = a @ a[np.argmax((a * a).sum(1))]
    return float(np.linalg.norm(a @ row) / np.linalg.norm(row))


RULES: dict[str, Callable[..., Array]] = {
    "orthogonalize": orthogonalize,
    "muon": muon,
    "soap": soap,
    "shampoo": shampoo,
    "psgd": psgd,
}
"""Rules of scope "matrix", for whole parameters."""
