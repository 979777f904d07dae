"""Quadratic models that are minimized inside a ball exactly: by their eigenvalues."""

import math

import torch
from torch import Tensor

from ravine.solvers.base import Model


class SpectralModel(Model):
    """m(p) = g'p + p'Bp / 2 with B = Q diag(values) Q', minimized exactly (More & Sorensen 1983; N&W 2006, sec. 4.3).

    values: (k,), turned: Q'g, and back(c) = Q c. Where values are numbers of a singular B, they are taken as they are.
    """

    def __init__(self, values: Tensor, turned: Tensor, vectors: Tensor) -> None:
        # In float64, since squares of short steps are too small for float32; the eigenvalues are as exact as they came.
        self.values, self.turned, self.vectors = values.double(), turned.double(), vectors
        self.eps = torch.finfo(values.dtype).eps

    def within(self, radius: float) -> tuple[Tensor, float]:
        c = self.coordinates(radius)
        fall = -float(self.turned @ c + 0.5 * (self.values * c) @ c)
        return self.vectors @ c.to(self.vectors), fall

    def coordinates(self, radius: float) -> Tensor:
        """-(B + lam I)^-1 g in the eigenvectors' coordinates, with the least lam >= 0 that keeps it inside."""
        values, g = self.values, self.turned
        lowest, scale = float(values.min()), float(values.abs().max())
        tiny = 4 * max(self.eps * scale, torch.finfo(values.dtype).tiny)
        if lowest > tiny:
            p = -g / values
            if float(p.norm()) <= radius:
                return p
        least = max(0.0, -lowest)
        p = self._at(least + tiny)
        if float(p.norm()) <= radius:  # the hard case: g has next to nothing along the lowest eigenvector
            if lowest >= -tiny:
                return p
            left = radius * radius - float(p @ p)
            p = p.clone()
            bottom = int(values.argmin())
            p[bottom] += math.copysign(math.sqrt(max(left, 0.0)), -float(g[bottom]) or 1.0)
            return p
        return self._at(self._shift(radius, least + tiny))

    def _at(self, lam: float) -> Tensor:
        return -self.turned / (self.values + lam)

    def _shift(self, radius: float, low: float) -> float:
        """lam with |p(lam)| = radius, by Newton's method on 1/|p| - 1/radius, kept in a bracket."""
        high = max(2 * low, float(self.turned.norm()) / radius + max(0.0, -float(self.values.min())))
        lam = low
        for _ in range(100):
            below = self.values + lam
            p = self.turned / below
            norm = float(p.norm())
            if abs(norm - radius) <= 1e-3 * radius and norm <= radius * 1.001:
                break
            low, high = (lam, high) if norm > radius else (low, lam)
            bent = float((p * p / below).sum())  # 0 where squares of so small numbers are
            step = (norm - radius) / radius * norm * norm / bent if bent else 0.0
            lam = lam + step if low < lam + step < high else 0.5 * (low + high)
        return lam
