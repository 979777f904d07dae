"""The linear autoencoder x -> A B x, whose critical points Baldi & Hornik (1989) list: one set for each choice of
at most p of the covariance's n eigenvectors.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

N, P = 6, 3
SIZE = 2 * N * P
Choice = tuple[int, ...]


class Autoencoder(NamedTuple):
    """The covariance of the data: eigenvalues in descending order, eigenvectors in columns."""

    values: Tensor
    vectors: Tensor

    @property
    def covariance(self) -> Tensor:
        return self.vectors @ torch.diag(self.values) @ self.vectors.T

    def cost(self, theta: Tensor) -> Tensor:
        """½ E‖x - A B x‖², for A (n, p) and B (p, n) as one vector."""
        rest = torch.eye(N, dtype=theta.dtype) - theta[: N * P].view(N, P) @ theta[N * P :].view(P, N)
        return (rest @ self.covariance * rest).sum() / 2

    def cost_of(self, choice: Choice) -> float:
        """At the critical points of a choice: half the variance that it leaves out."""
        return float(self.values.sum() - self.values[list(choice)].sum()) / 2

    def index_of(self, choice: Choice) -> int:
        """Negative eigenvalues there: for each chosen, the larger ones left out, and each idle unit has n - r."""
        left = set(range(N)) - set(choice)
        larger = sum(j < i for i in choice for j in left)
        return larger + (P - len(choice)) * len(left)

    def point(self, choice: Choice, generator: torch.Generator) -> Tensor:
        """One of its critical points: A = [U 0] C and B = C⁻¹ [U 0]', C near a random rotation."""
        u = torch.zeros(N, P, dtype=torch.float64)
        u[:, : len(choice)] = self.vectors[:, list(choice)]
        c = torch.linalg.qr(torch.randn(P, P, generator=generator, dtype=torch.float64)).Q
        c = c @ torch.diag(torch.empty(P, dtype=torch.float64).uniform_(0.7, 1.4, generator=generator))
        return torch.cat([(u @ c).flatten(), torch.linalg.solve(c, u.T).flatten()])

    def derivatives(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """The gradient and the dense Hessian of the cost."""
        return torch.func.grad(self.cost), torch.func.jacrev(torch.func.grad(self.cost))


def autoencoder(generator: torch.Generator) -> Autoencoder:
    """For the sample covariance of 4 n normal points, whose true one has variances n, n - 1, ..., 1."""
    x = torch.randn(4 * N, N, generator=generator, dtype=torch.float64) * torch.arange(N, 0, -1).double().sqrt()
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    return Autoencoder(values.flip(0), vectors.flip(1))


def choices() -> Iterator[Choice]:
    """All sets of at most p eigenvectors, by their places."""
    for r in range(P + 1):
        yield from combinations(range(N), r)
