"""The curvature of a task: an operator made of what the task says of itself."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.batches import Batch, length, picker, to
from ravine.core.errors import RavineError, unknown
from ravine.core.operator import Operator
from ravine.core.task import Task
from ravine.curvature.ekfac import ekfac
from ravine.curvature.fisher import fisher
from ravine.curvature.gauss_newton import gauss_newton
from ravine.curvature.hessian import hessian
from ravine.curvature.kfac import kfac
from ravine.curvature.problem import Params

MAKERS = {"gauss_newton": gauss_newton, "fisher": fisher, "empirical_fisher": fisher, "kfac": kfac, "ekfac": ekfac}
KINDS = ("hessian", *MAKERS)
_AT_ONCE = 1024


def of_task(
    task: Task,
    model: nn.Module | None = None,
    kind: str = "hessian",
    examples: int | None = None,
    params: Params = None,
    **options: Any,
) -> Operator:
    """The curvature of the task's mean loss over its training data, at the model's parameters.

    kind: "hessian", "gauss_newton", "fisher", "empirical_fisher", "kfac" or "ekfac"; `options` are those of that maker.
    The true Fisher draws by the task's `sample` unless told its distribution. model: a fresh one of the task's unless
    given; train mode is respected. examples: the first so many; all, unless given, in batches of 1024. Of data without
    end, drawn from seed 0, as many batches as hold so many.

    Raises `RavineError` where the task lacks what the kind needs.

    >>> import ravine
    >>> of_task(ravine.task("digits-mlp"), examples=100, params="0").shape
    (4160, 4160)
    """
    check_asked(task, kind, examples, options)
    model = task.model() if model is None else model
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    data = _batches(task, examples, device)
    if kind == "hessian":
        return hessian(model, task.loss, data, params, size=task.examples, **options)
    if kind == "fisher" and "distribution" not in options:
        options = {"sample": task.sample} | options
    if kind == "empirical_fisher":
        options = options | {"kind": "empirical"}
    made: Operator = MAKERS[kind](model, task.forward, task.criterion, data, params, size=task.examples, **options)  # type: ignore[operator]
    return made


def check_asked(task: Task, kind: str, examples: int | None = None, options: Mapping[str, Any] = {}) -> None:
    """Raise unless the task has that kind of curvature and so many examples."""
    if kind not in KINDS:
        raise unknown("kind of curvature", kind, KINDS)
    _check_fields(task, kind, options)
    _check_examples(task, examples)


def _check_fields(task: Task, kind: str, options: Mapping[str, Any]) -> None:
    if kind == "hessian":
        return
    missing = [field for field in ("forward", "criterion") if getattr(task, field) is None]
    if missing:
        raise RavineError(
            f"the task '{task.name}' has no {' and no '.join(missing)}, which split its loss in two for "
            f"kind='{kind}': it gets kind='hessian' only"
        )
    if kind == "fisher" and task.sample is None and not {"sample", "distribution"} & set(options):
        raise RavineError(
            f"the task '{task.name}' has no sample, which draws targets from the model's predictions for "
            "kind='fisher': give sample= or distribution=, or take kind='gauss_newton'"
        )


def _check_examples(task: Task, examples: int | None) -> None:
    n = length(task.train)
    if examples is None:
        if n is None:
            raise RavineError(f"the training data of the task '{task.name}' have no end: give examples=")
        return
    if isinstance(examples, bool) or not isinstance(examples, int) or not 1 <= examples <= (n or examples):
        upto = f" to {n}, which the task '{task.name}' has" if n else ""
        raise RavineError(f"examples must be a whole number from 1{upto}, got {examples!r}")


@dataclass(frozen=True)
class _Batches:
    """Batches that can be gone through again and again; not a list, which of tensors would be one batch."""

    start: Callable[[], Iterator[Batch]]

    def __iter__(self) -> Iterator[Batch]:
        return self.start()


def _batches(task: Task, examples: int | None, device: torch.device) -> Any:
    n = length(task.train)
    if n is None:
        assert examples is not None
        found = list(_drawn(task, examples, device))
        return _single(found[0]) if len(found) == 1 else _Batches(lambda: iter(found))
    count = n if examples is None else examples
    pick = picker(task.train)

    def in_order() -> Iterator[Batch]:
        for start in range(0, count, _AT_ONCE):
            yield to(pick(torch.arange(start, min(start + _AT_ONCE, count))), device)

    return _single(next(in_order())) if count <= _AT_ONCE else _Batches(in_order)


def _single(batch: Batch) -> Any:
    return batch if isinstance(batch, Tensor) else [batch]


def _drawn(task: Task, examples: int, device: torch.device) -> Iterator[Batch]:
    """Batches of data without end, until there are so many examples or more."""
    count = 0
    for batch in task.train(torch.Generator().manual_seed(0)):
        yield to(batch, device)
        if (count := count + task.examples(batch)) >= examples:
            return
    raise RavineError(f"the training data of the task '{task.name}' ended after {count} examples, {examples} asked for")
