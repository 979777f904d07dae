"""What the matrix rules share: products along one dimension of a tensor, and eigenvectors that may fail to be found."""

from collections.abc import Callable

import torch
from torch import Tensor, where

Eigen = tuple[Tensor, Tensor]


def along(x: Tensor, q: Tensor, dim: int) -> Tensor:
    """`x` with its dimension `dim` multiplied by `q`: y_j = sum_i q_ij x_i."""
    if dim == x.ndim - 1:
        return x @ q
    if dim == 0:
        return (q.mT @ x.flatten(1)).reshape(x.shape)
    return (x.movedim(dim, -1) @ q).movedim(-1, dim).contiguous()


def unfolded(x: Tensor, dim: int) -> Tensor:
    """`x` as a matrix whose rows are what stands at each place of the dimension `dim`."""
    return x.movedim(dim, 0).flatten(1) if x.ndim > 1 else x.unsqueeze(1)


def eigen(a: Tensor) -> Eigen:
    """Eigenvalues of symmetric matrices, ascending, and eigenvectors; NaN where `a` is not finite.

    Where LAPACK does not come to an end in the type of `a`, it is tried again in float64; where it fails there too, all
    is NaN, and it is for the caller to keep what it had.
    """
    finite = a.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    known = where(finite, a, 0.0)
    ways: tuple[Callable[[], Eigen], ...] = (
        lambda: torch.linalg.eigh(known),
        lambda: torch.linalg.eigh(known.double()),
    )
    for way in ways:
        try:
            values, vectors = way()
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # it is public, but not in torch's stubs
            continue
        return where(finite[..., 0], values.to(a.dtype), torch.nan), where(finite, vectors.to(a.dtype), torch.nan)
    return a[..., 0] * torch.nan, a * torch.nan


def completed(vectors: Tensor, weights: Tensor) -> Tensor:
    """An orthogonal matrix that begins with the columns of `vectors`, made orthogonal in turn (Householder's QR).

    `weights` tells, in descending order, how much each column matters. A column whose weight is nothing but rounding is
    chosen by the reflections of those before it: so it depends on them, and not on the last bits.
    """
    least = len(vectors) * torch.finfo(weights.dtype).eps * weights[:1]
    q: Tensor = torch.linalg.qr(where(weights <= least, 0.0, vectors))[0]
    return q


def kept_if_not_finite(new: Tensor, old: Tensor) -> Tensor:
    """`new`, or `old` where some of `new` is not finite: for each matrix of a stack."""
    return where(new.isfinite().all(-1, keepdim=True).all(-2, keepdim=True), new, old)
