"""Labels: whether they fit what a model gives, and tasks made of some of the classes."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.seeds import generator
from ravine.core.task import Task


def check_labels(task: Task, outputs: Any) -> None:
    """Raise where the task's labels are whole numbers beyond the classes of the model's `outputs`.

    Looked at are labels that are at hand as a tensor beside the inputs.
    """
    labels = _labels(task.train)
    if labels is None or not isinstance(outputs, Tensor) or outputs.ndim < 2 or labels.ndim != outputs.ndim - 1:
        return
    last = outputs.shape[:-1] == (len(outputs), *labels.shape[1:])
    classes = outputs.shape[-1] if last else outputs.shape[1]
    highest = int(labels.max())
    if highest >= classes:
        raise RavineError(
            f"task '{task.name}': labels go up to {highest}, but the model gives {classes} classes, 0 to "
            f"{classes - 1}: make its last layer wider, or number the classes from 0"
        )


def _labels(data: Any) -> Tensor | None:
    pair = data if isinstance(data, tuple | list) and len(data) == 2 else getattr(data, "tensors", ())
    second: Any = tuple(pair)[-1] if len(pair) == 2 else None
    found = second if isinstance(second, Tensor) else None
    return found if found is not None and not found.is_floating_point() and found.numel() else None


def class_halves(task: Task, seed: int = 0, few: int | None = None) -> tuple[Task, Task]:
    """The task as two: a random half of its classes each, numbered from 0 (Yosinski et al. 2014, section 3).

    few: so many training examples of each class in the second, unless None. The models stay as they are, with outputs
    for all classes. Raises `RavineError` unless the data are pairs of tensors whose labels are whole numbers.
    """
    labels = _labels(task.train)
    if labels is None or labels.ndim != 1:
        raise RavineError(
            f"task '{task.name}' cannot be halved by its classes: its data must be a pair of tensors with one whole "
            "number as the label of each example; give two tasks"
        )
    classes: Tensor = torch.unique(labels)
    if len(classes) < 4:
        raise RavineError(f"task '{task.name}' has {len(classes)} classes: halves need two each, so four at least")
    order = classes[torch.randperm(len(classes), generator=generator(seed, "halves"))]
    first, second = order[: len(order) // 2].sort().values, order[len(order) // 2 :].sort().values
    return _part(task, "A", first, None, seed), _part(task, "B", second, few, seed)


def _part(task: Task, name: str, classes: Tensor, few: int | None, seed: int) -> Task:
    parts = {key: _of(getattr(task, key), classes) for key in ("train", "valid", "test")}
    if few is not None:
        x, y = parts["train"]
        order = torch.randperm(len(y), generator=generator(seed, "few"))
        kept = torch.cat([order[y[order] == label][:few] for label in range(len(classes))])
        parts["train"] = x[kept], y[kept]
    size = min(task.batch_size, len(parts["train"][1]))
    return dataclasses.replace(task, name=f"{task.name}-{name}", batch_size=size, **parts)


def _of(data: Any, classes: Tensor) -> Any:
    if data is None:
        return None
    x, y = getattr(data, "tensors", data)
    chosen = torch.isin(y, classes)
    return x[chosen], torch.searchsorted(classes, y[chosen])
