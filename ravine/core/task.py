"""A task: the problem being optimized. What is minimized and what is judged are different things and stay so."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.batches import Batch, check_data, leading_size, length
from ravine.core.declared import check_value
from ravine.core.errors import RavineError, unknown
from ravine.core.modes import evaluating

BETTER = ("higher", "lower")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A problem to optimize.

    model() builds a fresh model; its initial weights are drawn from torch's global generator, which each run seeds.
    loss(model, batch) is the scalar that is minimized, the mean over the batch.
    metric(model, data) is the number that is judged, on `valid` while training and on `test` at the end; `better`
        says which way is better, `goal` which value is good enough.
    train is drawn from in batches of `batch_size`, see `ravine.core.batches`; valid and test go to `metric` whole.
    size(batch) is the number of examples where it is not the leading dimension of the batch's first tensor.
    forward(model, batch) and criterion(outputs, batch) split the loss in two for Gauss-Newton methods.
    sample(outputs, batch) is the batch with targets drawn from the model's own predictions, and the number of draws
        over which the criterion takes its mean, for rules that look at curvature without labels.
    metric_name is what tables call the metric.
    """

    name: str
    model: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Batch], Tensor]
    train: Any
    valid: Any
    metric: Callable[[nn.Module, Any], float]
    better: str = "higher"
    goal: float | None = None
    test: Any = None
    batch_size: int = 64
    size: Callable[[Batch], int] | None = None
    forward: Callable[[nn.Module, Batch], Any] | None = None
    criterion: Callable[[Any, Batch], Tensor] | None = None
    sample: Callable[[Any, Batch], tuple[Batch, int]] | None = None
    metric_name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise RavineError(f"a task's name must be text, got {self.name!r}")
        if isinstance(self.model, nn.Module):
            raise RavineError(
                f"task '{self.name}': model must be a function that builds a fresh model, got a "
                f"{type(self.model).__name__}: write model=lambda: ... or model=make_model"
            )
        for field in ("model", "loss", "metric", "size", "forward", "criterion", "sample"):
            value = getattr(self, field)
            if not callable(value) and (value is not None or field in ("model", "loss", "metric")):
                raise RavineError(f"task '{self.name}': {field} must be a function, got {value!r}")
        check_value(f"task '{self.name}': goal", self.goal, float | None, None)
        if self.better not in BETTER:
            raise unknown(f"direction of task '{self.name}' (better=)", str(self.better), BETTER)
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise RavineError(f"task '{self.name}': batch_size must be a whole number from 1, got {self.batch_size!r}")
        check_data("train", self.train)
        n = length(self.train)
        if n is not None and n < self.batch_size:
            raise RavineError(f"task '{self.name}': batch_size={self.batch_size} but train has {n} examples")
        if not self.metric_name:
            name = getattr(self.metric, "__name__", "metric")
            object.__setattr__(self, "metric_name", "metric" if name == "<lambda>" else name)

    def examples(self, batch: Batch) -> int:
        """The number of examples in `batch`."""
        found = self.size(batch) if self.size else leading_size(batch)
        if found is None:
            kind = type(batch).__name__
            raise RavineError(f"cannot tell the size of a batch of type {kind}: give the task size=")
        return int(found)

    def is_better(self, a: float, b: float) -> bool:
        """Whether metric value `a` is better than `b`; NaN is worse than anything."""
        if a != a or b != b:
            return a == a
        return a > b if self.better == "higher" else a < b

    def judge(self, model: nn.Module, data: Any) -> float:
        """The metric on `data` in evaluation mode without gradients; the model's modes are left as they were."""
        with evaluating(model), torch.no_grad():
            return float(self.metric(model, data))
