"""Auxiliary heads: predictions from inside a model, whose losses bring gradients to its lower layers."""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.batches import Batch
from ravine.core.declared import check_value
from ravine.core.errors import RavineError
from ravine.core.task import Task
from ravine.nn.chain import arguments
from ravine.nn.fitting import Unfit, channels_second, head
from ravine.nn.layers import named
from ravine.nn.tracing import example_batch, features, first_tensor, run_on

At = str | Sequence[str] | Mapping[str, nn.Module]


class Headed(nn.Module):
    """A model with auxiliary heads (Lee et al. 2015; Szegedy et al. 2015, section 5).

    In training mode a call returns what `model` returns and keeps what the heads predict, for `auxiliary`. In
    evaluation mode it is the plain model: the heads are not run.
    """

    def __init__(self, model: nn.Module, heads: Mapping[str, nn.Module], weight: float) -> None:
        super().__init__()
        self.model = model
        self.at = tuple(heads)
        self.heads = nn.ModuleList(heads.values())
        self.weight = weight
        self._predicted: list[Any] = []

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own output."""
        if not self.training:
            return self.model(*args, **kwargs)
        out: list[Any] = []
        seen = features(self.model, self.at, lambda: out.append(self.model(*args, **kwargs)), stop=False)
        self._predicted = [predict(seen[name]) for name, predict in zip(self.at, self.heads, strict=True)]
        return out[0]

    def auxiliary(self, criterion: Callable[[Any], Tensor]) -> Tensor | float:
        """`weight` times the sum of the criterion over what the heads predicted in the last call; 0.0 in evaluation.

        >>> loss = criterion(model(x), y) + model.auxiliary(lambda out: criterion(out, y))      # doctest: +SKIP
        """
        predicted, self._predicted = self._predicted, []
        if not self.training:
            return 0.0
        if not predicted:
            raise RavineError("the heads have predicted nothing: call the model first, once for each auxiliary loss")
        return self.weight * torch.stack([criterion(one) for one in predicted]).sum()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_predicted": []}  # tensors with a history cannot be copied


def with_heads(model: nn.Module, at: At, weight: float = 0.3, *, example: Any = None) -> Headed:
    """A copy of `model` with an auxiliary head behind each of the modules named in `at`.

    A head is the mean over space or time where the output has none, and a linear map to the output's shape; or one
    of your own, where `at` maps names to modules. example: a batch of inputs, a tuple for several; not needed for an
    `nn.Sequential` that begins with a linear layer or an embedding. weight: 0.3 as in Szegedy et al. 2015.

    The heads' losses join the training loss by `Headed.auxiliary` in a loop of your own and by `heads_task` in
    `ravine.train`. `without_heads` gives the plain model back. Raises `RavineError` for a name that does not exist and
    for shapes from which no head can be built.
    """
    inputs = arguments(model, example)
    return _headed(model, at, weight, lambda copied: copied(*inputs))


def without_heads(model: nn.Module) -> nn.Module:
    """The model inside, with what it has learnt; the heads stay behind."""
    if not isinstance(model, Headed):
        raise RavineError(f"without_heads takes what with_heads made, got a {type(model).__name__}")
    return model.model


def heads_task(task: Task, at: At | None = None, weight: float = 0.3) -> Task:
    """The same task with auxiliary heads in its model and their losses in its loss, for `ravine.train` and races.

    at: where the heads go, see `with_heads`; None where the task's model has them already. The loss is the task's own
    plus `weight` times its sum over the heads' predictions; what is judged is the plain model. The task has no
    `forward` and `criterion`: its loss is no function of one output any more.

    >>> for moment in ravine.train(heads_task(task, at=["2", "4"]), "adam"): ...                # doctest: +SKIP
    """
    run = None if at is None else run_on(task, example_batch(task))

    def make() -> nn.Module:
        return task.model() if at is None or run is None else _headed(task.model(), at, weight, run)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        if not isinstance(model, Headed):
            raise RavineError(f"the model of task '{task.name}' has no heads: give heads_task at=, or use with_heads")
        own = task.loss(model, batch)
        if task.criterion is not None:
            return own + model.auxiliary(lambda out: task.criterion(out, batch))  # type: ignore[misc]
        return own + model.auxiliary(lambda out: task.loss(_Answer(out), batch))

    return dataclasses.replace(task, model=make, loss=loss, forward=None, criterion=None, sample=None)


class _Answer(nn.Module):
    """A model whose answer is known: shows a task's loss what a head has predicted."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.answer


def _headed(model: nn.Module, at: At, weight: float, run: Callable[[nn.Module], Any]) -> Headed:
    check_value("weight", weight, float, "(0, inf)")
    given = {at: None} if isinstance(at, str) else dict(at) if isinstance(at, Mapping) else dict.fromkeys(at)
    if not given:
        raise RavineError("at= names no module: where should the heads be?")
    for name in given:
        named(model, name)
    copied = copy.deepcopy(model)
    probe = copy.deepcopy(copied).eval()
    output: list[Any] = []
    hook = probe.register_forward_hook(lambda module, args, out: output.append(out))
    with torch.no_grad():
        seen = features(probe, given, lambda: run(probe), stop=False)
    hook.remove()
    shape = tuple(first_tensor(output[0], "the model's output").shape)
    heads = {name: own or _head(probe, name, seen[name], shape) for name, own in given.items()}
    return Headed(copied, {name: made.to(seen[name].device) for name, made in heads.items()}, weight)


def _head(model: nn.Module, name: str, given: Tensor, output: tuple[int, ...]) -> nn.Module:
    shape = tuple(given.shape)
    try:
        return head(shape, output, channels_second(shape, (model,))).to(given)
    except Unfit as error:
        raise RavineError(
            f"no head can be built behind '{name}': {error}. Give one of your own: at={{'{name}': module}}"
        ) from error
