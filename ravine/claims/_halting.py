"""Training that halts by early stopping, and where it stands then: a small network on digits with wrong labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

from ravine.optimizer import Optimizer
from ravine.rules import SGD

WIDTHS = (64, 16, 10)  # 1,210 parameters
EXAMPLES, VALID, NOISE, BATCH, PATIENCE = 400, 400, 0.2, 20, 30
SETTING = (
    "MLP 64-16-10 (tanh, 1,210 parameters) on 400 digits, a fifth of the labels drawn anew, float64; SGD at 0.1, "
    "batches of 20; halts after 30 epochs without a lower 0-1 error on 400 validation digits of the same noise and "
    "returns to the best weights"
)
Array = NDArray[np.float64]
Draw = Callable[..., torch.Generator]


@dataclass(frozen=True)
class Halt:
    """A run that early stopping ended: its training loss, weights at the start and at the stop, epoch of the stop."""

    loss: Callable[[Tensor], Tensor]
    start: Tensor
    stop: Tensor
    epoch: int
    norms: Sequence[float]
    """The norm of the full gradient after each epoch, from 0 on."""

    def gradient(self, theta: Tensor) -> Tensor:
        """That of the whole training loss."""
        found: Tensor = torch.func.grad(self.loss)(theta)
        return found

    def hessian(self, theta: Tensor) -> Tensor:
        """That of the whole training loss, dense."""
        found: Tensor = torch.func.jacrev(torch.func.grad(self.loss), chunk_size=128)(theta)
        return (found + found.T) / 2

    def minimized(self, norm: float) -> tuple[Tensor, list[float]]:
        """Where L-BFGS gets from the stop until the gradient is shorter than `norm`; its norm at each evaluation."""
        norms: list[float] = []

        def both(theta: Array) -> tuple[float, Array]:
            at = torch.from_numpy(theta).requires_grad_()
            loss = self.loss(at)
            (gradient,) = torch.autograd.grad(loss, at)
            norms.append(gradient.norm().item())
            return loss.item(), gradient.numpy()

        bound = norm / len(self.stop) ** 0.5  # scipy looks at the largest entry
        limits = {"gtol": bound, "ftol": 0, "maxiter": 20000, "maxfun": 40000, "maxcor": 20}
        solve: Any = minimize  # its types do not tell jac=True from a function
        found = solve(both, self.stop.numpy(), jac=True, method="L-BFGS-B", options=limits)
        return torch.from_numpy(found.x), norms


def halted(draw: Draw, i: int) -> Halt:
    """The i-th run: its own digits, noise, first weights and order of the data."""
    (x, y), (x_valid, y_valid) = _noisy_digits(draw("data", i))
    theta = _first_weights(draw("init", i)).requires_grad_()
    optimizer, chance = Optimizer([theta], SGD(), lr=0.1), draw("order", i)
    start = stop = theta.detach().clone()
    lowest, best, epoch = 1.0, 0, 0
    norms = []
    while epoch <= best + PATIENCE:
        theta.grad = torch.autograd.grad(_loss(theta, x, y), theta)[0]
        norms.append(theta.grad.norm().item())
        for rows in torch.split(torch.randperm(EXAMPLES, generator=chance), BATCH):
            theta.grad = torch.autograd.grad(_loss(theta, x[rows], y[rows]), theta)[0]
            optimizer.step()
        epoch += 1
        wrong = (_outputs(theta, x_valid).argmax(1) != y_valid).double().mean().item()
        if wrong < lowest:
            lowest, best, stop = wrong, epoch, theta.detach().clone()
    return Halt(lambda at: _loss(at, x, y), start, stop, best, norms)


def _noisy_digits(generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=generator)[: EXAMPLES + VALID]
    x, y = torch.tensor(images / 16)[order], torch.tensor(labels)[order]
    wrong = torch.rand(len(y), generator=generator) < NOISE
    y = torch.where(wrong, torch.randint(10, y.shape, generator=generator), y)
    return [(x[:EXAMPLES], y[:EXAMPLES]), (x[EXAMPLES:], y[EXAMPLES:])]


def _first_weights(generator: torch.Generator) -> Tensor:
    """Weights of variance 1 / fan-in and biases 0, as one vector."""
    a, b, c = WIDTHS
    first = torch.randn(a * b, dtype=torch.float64, generator=generator) / a**0.5
    second = torch.randn(b * c, dtype=torch.float64, generator=generator) / b**0.5
    return torch.cat([first, first.new_zeros(b), second, second.new_zeros(c)])


def _outputs(theta: Tensor, x: Tensor) -> Tensor:
    a, b, c = WIDTHS
    first, bias, second, last = torch.split(theta, [a * b, b, b * c, c])
    return torch.tanh(x @ first.view(a, b) + bias) @ second.view(b, c) + last


def _loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(_outputs(theta, x), y)
