"""The spectral measure of a vector by Gauss quadrature from Lanczos's tridiagonal matrix, and how far it may be off."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ravine.curvature.lanczos import Basis


@dataclass(frozen=True)
class Quadrature:
    """The measure that puts (uᵢᵀ v)² at each eigenvalue λᵢ of A with vector uᵢ, as `weights` (sum 1) at `nodes`.

    Its first 2 m moments are right (Golub & Welsch 1969; Golub & Meurant 2010, thm. 6.3).
    """

    nodes: Tensor
    weights: Tensor
    alpha: Tensor
    beta: Tensor

    @property
    def exact(self) -> bool:
        """Whether Lanczos has found the space invariant, so that the measure is known altogether."""
        return float(self.beta[-1]) == 0.0

    def up_to(self, x: Tensor) -> Tensor:
        """The weight up to each x."""
        return up_to(x, self.nodes, self.weights)

    def coarser(self) -> "Quadrature":
        """That of half the steps; the same where the space is invariant, since it is exact then."""
        if self.exact:
            return self
        fewer = max(1, len(self.alpha) // 2)
        return _gauss(self.alpha[:fewer], self.beta[:fewer])

    def averaged(self) -> tuple[Tensor, Tensor]:
        """Nodes and weights of twice the steps less one, for smooth functions: T goes on as its own mirror image.

        The generalized averaged rule (Spalević 2007, Math. Comp. 76), right in one moment more than Gauss's, whose
        error it cancels with that of a rule between its nodes. Outermost nodes may lie outside of the spectrum.
        """
        if self.exact or len(self.alpha) < 3:
            return self.nodes, self.weights
        alpha = torch.cat([self.alpha, self.alpha[:-1].flip(0)])
        beta = torch.cat([self.beta, self.beta[:-2].flip(0), self.beta[:1]])
        wide = _gauss(alpha, beta)
        return wide.nodes, wide.weights

    def off(self, x: Tensor) -> Tensor:
        """How far the weight up to each x may be off: not further than 1 / Σ pₖ(x)², k < m, with pₖ the orthonormal
        polynomials of the measure (Akhiezer 1965, sec. 2.5, after Chebyshev, Markov and Stieltjes).

        It is zero where the measure is exact.
        """
        if self.exact:
            return torch.zeros_like(x)
        before, here = torch.zeros_like(x), torch.ones_like(x)
        total, down = here.square(), 0.0
        for alpha, up in zip(self.alpha[:-1].tolist(), self.beta[:-1].tolist(), strict=True):
            before, here = here, ((x - alpha) * here - down * before) / up
            large = total > 1e30  # the polynomials grow without end outside of the spectrum
            before, here = before.masked_fill(large, 0.0), here.masked_fill(large, 0.0)
            total, down = total + here.square(), up
        return 1.0 / total


def up_to(x: Tensor, nodes: Tensor, weights: Tensor) -> Tensor:
    """The sum of the weights at ascending nodes up to each x."""
    sums = torch.cat([weights.new_zeros(1), weights.cumsum(0)])
    return sums[torch.searchsorted(nodes, x, right=True)]


def quadrature(basis: Basis) -> Quadrature:
    """That of the vector that the basis began with."""
    # What comes behind a zero in beta belongs to another vector.
    size = next((i + 1 for i, beta in enumerate(basis.beta) if beta == 0.0), len(basis))
    return _gauss(*(torch.tensor(one[:size], dtype=torch.float64) for one in (basis.alpha, basis.beta)))


def _gauss(alpha: Tensor, beta: Tensor) -> Quadrature:
    beside = beta[:-1]
    nodes, turned = torch.linalg.eigh(torch.diag(alpha) + torch.diag(beside, 1) + torch.diag(beside, -1))
    return Quadrature(nodes, turned[0].square(), alpha, beta)
