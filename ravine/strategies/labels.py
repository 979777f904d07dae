"""Labels: whether they fit what a model gives, and tasks made of some of the classes."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.batches import picker, to
from ravine.core.declared import check_value
from ravine.core.errors import RavineError
from ravine.core.seeds import GlobalStream, derive, generator
from ravine.core.task import Task
from ravine.nn.tracing import example_batch, features, run_on
from ravine.weights import fresh

_PARTS = ("train", "valid", "test")
_TRIED = 20  # labels outside the classes that are tried one by one


def check_labels(task: Task) -> None:
    """Raise where labels of the task are whole numbers outside the classes that its model gives.

    Looked at are labels that are at hand as a tensor beside the inputs, of all of train, valid and test. One that the
    task's loss takes all the same, such as a criterion's `ignore_index`, is none of these. What else may be wrong with
    the task is left to its dry run.
    """
    try:
        model = fresh(task).eval()
        run = run_on(task, to(example_batch(task), next(model.parameters()).device))
        with torch.no_grad(), GlobalStream(derive(0, "labels")):
            outputs = features(model, [""], lambda: run(model))[""]
    except Exception:
        return
    for part in _PARTS:
        data = getattr(task, part)
        labels = _labels(data)
        classes = None if labels is None else _classes(outputs, labels)
        if labels is None or classes is None:
            continue
        there: Tensor = torch.unique(labels)
        wrong = [label for label in there.tolist() if not 0 <= label < classes][:_TRIED]
        refused = [label for label in wrong if not _taken(task, model, data, labels, label)]
        if refused:
            way, end = ("up", max(refused)) if max(refused) >= classes else ("down", min(refused))
            raise RavineError(
                f"task '{task.name}': labels of {part} go {way} to {end}, but the model gives {classes} classes, 0 to "
                f"{classes - 1}: make its last layer wider, or number the classes from 0"
            )


def _classes(outputs: Tensor, labels: Tensor) -> int | None:
    """How many classes the outputs tell apart, where they are of a shape with such labels."""
    shape, behind = tuple(outputs.shape), tuple(labels.shape[1:])
    if len(shape) < 2 or behind not in (shape[1:-1], shape[2:]):
        return None
    classes = shape[-1] if behind == shape[1:-1] else shape[1]
    return classes if classes > 1 else None


def _taken(task: Task, model: nn.Module, data: Any, labels: Tensor, label: int) -> bool:
    """Whether the loss takes a batch of examples with this label."""
    example = int((labels == label).nonzero()[0, 0])
    batch = to(picker(data)(torch.full((task.batch_size,), example)), next(model.parameters()).device)
    try:
        with torch.no_grad(), GlobalStream(derive(0, "labels")):
            task.loss(model, batch)
    except Exception:
        return False
    return True


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
    check_value("seed", seed, int, "[0, inf)")
    check_value("few", few, int | None, "[1, inf)")
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
    parts = {key: _of(getattr(task, key), classes) for key in _PARTS}
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
