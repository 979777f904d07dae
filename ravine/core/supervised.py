"""The ordinary task: inputs, targets and a criterion."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.batches import Batch, check_data, in_order, length, to
from ravine.core.errors import RavineError, unknown
from ravine.core.sampling import draw_for
from ravine.core.task import Task

_EVALUATION_BATCH = 1024


def supervised(
    *,
    name: str,
    model: Callable[[], nn.Module],
    criterion: Callable[[Any, Any], Tensor],
    train: Any,
    valid: Any,
    metric: str | Callable[[Any, Any], float] = "accuracy",
    better: str | None = None,
    goal: float | None = None,
    test: Any = None,
    batch_size: int = 64,
) -> Task:
    """The task of predicting targets from inputs: batches are `(x, y)` and the loss is `criterion(model(x), y)`.

    metric: "accuracy", "error" (share of wrong classes), "loss" (the criterion), "mse" or "mae", averaged over the
        data; or a function of all outputs and all targets, with `better="higher"` or "lower".

    >>> import torch, ravine
    >>> x = torch.randn(100, 3); y = (x.sum(1) > 0).long()
    >>> task = ravine.supervised(name="signs", model=lambda: torch.nn.Linear(3, 2), train=(x, y), valid=(x, y),
    ...                          criterion=torch.nn.CrossEntropyLoss())
    >>> task.better
    'higher'
    """
    if isinstance(metric, str) and metric not in METRICS | {"loss": None}:
        raise unknown("metric", metric, (*METRICS, "loss"), "Or give a function of outputs and targets with better=.")
    for owner, data in (("valid", valid), ("test", test)):
        if data is not None:
            check_data(owner, data)
            if length(data) is None:
                raise RavineError(f"{owner} is judged from its first example to its last: give tensors or a dataset")
    if not isinstance(metric, str) and better is None:
        raise RavineError("a metric of your own needs better='higher' or better='lower'")
    measure = _Metric(metric, criterion)
    return Task(
        name=name,
        model=model,
        loss=lambda model, batch: criterion(model(batch[0]), batch[1]),
        train=train,
        valid=valid,
        metric=measure,
        better=better or ("higher" if metric == "accuracy" else "lower"),
        goal=goal,
        test=test,
        batch_size=batch_size,
        forward=lambda model, batch: model(batch[0]),
        criterion=lambda outputs, batch: criterion(outputs, batch[1]),
        sample=_sample(criterion),
        metric_name=metric if isinstance(metric, str) else getattr(metric, "__name__", "metric"),
    )


def _sample(criterion: Callable[[Any, Any], Tensor]) -> Callable[[Any, Batch], tuple[Batch, int]] | None:
    draw = draw_for(criterion)
    if draw is None:
        return None

    def sample(outputs: Any, batch: Batch) -> tuple[Batch, int]:
        targets, count = draw(outputs, batch[1])
        return (batch[0], targets), count

    return sample


def _correct(outputs: Tensor, targets: Tensor) -> float:
    if outputs.ndim < 2 or outputs.shape[1] < 2 or outputs.shape[:1] + outputs.shape[2:] != targets.shape:
        shapes = f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"
        raise RavineError(f"classes are judged on outputs (examples, classes) and targets (examples,), got {shapes}")
    return (outputs.argmax(1) == targets).sum().item() / targets.numel()


def _wrong(outputs: Tensor, targets: Tensor) -> float:
    return 1 - _correct(outputs, targets)


def _squared(outputs: Tensor, targets: Tensor) -> float:
    _same_shape(outputs, targets)
    return (outputs - targets).double().square().mean().item()


def _absolute(outputs: Tensor, targets: Tensor) -> float:
    _same_shape(outputs, targets)
    return (outputs - targets).double().abs().mean().item()


def _same_shape(outputs: Tensor, targets: Tensor) -> None:
    if outputs.shape != targets.shape:
        raise RavineError(f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} differ in shape")


METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "accuracy": _correct,
    "error": _wrong,
    "mse": _squared,
    "mae": _absolute,
}


@dataclass(frozen=True)
class _Metric:
    """Goes through the data in batches: a named metric is averaged, a function of the user's sees everything."""

    metric: str | Callable[[Any, Any], float]
    criterion: Callable[[Any, Any], Tensor]

    def __call__(self, model: nn.Module, data: Any) -> float:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        parts = ((model(x), y) for x, y in (to(batch, device) for batch in in_order(data, _EVALUATION_BATCH)))
        if not isinstance(self.metric, str):
            outputs, targets = zip(*parts, strict=True)
            return float(self.metric(torch.cat(outputs), torch.cat(targets)))
        measure = METRICS.get(self.metric, self._loss)
        total = count = 0.0
        for outputs, targets in parts:
            total += measure(outputs, targets) * len(targets)
            count += len(targets)
        return total / count

    def _loss(self, outputs: Tensor, targets: Tensor) -> float:
        return float(self.criterion(outputs, targets).item())
