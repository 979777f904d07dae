"""Continuation: an easier objective that turns into the true one on the way."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ravine.core.batches import Batch
from ravine.core.declared import check_value
from ravine.core.errors import RavineError, unknown
from ravine.core.task import Task
from ravine.strategies.stages import check_task
from ravine.strategies.timed import timed

WHERE = ("weights", "inputs")
Fade = Callable[[float], float]


def smoothed(
    task: Task, steps: int, sigma: float = 0.1, *, of: str = "weights", samples: int = 1, fade: Fade | None = None
) -> Task:
    """The task with its loss blurred by Gaussian noise whose width goes to zero.

    J_t(theta) = E L(theta + sigma_t e), e ~ N(0, I), sigma_t = sigma fade(t / steps), as the mean of `samples` draws
    for each batch (Goodfellow, Bengio & Courville 2016, eq. 8.40 and 8.41). After `steps` batches it is the true loss.
    of: "weights" blurs in the space of the parameters, "inputs" the first tensor of every batch.
    fade: from time in [0, 1) to the share of sigma that is left; 1 - time unless given.

    What is judged is the plain model. The noise is drawn from the run's own chance, so that runs resume. A gradient
    costs `samples` times as much and is counted once.
    """
    check_task("smoothed", task)
    check_value("steps", steps, int, "[1, inf)")
    check_value("sigma", sigma, float, "(0, inf)")
    check_value("samples", samples, int, "[1, inf)")
    if of not in WHERE:
        raise unknown("place of the noise (of=)", str(of), WHERE)

    def loss(model: nn.Module, batch: Batch, time: float) -> Tensor:
        width = 0.0 if time >= 1 else sigma * (1 - time if fade is None else fade(time))
        if width == 0.0:
            return task.loss(model, batch)
        once = _moved_weights if of == "weights" else _moved_inputs
        return torch.stack([once(task, model, batch, width) for _ in range(samples)]).mean()

    return timed(task, steps, loss)


class _Lost(nn.Module):
    """A model's loss as a module of its own, so that its weights can be exchanged for a call."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._loss = task.loss

    def forward(self, batch: Batch) -> Tensor:
        return self._loss(self.model, batch)


def _moved_weights(task: Task, model: nn.Module, batch: Batch, width: float) -> Tensor:
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    moved = {f"model.{name}": p + width * torch.randn_like(p) for name, p in trainable.items()}
    found: Tensor = functional_call(_Lost(task, model), moved, (batch,))
    return found


def _moved_inputs(task: Task, model: nn.Module, batch: Batch, width: float) -> Tensor:
    if isinstance(batch, dict):
        first = next(iter(batch))
        return task.loss(model, batch | {first: _noisy(task, batch[first], width)})
    return task.loss(model, (_noisy(task, batch[0], width), *batch[1:]))


def _noisy(task: Task, x: Tensor, width: float) -> Tensor:
    if not x.is_floating_point():
        raise RavineError(
            f"the inputs of task '{task.name}' are {x.dtype}, to which noise cannot be added: use of='weights'"
        )
    return x + width * torch.randn_like(x)


def blended(task: Task, easy: Callable[[nn.Module, Batch], Tensor], steps: int, fade: Fade | None = None) -> Task:
    """The task with a loss that goes from an easier one to its own: s easy + (1 - s) loss, s = fade(t / steps).

    easy: a loss of model and batch. fade: from time in [0, 1) to the share of the easy loss; 1 - time unless given.
    After `steps` batches it is the true loss.
    """
    check_task("blended", task)
    check_value("steps", steps, int, "[1, inf)")
    if not callable(easy):
        raise RavineError(f"easy must be a loss, a function of model and batch, got {easy!r}")

    def loss(model: nn.Module, batch: Batch, time: float) -> Tensor:
        share = 0.0 if time >= 1 else (1 - time if fade is None else fade(time))
        own = task.loss(model, batch)
        return own if share == 0.0 else share * easy(model, batch) + (1 - share) * own

    return timed(task, steps, loss)
