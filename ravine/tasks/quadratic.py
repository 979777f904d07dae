"""A noisy quadratic bowl, badly conditioned, whose minimum is known."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ravine.core.batches import Batch
from ravine.core.task import Task

SIZE, CONDITION, NOISE = 50, 1e3, 0.1


class _Point(nn.Module):
    """A place in the bowl, x of shape (SIZE,)."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.randn(SIZE))

    def forward(self) -> Tensor:
        return self.x


def _hessian() -> Tensor:
    """Eigenvalues from 1 / CONDITION to 1, evenly in the logarithm, in a fixed random basis."""
    basis = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    values = torch.logspace(0, -3, SIZE, dtype=torch.float64)
    hessian: Tensor = (basis * values) @ basis.T
    return hessian.float()


def quadratic() -> Task:
    """A noisy quadratic in 50 dimensions, condition number 1000, with known minimum (excess loss)."""
    hessian = _hessian()

    def draw(generator: torch.Generator) -> Iterator[Batch]:
        while True:
            yield NOISE * torch.randn(1, SIZE, generator=generator)

    def excess(model: nn.Module, data: object = None) -> Tensor:
        x = model()
        value: Tensor = 0.5 * x @ (hessian.to(x) @ x)
        return value

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        """The excess plus a random slope, so that its gradient is the true one plus noise."""
        slope: Tensor = (batch.mean(0) * model()).sum()
        return excess(model) + slope

    return Task(
        name="quadratic",
        model=_Point,
        loss=loss,
        train=draw,
        valid=(),
        test=(),
        metric=lambda model, data: excess(model).item(),
        metric_name="excess loss",
        better="lower",
        batch_size=1,
    )
