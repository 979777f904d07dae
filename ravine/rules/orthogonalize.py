"""Orthogonalization: all singular values of a step made equal, the heart of Muon."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, addmm, where

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension
from ravine.rules.norms import norm

Coefficients = tuple[float, float, float]
# Amsel et al. 2025, Algorithm 1: the best quintics for singular values from 1e-3 to 1, one after the other.
_POLAR_EXPRESS: tuple[Coefficients, ...] = (
    (8.287212018145622, -23.595886519098816, 17.30038731253092),
    (4.1070591115422035, -2.947849916737912, 0.5448431082926606),
    (3.948690853482289, -2.908902115962943, 0.5518191394370123),
    (3.3184196573706006, -2.4884880243148735, 0.5100489401237199),
    (2.3006520199548195, -1.6689039845747515, 0.41880731195256754),
    (1.8913014077873964, -1.2679958271945826, 0.376804089485246),
    (1.87500148076335, -1.2500016452197529, 0.37500016445732753),
    (1.875, -1.25, 0.375),
)
_WIDE = 1.5  # columns for each row from which the iteration is cheaper on the Gram matrix
_RESTART = 3  # steps after which the Gram matrix is taken anew


@dataclass(frozen=True)
class Orthogonalize(Rule):
    """The nearest orthogonal matrix to what it is given, U V^T of U S V^T, by Newton and Schulz's iteration.

        X <- G / max(||G||, eps)
        X <- a X + b (X X^T) X + c (X X^T)^2 X,   `steps` times
        u  = s X,   s = max(1, rows / columns)^0.5            adjust="original"
                    s = 0.2 max(rows, columns)^0.5            adjust="match_rms_adamw"

    Muon is chain(GradientAverage(), Orthogonalize(), Decay(0.1)): Jordan et al. 2024, "Muon: An optimizer for hidden
    layers in neural networks"; the second s is from Liu et al. 2025, eq. 4 (arXiv:2502.16982). Convolution kernels are
    taken as matrices (out, rest). With the authors' a, b, c, singular values end between 0.7 and 1.2 and not at 1, and
    those below a few thousandths of ||G|| further down.

    method="polar_express" has the coefficients of Amsel et al. 2025 (arXiv:2505.16932), of which 8 steps are exact to
    float32 down to singular values of 1e-3; method="exact" takes U V^T from the singular value decomposition. Neither
    looks at a, b, c. precision="auto" is bfloat16 where the processor multiplies it faster, else float32, and never
    less than that for float64; products in bfloat16 are off by 1 to 10 %, the iteration itself by 19 to 54 %.
    """

    steps: int = 5
    a: float = 3.4445
    b: float = -4.7750
    c: float = 2.0315
    eps: float = 1e-7
    adjust: str = "original"
    method: str = "newton_schulz"
    precision: str = "auto"

    ranges = {"steps": "[1, 100)", "eps": "[0, inf)"} | dict.fromkeys("abc", "(-inf, inf)")
    choices = {
        "adjust": ("original", "match_rms_adamw", "none"),
        "method": ("newton_schulz", "polar_express", "exact"),
        "precision": ("auto", "float32", "bfloat16"),
    }
    scope = "matrix"
    default_lr = 0.02
    space = {"lr": Dimension(1e-4, 1)}

    def refuses(self, p: Tensor) -> str:
        return "" if p.ndim >= 2 else "it is a vector, and there is nothing to orthogonalize"

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        matrix = g.reshape(len(g), -1)
        rows, columns = matrix.shape
        original, matched = max(1.0, rows / max(columns, 1)) ** 0.5, 0.2 * max(rows, columns) ** 0.5
        scale = {"original": original, "match_rms_adamw": matched, "none": 1.0}[self.adjust]
        if self.method == "exact":
            u = scale * _exact(matrix)
        else:
            own = ((self.a, self.b, self.c),) * self.steps
            wanted = own if self.method == "newton_schulz" else _polar_express(self.steps)
            x = matrix.to(_precision(self.precision, g))
            size = x.norm() if x.dtype == torch.bfloat16 else norm(x)  # torch adds bfloat16 up in float32, in parts
            u = iterated(x / size.clamp(min=self.eps), wanted, scale)
        return u.to(g.dtype).reshape(g.shape), {}


def iterated(x: Tensor, coefficients: tuple[Coefficients, ...], scale: float) -> Tensor:
    """`scale` times the matrix `x` after one step of the iteration for each triple of coefficients."""
    tall = x.shape[0] > x.shape[1]
    if max(x.shape) < _WIDE * min(x.shape):
        for a, b, c in coefficients:
            gram = _gram(x, tall)
            z = addmm(gram, gram, gram, beta=b, alpha=c)
            x = addmm(x, x, z, beta=a) if tall else addmm(x, z, x, beta=a)
        return x if scale == 1 else scale * x.to(torch.promote_types(x.dtype, torch.float32))
    while coefficients:
        now, coefficients = coefficients[:_RESTART], coefficients[_RESTART:]
        q = _polynomial(_gram(x, tall), now)
        q = q if coefficients or scale == 1 else scale * q
        x = x @ q if tall else q @ x
    return x


def _gram(x: Tensor, tall: bool) -> Tensor:
    return x.mT @ x if tall else x @ x.mT


def _polynomial(gram: Tensor, coefficients: tuple[Coefficients, ...]) -> Tensor:
    """The matrix Q with which some steps come to Q X, from X X^T alone: small products instead of long ones."""
    q = None
    for i, (a, b, c) in enumerate(coefficients, 1):
        z = addmm(gram, gram, gram, beta=b, alpha=c)
        if q is None:
            q = z.clone()
            q.diagonal().add_(a)
        else:
            q = addmm(q, z, q, beta=a)
        if i < len(coefficients):  # X X^T after the step: (a + Z) X X^T (a + Z)
            half = addmm(gram, z, gram, beta=a)
            gram = addmm(half, half, z, beta=a)
    assert q is not None
    return q


def _exact(matrix: Tensor) -> Tensor:
    """U V^T over the singular values that are more than rounding; NaN stays NaN."""
    known = matrix.isfinite().all()
    u, s, vh = torch.linalg.svd(where(known, matrix, 0.0), full_matrices=False)
    kept = s > max(matrix.shape) * torch.finfo(s.dtype).eps * s.amax()
    return where(known, (u * kept) @ vh, torch.nan)


def _polar_express(steps: int) -> tuple[Coefficients, ...]:
    """The last triple is Newton and Schulz's own, which is repeated. 1.01 keeps rounding from leaving the interval."""
    found = _POLAR_EXPRESS[:steps] + _POLAR_EXPRESS[-1:] * (steps - len(_POLAR_EXPRESS))
    return tuple((a / 1.01, b / 1.01**3, c / 1.01**5) for a, b, c in found[:-1]) + found[-1:]


def _precision(wanted: str, g: Tensor) -> torch.dtype:
    if wanted == "bfloat16" or (wanted == "auto" and g.dtype == torch.float32 and multiplies_bfloat16(g.device.type)):
        return torch.bfloat16
    return torch.promote_types(g.dtype, torch.float32)


@cache
def multiplies_bfloat16(device: str) -> bool:
    """Whether products of bfloat16 matrices are faster than those of float32 there."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    told: Mapping[str, Any] = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return device == "cpu" and bool(told.get("avx512_bf16"))
