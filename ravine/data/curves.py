"""CURVES-R: images of curves through three random points, made anew after the description of a set long out of reach.

Hinton & Salakhutdinov (2006, Science 313:504) trained deep autoencoders on 28x28 images of "curves" with six degrees of
freedom. Their file and its exact recipe are not published. What is known is followed: three points whose x rises, a
cubic spline through them, ink at 60 evenly spaced places (Nair & Hinton 2005), a 3x3 blob, clipped at 1. What is not
known was set so that the errors in print come out: predicting the mean 14.95 (in print about 16), PCA with 18
components 5.90 (5.90). So errors on it can be laid beside those in print, but are not the same numbers.
"""

import numpy as np
from numpy.typing import NDArray

from ravine.core.declared import check_value

SIDE, PLACES = 28, 60
LOW, HIGH, GAP = 0.1, 0.9, 0.2
SPREAD, INK = 0.75, 0.6  # Martens' a and b: how much of the ink goes to the eight neighbours, and how much there is
_FINE = 128  # places at which the length of a curve is measured
_AT_ONCE = 5000

Array = NDArray[np.float64]


def curves(count: int, seed: int = 0) -> NDArray[np.float32]:
    """`count` images (count, 784), pixels in [0, 1]. The first of them are the same for every count.

    Points: x is uniform over the rising triples in [0.1, 0.9] with gaps of 0.2 and more, y is uniform in [0.1, 0.9].
    The curve is the natural cubic spline y(x). 30,000 images take about two seconds.
    """
    check_value("count", count, int, "[1, inf)")
    check_value("seed", seed, int, "[0, inf)")
    drawn = np.random.default_rng(seed).random((count, 6))
    found = np.empty((count, SIDE * SIDE), np.float32)
    for start in range(0, count, _AT_ONCE):
        found[start : start + _AT_ONCE] = _images(drawn[start : start + _AT_ONCE])
    return found


def _images(drawn: Array) -> Array:
    # Sorted places in what the gaps leave free, moved apart by them: uniform over the triples that have the gaps.
    x = LOW + np.sort(drawn[:, :3], 1) * (HIGH - LOW - 2 * GAP) + GAP * np.arange(3)
    y = LOW + drawn[:, 3:] * (HIGH - LOW)
    return _blurred(_inked(*_evenly(*_spline(x, y))))


def _spline(x: Array, y: Array) -> tuple[Array, Array]:
    """Places (curves, _FINE) on the natural cubic splines through three points each."""
    h = np.diff(x, axis=1)
    slopes = np.diff(y, axis=1) / h
    bend = 3 * (slopes[:, 1] - slopes[:, 0]) / h.sum(1)  # the second derivative in the middle; 0 at both ends
    t = np.linspace(0, 1, _FINE)
    at = x[:, :1] + t * (x[:, 2:] - x[:, :1])
    second = at > x[:, 1:2]
    width = np.where(second, h[:, 1:], h[:, :1])
    near = np.where(second, (x[:, 2:] - at) / width, (at - x[:, :1]) / width)  # 0 at the end, 1 in the middle
    outer = np.where(second, y[:, 2:], y[:, :1])
    return at, near * y[:, 1:2] + (1 - near) * outer + (near**3 - near) * width**2 * bend[:, None] / 6


def _evenly(x: Array, y: Array) -> tuple[Array, Array]:
    """PLACES places on each curve, at equal distances along it."""
    length = np.cumsum(np.hypot(np.diff(x, axis=1), np.diff(y, axis=1)), 1)
    share = np.concatenate([np.zeros((len(x), 1)), length / length[:, -1:]], 1)
    rows = 2 * np.arange(len(x))[:, None]  # all curves one behind the other: one interpolation for all
    wanted = (rows + np.linspace(0, 1, PLACES)).ravel()
    known = (rows + share).ravel()
    return tuple(np.interp(wanted, known, v.ravel()).reshape(len(x), PLACES) for v in (x, y))  # type: ignore[return-value]


def _inked(x: Array, y: Array) -> Array:
    """Each place's ink on the four nearest pixels: (curves, 28, 28)."""
    n = len(x)
    column, row = x * (SIDE - 1), (1 - y) * (SIDE - 1)  # 0 and 1 are the middles of the outer pixels
    left, top = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    right, low = column - left, row - top
    start = np.arange(n)[:, None] * SIDE**2 + top * SIDE + left
    at = np.stack([start, start + 1, start + SIDE, start + SIDE + 1])
    ink = np.stack([(1 - low) * (1 - right), (1 - low) * right, low * (1 - right), low * right])
    found: Array = np.bincount(at.ravel(), ink.ravel(), n * SIDE**2).reshape(n, SIDE, SIDE)  # type: ignore[assignment]
    return found


def _blurred(image: Array) -> Array:
    """Convolved with b [a/12 a/6 a/12; a/6 1-a a/6; a/12 a/6 a/12], clipped at 1: (curves, 784)."""
    framed = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    rows = framed[:, :-2] / 2 + framed[:, 1:-1] + framed[:, 2:] / 2
    around = (rows[:, :, :-2] / 2 + rows[:, :, 1:-1] + rows[:, :, 2:] / 2) * SPREAD / 3
    # The window gives the middle a/3 too: its own share is 1 - a.
    found = INK * (around + (1 - SPREAD - SPREAD / 3) * image)
    return np.minimum(found, 1.0).reshape(len(image), -1)
