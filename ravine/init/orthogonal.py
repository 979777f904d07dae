"""Orthogonal initialization."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from ravine.init.strategy import Drawn, Source, Strategy, fans, middle


@dataclass(frozen=True)
class Orthogonal(Strategy):
    """Orthogonal: a matrix drawn uniformly from those with orthonormal rows or columns, times gain (Saxe et al. 2013).

        W W' = gain^2 I where out <= in,    W' W = gain^2 I where out >= in;    complex: unitary

    by QR of a normal matrix, with the signs of R's diagonal made positive (Mezzadri, arXiv math-ph/0609050, section 5).
    `conv='flattened'` takes (out, in * kernel) as the matrix. `conv='delta'` has the orthogonal (out, in) in the middle
    of the kernel and zeros else, which keeps norms through a convolution (Xiao et al., arXiv 1806.05393, Algorithm 1).
    Computed in float32 for 16 bits; `torch.nn.init.orthogonal_` raises for those and for complex weights. QR runs on
    one thread, so that the numbers are the same for every number of threads, to the bit.

    Saxe, McClelland and Ganguli, arXiv 1312.6120.
    """

    gain: float | int | str = 1.0
    conv: str = "flattened"

    choices = {"conv": ("flattened", "delta")}

    def scale(self, shape: tuple[int, ...], role: str = "hidden") -> float:
        fan_in, fan_out = fans(shape)
        return float(max(fan_in, fan_out if self.conv == "delta" else shape[0]) ** -0.5)

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: Source) -> Tensor:
        if self.conv == "flattened" or len(shape) == 2:
            return _orthogonal(shape[0], fans(shape)[0], source).mul_(gain).view(shape)
        weight = source.zeros(shape)
        middle(weight).copy_(_orthogonal(shape[0], shape[1], source).mul_(gain))
        return weight


@contextmanager
def _one_thread(wanted: bool) -> Iterator[None]:
    """On one thread: how LAPACK rounds depends on their number, and the same seed shall give the same weight."""
    threads = torch.get_num_threads()
    if not wanted or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _orthogonal(rows: int, columns: int, source: Source) -> Tensor:
    drawn = source.normal((max(rows, columns), min(rows, columns)), 1.0)
    with _one_thread(drawn.device.type == "cpu"):
        q, r = torch.linalg.qr(drawn)
    diagonal = r.diagonal()
    q.mul_(torch.where(diagonal == 0, torch.ones_like(diagonal), diagonal.sgn()))
    matrix: Tensor = q if rows >= columns else q.mT
    return matrix.contiguous()


def orthogonal(
    shape: Sequence[int], gain: float | str = 1.0, conv: str = "flattened", **drawn: Unpack[Drawn]
) -> Tensor:
    """A weight (out, in, *kernel) with orthonormal rows or columns, times gain; `Orthogonal` says more.

    >>> import torch
    >>> w = orthogonal((3, 5), dtype=torch.float64)
    >>> torch.allclose(w @ w.T, torch.eye(3, dtype=torch.float64))
    True
    """
    return Orthogonal(gain, conv)(shape, **drawn)
