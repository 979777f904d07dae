"""The iterations that solve a linear system: conjugate gradients and MINRES, step by step."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.counted import Counted

Steps = Iterator[tuple[Tensor, float]]
"""Each yields the change of x so far, and what the iteration takes the norm of its residual for."""


@dataclass
class System:
    """(A + shift I) x = b, with `inverse` near the inverse; `scale` is the largest |eigenvalue| that was felt.

    negative, curvature: where conjugate gradients met negative curvature, the unit vector and how much. flat: where
    they met none that can be told from zero, the unit vector.
    """

    A: Counted
    shift: float
    inverse: Callable[[Tensor], Tensor]
    scale: float = 0.0
    negative: Tensor | None = field(default=None)
    curvature: float | None = None
    flat: Tensor | None = None
    stopped: str = ""

    def times(self, v: Tensor) -> Tensor:
        """(A + shift I) v."""
        image = self.A @ v + self.shift * v
        if norm := float(v.norm()):
            size = float(image.norm())  # whose square may be too large for float32
            self.scale = max(self.scale, (size if math.isfinite(size) else float(image.double().norm())) / norm)
        return image

    def weighed(self, r: Tensor) -> tuple[Tensor, float]:
        """z = inverse r, and rᵀ z."""
        z = self.inverse(r)
        product = float(r @ z)
        if product == 0 and bool(r.any()):
            unit = r / r.abs().max()
            if float(unit @ self.inverse(unit)) > 0:  # what is left is too small to be squared
                return z, product
        if product < 0 or not math.isfinite(product) or (product == 0 and bool(r.any())):
            raise RavineError(f"precondition is not positive definite: rᵀ M r is {product:.3g} for some r")
        return z, product


def inverse(A: Operator, given: Operator | Tensor | None) -> Callable[[Tensor], Tensor]:
    """The preconditioner as a function."""
    if given is None:
        return lambda r: r
    if isinstance(given, Operator):
        if given.shape != A.shape:
            raise RavineError(f"precondition has the shape {given.shape}, the operator {A.shape}")
        return lambda r: given @ r
    if not isinstance(given, Tensor) or given.shape != (A.size,):
        found = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise RavineError(f"precondition must be an operator, or a vector ({A.size},) of a diagonal; got {found}")
    if not bool((given > 0).all() and torch.isfinite(given).all()):
        raise RavineError("precondition must be positive definite: some of its numbers are not above zero, or infinite")
    diagonal = given.detach().to(A.device, A.dtype)
    return lambda r: diagonal * r


def cg(system: System, b: Tensor) -> Steps:
    """Preconditioned conjugate gradients (Nocedal & Wright 2006, alg. 5.3), from zero."""
    x, r = torch.zeros_like(b), b
    z, rz = system.weighed(r)
    p = z
    while rz > 0 and (length := float(p @ p)) > 0:  # what is left may be too small to be squared
        image = system.times(p)
        curvature = float(p @ image) / length
        # Products are as exact as eps times the norm: what is smaller in size has no sign.
        least = 4 * torch.finfo(b.dtype).eps * system.scale
        if curvature <= least:
            system.stopped = "negative curvature" if curvature < -least else "singular"
            if curvature < -least:
                system.negative, system.curvature = p / length**0.5, curvature
            else:
                system.flat = p / length**0.5
            return
        alpha = rz / (curvature * length)
        x, r = x + alpha * p, r - alpha * image
        yield x, float(r.norm())
        before = rz
        z, rz = system.weighed(r)
        p = z + (rz / before) * p


def minres(system: System, b: Tensor) -> Steps:
    """Preconditioned MINRES (Paige & Saunders 1975; Elman, Silvester & Wathen 2014, alg. 4.1), from zero."""
    eps = torch.finfo(b.dtype).eps
    x = torch.zeros_like(b)
    v, (z, square) = b, system.weighed(b)
    v_before, w, w_before = torch.zeros_like(b), torch.zeros_like(b), torch.zeros_like(b)
    gamma, gamma_before = square**0.5, 1.0
    eta, (c, c_before), (s, s_before), r, largest = gamma, (1.0, 1.0), (0.0, 0.0), b, 0.0
    while gamma > 0:
        z = z / gamma
        image = system.times(z)
        delta = float(z @ image)
        v, v_before = image - (delta / gamma) * v - (gamma / gamma_before) * v_before, v
        z_now, (z, square) = z, system.weighed(v)
        after = square**0.5
        a0, a2, a3 = c * delta - c_before * s * gamma, s * delta + c_before * c * gamma, s_before * gamma
        a1 = math.hypot(a0, after)
        largest = max(largest, abs(delta), after)
        # ‖A r‖ / ‖r‖: what is left of b, A does not reach. It falls to the root of eps, then rounding makes x grow.
        if math.hypot(a0, c * after) <= eps**0.5 * largest:
            system.stopped = "singular"
            return
        c_before, c, s_before, s = c, a0 / a1, s, after / a1
        w, w_before = (z_now - a3 * w_before - a2 * w) / a1, w
        x = x + (c * eta) * w
        # The residual itself: what is left of the last one, and a part along the new vector.
        r = s * s * r - (c * eta / a1) * v
        eta = -s * eta
        yield x, float(r.norm())
        if after <= 10 * eps * largest:
            return
        gamma_before, gamma = gamma, after


METHODS: dict[str, Callable[[System, Tensor], Steps]] = {"minres": minres, "cg": cg}
