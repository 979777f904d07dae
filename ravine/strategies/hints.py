"""Hints and distillation: a thin deep student learns from a wide teacher, first its features, then its answers."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.batches import Batch, in_order, length, to
from ravine.core.declared import check_value
from ravine.core.dry_run import dry_run, hash_tensors
from ravine.core.errors import RavineError
from ravine.core.probe import Probe
from ravine.core.record import Row
from ravine.core.seeds import GlobalStream, derive
from ravine.core.task import Task
from ravine.nn.fitting import Unfit, channels_second, regressor
from ravine.nn.layers import named
from ravine.nn.tracing import example_batch, executed, features, first_tensor, reached
from ravine.strategies.labels import check_labels
from ravine.strategies.softening import class_axis, label_shape, soft_targets
from ravine.strategies.stages import Stage, StageMoment, check_budget, check_task, staged
from ravine.strategies.timed import timed
from ravine.weights import fresh

Match = Callable[[Tensor, Tensor], Tensor]
_JUDGED = 1024  # examples at a time


def distill(
    teacher: nn.Module,
    student: Callable[[], nn.Module] | None,
    task: Task,
    optimizer: Any = "adam",
    lr: float | None = None,
    *,
    hint_layer: str | None = None,
    guided_layer: str | None = None,
    regressor: nn.Module | None = None,
    hint_steps: int = 500,
    steps: int = 500,
    temperature: float = 3.0,
    soft: tuple[float, float] = (4.0, 1.0),
    match: Match | None = None,
    classes: int | None = None,
    seed: int = 0,
    every: int | None = None,
    probes: Iterable[Probe] = (),
    device: str = "cpu",
    out: str | Path | None = None,
) -> Iterator[StageMoment]:
    """Hints, then distillation (FitNets, Romero et al. 2015, algorithm 1); a moment at every point of the way.

    The stage "hint" trains the student up to its guided layer to predict the teacher's hint layer:
    L_HT = 1/2 ||u_h(x) - r(v_g(x))||², the mean over the batch (eq. 3), with a regressor r that is thrown away. What is
    judged there is L_HT on the validation data. The stage "distill" trains all of it on
    L_KD = H(y, P_S) + lambda tau² KL(P_T^tau, P_S^tau), P^tau = softmax(a / tau) (eq. 2; tau² keeps the
    gradients' size, Hinton et al. 2015, section 2; KL is H(P_T^tau, P_S^tau) but for the teacher's own entropy).

    teacher: a trained model that takes the task's batches. student: makes the student, the task's own model where None.
    hint_layer, guided_layer: modules by name; the middle layer of each where None. hint_steps=0 leaves the hints out.
    regressor: a module of your own; a linear map or a convolution from the shapes where None.
    temperature, soft: tau, and lambda at the first and the last of `steps` batches, between them a straight line; the
        paper's are 3 and 4 to 1.
    match: the loss of student's and teacher's outputs where they are no logits, in place of tau² KL.
    classes: the dimension of the outputs that holds them, -1 or 1, where the shape of the labels does not tell.
    hint_steps, steps: in gradient evaluations. out: a folder; a run that was cut off goes on from there.

    Raises `RavineError` for layers that do not exist or do not fit, with the shapes, and for teachers of other outputs.

    >>> for moment in ravine.strategies.distill(teacher, make_student, task, "adam"): ...          # doctest: +SKIP
    """
    check_task("distill", task)
    check_budget(steps=steps)
    check_value("hint_steps", hint_steps, int, "[0, inf)")
    check_value("seed", seed, int, "[0, inf)")
    task = task if student is None else _with_student(task, student)
    check_labels(task)
    dry = dry_run(task, device)
    with GlobalStream(derive(seed, "plan")):  # a regressor is drawn to see whether it fits
        lesson = _Lesson(task, teacher, fresh(task, seed, device), match, temperature, soft, classes)
        if hint_steps:
            lesson.choose(hint_layer, guided_layer, regressor)
    hint = [Stage("hint", hint_steps, lesson.hinting, lesson.take)] if hint_steps else []
    last = Stage("distill", steps, lambda: lesson.distilling(steps), lesson.take)
    what = lesson.settings() | {"fingerprint": dry.fingerprint}
    return staged(
        [*hint, last], optimizer, lr, seed=seed, every=every, probes=probes, device=device, out=out, settings=what
    )


def _with_student(task: Task, student: Any) -> Task:
    if isinstance(student, nn.Module):
        return dataclasses.replace(task, model=lambda: copy.deepcopy(student))
    return dataclasses.replace(task, model=student)


class _Guided(nn.Module):
    """The student as far as its guided layer, behind it the regressor."""

    def __init__(self, student: nn.Module, guided: str, regressor: nn.Module) -> None:
        super().__init__()
        self.student, self.guided, self.regressor = student, guided, regressor


class _Lesson:
    """Teacher and student, and what the stages make of them."""

    def __init__(
        self,
        task: Task,
        teacher: nn.Module,
        student: nn.Module,
        match: Match | None,
        temperature: float,
        soft: tuple[float, float],
        classes: int | None = None,
    ) -> None:
        if not isinstance(teacher, nn.Module):
            raise RavineError(f"the teacher must be a trained nn.Module, got {type(teacher).__name__}")
        check_value("temperature", temperature, float, "(0, inf)")
        if not isinstance(soft, tuple | list) or len(soft) != 2 or not all(map(_is_weight, soft)):
            raise RavineError(f"soft must be a pair of weights from 0, at the beginning and the end, got {soft!r}")
        if task.forward is None or task.criterion is None:
            raise RavineError(
                f"distill needs the outputs of a model: task '{task.name}' has no forward= and criterion= beside its "
                "loss, see ravine.Task"
            )
        self.task, self.student, self.temperature, self.soft = task, student, temperature, soft
        self.match = match or self._soft_targets
        self.device = next(student.parameters()).device
        self.teacher = copy.deepcopy(teacher).to(self.device).eval().requires_grad_(False)
        self.batch = to(example_batch(task), self.device)
        self.hint = self.guided = ""
        self.regressor: Callable[[], nn.Module] = nn.Identity
        self.axis = self._check_outputs(match is not None, classes)

    def _check_outputs(self, own: bool, classes: int | None) -> int:
        """The dimension of the outputs that holds the classes, once teacher and student are seen to agree."""
        ours, theirs = (self._outputs(model) for model in (self.student, self.teacher))
        if ours.shape != theirs.shape and not own:
            raise RavineError(
                f"the teacher's output has the shape {tuple(theirs.shape)} and the student's {tuple(ours.shape)}: "
                "distillation needs both to predict the same classes, or match="
            )
        targets = self.batch[1] if isinstance(self.batch, tuple | list) and len(self.batch) > 1 else None
        if not own and (ours.ndim < 2 or (isinstance(targets, Tensor) and targets.is_floating_point())):
            raise RavineError(
                f"a temperature softens classes, and the outputs of task '{self.task.name}' are none: give match=, a "
                "loss of the student's and the teacher's outputs such as torch.nn.functional.mse_loss"
            )
        return 1 if own else class_axis(self.task.name, tuple(ours.shape), label_shape(self.batch), classes)

    def _outputs(self, model: nn.Module) -> Tensor:
        assert self.task.forward is not None
        try:
            with torch.no_grad():
                return first_tensor(self.task.forward(copy.deepcopy(model).eval(), self.batch))
        except Exception as error:
            if model is not self.teacher:
                raise
            raise RavineError(f"the teacher cannot take a batch of task '{self.task.name}': {error}") from error

    def settings(self) -> Row:
        """What makes this another lesson than one whose folder is found."""
        return {
            "strategy": "distill", "task": self.task.name, "teacher": hash_tensors(self.teacher.state_dict().values()),
            "temperature": self.temperature, "soft": list(self.soft), "hint_layer": self.hint,
            "guided_layer": self.guided, "classes": self.axis,
        }  # fmt: skip

    def choose(self, hint: str | None, guided: str | None, given: nn.Module | None) -> None:
        """Take these layers, the middle ones where None, and see whether a regressor fits between them."""
        self.hint = self._layer(self.teacher, hint, "hint layer of the teacher")
        self.guided = self._layer(self.student, guided, "guided layer of the student")
        wanted = self._features(self.teacher, self.hint)
        made = self._features(copy.deepcopy(self.student).eval(), self.guided)
        shapes = tuple(made.shape), tuple(wanted.shape)
        second = channels_second(shapes[0], (self.student,))
        if given is None:
            self.regressor = lambda: regressor(*shapes, second).to(made)
        else:
            own = given.to(self.device)
            self.regressor = lambda: copy.deepcopy(own)
        try:
            with torch.no_grad():
                found = tuple(self.regressor()(made).shape)
        except Unfit as error:
            raise RavineError(
                f"guided layer '{self.guided}' of shape {shapes[0]} and hint layer '{self.hint}' of shape {shapes[1]} "
                f"do not fit: {error}. Choose other layers, or give regressor=, a module from the first shape to the "
                f"second{_offer(*shapes)}"
            ) from error
        except RuntimeError as error:
            raise RavineError(f"regressor= cannot take features of shape {shapes[0]}: {error}") from error
        if found != shapes[1]:
            raise RavineError(f"regressor= makes {found} of {shapes[0]}, but the hint has the shape {shapes[1]}")

    def _layer(self, model: nn.Module, name: str | None, kind: str) -> str:
        if name is not None:
            named(model, name, kind)
            return name
        probe = copy.deepcopy(model).eval()
        found = executed(probe, lambda: self.task.forward(probe, self.batch))  # type: ignore[misc]
        if len(found) < 2:
            raise RavineError(f"the {kind} must be named: the {type(model).__name__} has no layers to take one from")
        return found[(len(found) - 1) // 2].names[-1]

    def _features(self, model: nn.Module, name: str, batch: Batch = None) -> Tensor:
        given = self.batch if batch is None else batch
        return features(model, [name], lambda: self.task.forward(model, given))[name]  # type: ignore[misc]

    def take(self, model: nn.Module) -> None:
        """Keep what a stage has learnt."""
        learnt = model.student if isinstance(model, _Guided) else model
        self.student.load_state_dict(learnt.state_dict())

    def hinting(self) -> Task:
        """The first stage as a task."""
        prepared, probe = copy.deepcopy(self.student), copy.deepcopy(self.student).eval()
        trained = reached(probe, self._features(probe, self.guided))
        if not trained:
            raise RavineError(f"no trainable weights lie before the guided layer '{self.guided}'")
        for name, p in prepared.named_parameters():
            p.requires_grad_(name in trained)

        def loss(model: Any, batch: Batch) -> Tensor:
            with torch.no_grad():
                hint = self._features(self.teacher, self.hint, batch)
            guess = model.regressor(self._features(model.student, self.guided, batch))
            return half_square(hint, guess)

        def metric(model: nn.Module, data: Any) -> float:
            total = sum(float(loss(model, to(b, self.device))) * self.task.examples(b) for b in in_order(data, _JUDGED))
            return total / (length(data) or 1)

        return dataclasses.replace(
            self.task, model=lambda: _Guided(copy.deepcopy(prepared), self.guided, self.regressor()), loss=loss,
            metric=metric, metric_name="hint loss", better="lower", goal=None, forward=None, criterion=None,
            sample=None,
        )  # fmt: skip

    def distilling(self, steps: int) -> Task:
        """The second stage as a task."""
        first, last = self.soft

        def loss(model: nn.Module, batch: Batch, time: float) -> Tensor:
            assert self.task.forward is not None
            assert self.task.criterion is not None
            with torch.no_grad():
                theirs = first_tensor(self.task.forward(self.teacher, batch))
            outputs = self.task.forward(model, batch)
            hard = self.task.criterion(outputs, batch)
            return hard + (first + (last - first) * time) * self.match(first_tensor(outputs), theirs)

        prepared = copy.deepcopy(self.student)
        return timed(self.task, steps, loss, model=lambda: copy.deepcopy(prepared))

    def _soft_targets(self, ours: Tensor, theirs: Tensor) -> Tensor:
        return soft_targets(ours, theirs, self.temperature, self.axis)


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def half_square(hint: Tensor, guess: Tensor) -> Tensor:
    """1/2 ||hint - guess||², the mean over the batch."""
    return 0.5 * (hint - guess).square().sum() / len(hint)


def _offer(guided: tuple[int, ...], hint: tuple[int, ...]) -> str:
    """A regressor that would do, as code."""
    if len(guided) == len(hint) == 4:
        resize = f"nn.Upsample(size={tuple(hint[2:])})"
        return f", such as nn.Sequential({resize}, nn.Conv2d({guided[1]}, {hint[1]}, 1))"
    if len(guided) > 2 and len(hint) == 2:
        wide = torch.Size(guided[1:]).numel()
        return f", such as nn.Sequential(nn.Flatten(), nn.Linear({wide}, {hint[1]}))"
    if len(guided) == 2 and len(hint) > 2:
        wide = torch.Size(hint[1:]).numel()
        return f", such as nn.Sequential(nn.Linear({guided[1]}, {wide}), nn.Unflatten(1, {tuple(hint[1:])}))"
    return ""
