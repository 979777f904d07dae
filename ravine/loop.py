"""`ravine.train`: the loop, a generator of moments. Nothing that looks at a moment reaches back into the run."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ravine.assembly import assemble, check
from ravine.core.batches import Batch, batches, to
from ravine.core.composition import Composition
from ravine.core.declared import check_value
from ravine.core.dry_run import dry_run
from ravine.core.errors import RavineError, indices_told
from ravine.core.probe import Moment, Probe
from ravine.core.rule import Rule
from ravine.core.seeds import GlobalStream, derive, generator
from ravine.core.spec import Group, Spec, parse
from ravine.core.task import Task
from ravine.optimizer import Optimizer
from ravine.resume import Folder
from ravine.solvers.solver import Solver
from ravine.solving import solver_step

EVALUATIONS = 50
Make = Callable[[nn.Module], torch.optim.Optimizer]


def train(
    task: Task,
    optimizer: Rule | Spec | str | Make = "adam",
    lr: float | None = None,
    steps: int = 500,
    seed: int = 0,
    every: int | None = None,
    probes: Iterable[Probe] = (),
    device: str = "cpu",
    out: str | Path | None = None,
) -> Iterator[Moment]:
    """Train on `task` and yield a moment at every point of the evaluation grid, from 0 to `steps`.

    optimizer: a rule (with `lr`), a spec (of a solver too), or a function from the model to any torch optimizer.
    steps: the budget in gradient evaluations at the task's batch size; an optimizer that takes two a step makes half
        as many steps.
    every: gradient evaluations between two moments; a fiftieth of the budget unless given.
    out: a folder for the record and checkpoints. A run that was cut off goes on from there, and ends with the same
        numbers; the moments of before come again first, marked `replayed`.

    The same seed gives the same numbers, to the bit on the same machine and thread count. Initial weights, the order of
    the data, and chance within training each have a stream of their own; the caller's random states are untouched.
    Everything is checked before the first step: raises `RavineError`.

    >>> import ravine
    >>> from ravine.rules import Adam
    >>> for moment in ravine.train(ravine.task("digits-mlp"), Adam(), lr=1e-3, steps=100):
    ...     print(moment.step, moment.metric)                                             # doctest: +SKIP
    """
    if not isinstance(task, Task):
        raise RavineError(f"train needs a ravine.Task such as ravine.task('digits-mlp'), got {type(task).__name__}")
    check_value("steps", steps, int, "[1, inf)")
    every = max(1, steps // EVALUATIONS) if every is None else every
    check_value("every", every, int, "[1, inf)")
    check_value("seed", seed, int, "[0, inf)")
    spec, make = _optimizer(optimizer, lr, steps, task)
    probes = tuple(probes)
    for probe in probes:
        if not isinstance(probe, Probe):
            raise RavineError(f"a probe is made as in ravine.probes.GradNorm(), got {probe!r}")
    place = check_device(device)
    dry = dry_run(task, device)
    run = Run(task, make, seed, place)
    folder = None
    if out is not None:
        what = {"task": task.name, "fingerprint": dry.fingerprint, "spec": spec, "probes": [str(p) for p in probes]}
        folder = Folder(Path(out), what | {"seed": seed, "steps": steps, "every": every, "device": device})
    return moments(run, steps, every, probes, folder)


def check_device(device: str) -> torch.device:
    """The torch device of that name, or an error that says what there is."""
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise RavineError(f"device '{device}' cannot be used here ({str(error).splitlines()[0]}); try 'cpu'") from error
    return place


class Run:
    """A run in progress: everything that changes while it trains."""

    def __init__(self, task: Task, make: Make, seed: int, device: torch.device) -> None:
        self.task, self.seed, self.device = task, seed, device
        with GlobalStream(derive(seed, "init"), device):
            self.model = task.model().to(device).train()
        with GlobalStream(derive(seed, "optimizer"), device):
            self.optimizer = make(self.model)
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            raise RavineError(f"the function that makes the optimizer returned {self.optimizer!r}")
        self.ours = self.optimizer if isinstance(self.optimizer, Optimizer) else None
        self.solver = self.optimizer if isinstance(self.optimizer, Solver) else None
        if self.solver:
            self.solver.generator.manual_seed(derive(seed, "noise", 0))
        if self.ours is not None:  # noise within rules is the run's own, as all other chance
            self.ours.seed = derive(seed, "noise", self.ours.seed)
        self.own = self.ours is not None and self.ours.wants("product")  # the optimizer takes the gradient
        self.varies = self.own or self.solver or (self.ours and self.ours.wants("sampled"))  # in what a step costs
        self._check_sampling()
        self.chance = GlobalStream(derive(seed, "chance"), device)
        self.judging = GlobalStream(derive(seed, "judging"), device)
        self.valid = to(task.valid, device)
        self.step, self.work, self.examples, self.cost = 0, 0, 0, 1  # cost: gradient evaluations of the last step
        self.seconds = self.evaluation_seconds = 0.0
        self.batch: Batch = None
        self.before: dict[str, Tensor] | None = None
        self._batches = self._draw(0)

    def _draw(self, skip: int) -> Iterator[Batch]:
        task = self.task
        return batches(task.train, task.batch_size, generator(self.seed, "shuffle"), skip)

    def advance(self, until: int, keep_before: bool) -> float | None:
        """Step until `until` gradient evaluations are done; the mean loss over these steps, None without any."""
        total = torch.zeros((), device=self.device)
        count = 0
        started = time.perf_counter()
        with self.chance, indices_told(lambda: f"task '{self.task.name}': step {self.step + 1}"):
            while self.work < until:
                if keep_before:  # only the last step's are wanted; which one is the last is known where steps cost one
                    last = self.varies or self.cost != 1 or self.work + 1 >= until
                    named = self.model.named_parameters()
                    self.before = {name: p.detach().clone() for name, p in named} if last else None
                total += self._step()
                count += 1
        mean = total.item() / count if count else None
        self.seconds += time.perf_counter() - started
        return mean

    def _check_sampling(self) -> None:
        lacking = [name for name in ("forward", "criterion", "sample") if getattr(self.task, name) is None]
        if self.ours and self.ours.wants("sampled") and lacking:
            rule = next(group["rule"] for group in self.ours.param_groups)
            raise RavineError(
                f"'{rule}' draws targets from the model's predictions, for which task '{self.task.name}' needs "
                f"{', '.join(f'{name}=' for name in lacking)}: see ravine.Task"
            )

    def _sampled(self) -> tuple[Tensor, int]:
        """The loss at targets drawn from the model's own predictions, and how many they are."""
        task = self.task
        assert task.forward is not None
        assert task.criterion is not None
        assert task.sample is not None
        outputs = task.forward(self.model, self.batch)
        batch, count = task.sample(outputs, self.batch)
        self.work += 1
        return task.criterion(outputs, batch), count

    def _step(self) -> Tensor:
        task, model, optimizer = self.task, self.model, self.optimizer
        self.batch = batch = to(next(self._batches), self.device)
        first: Tensor | None = None
        before = self.work

        def closure() -> Tensor:
            nonlocal first
            optimizer.zero_grad()
            loss = task.loss(model, batch)
            if not self.own:
                loss.backward()  # type: ignore[no-untyped-call]
            self.work += 1
            if first is None:
                first = loss.detach()
            return loss

        if self.solver is not None:
            first, spent = solver_step(self.solver, task, model, batch)
            self.work += spent
        elif self.ours:
            products = self.ours.products
            self.ours.step(closure, self._sampled)  # type: ignore[arg-type]  # torch's stubs want a float
            self.work += self.ours.products - products
        else:
            optimizer.step(closure)  # type: ignore[arg-type]  # its code takes tensors
        self.step += 1
        self.cost = self.work - before
        self.examples += task.batch_size if task.size is None else task.examples(batch)
        if first is None:
            raise RavineError(f"{type(optimizer).__name__}.step(closure) never called the closure: it took no gradient")
        return first

    def judged(self, data: Any) -> float:
        """The metric on `data`, at the parameters that count where the optimizer takes gradients at others."""
        with self.ours.swapped() if self.ours else nullcontext():
            return self.task.judge(self.model, data)

    def judge(self, loss: float | None, probes: tuple[Probe, ...]) -> Moment:
        """The moment at the present point, with the metric judged and the probes read."""
        finite = loss is None or math.isfinite(loss)
        with self.judging.again():
            started = time.perf_counter()
            metric = self.judged(self.valid) if finite else math.nan
            spent = time.perf_counter() - started
            self.seconds += spent
            self.evaluation_seconds += spent
            moment = self.moment({"loss": loss, "metric": metric}, not math.isfinite(metric))
            if loss is None or not probes:  # without a step since the last moment there is nothing new to look at
                return moment
            found = {key: float(value) for probe in probes for key, value in probe(moment).items()}
        return dataclasses.replace(moment, probes=found)

    def moment(self, row: dict[str, Any], diverged: bool = False, probes: dict[str, float] | None = None) -> Moment:
        """A moment of this run; what `row` does not say is as it is now."""
        counts = {name: row.get(name, getattr(self, name)) for name in ("step", "work", "examples")}
        times = row.get("observed") or {"seconds": self.seconds, "evaluation_seconds": self.evaluation_seconds}
        metric = math.nan if row["metric"] is None else row["metric"]
        return Moment(
            **counts, **times, loss=row["loss"], metric=metric, diverged=diverged, probes=probes or {},
            batch=self.batch, before=self.before, model=self.model, optimizer=self.optimizer, task=self.task,
            replayed="step" in row,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in _COUNTS}
        parts = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "chance")}
        return counts | parts

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("model", "optimizer", "chance"):
            getattr(self, name).load_state_dict(state[name])
        for name in _COUNTS:
            setattr(self, name, state[name])
        with GlobalStream(derive(self.seed, "skipped"), self.device):
            self._batches = self._draw(self.step)


_COUNTS = ("step", "work", "examples", "seconds", "evaluation_seconds", "cost")


def moments(run: Run, steps: int, every: int, probes: tuple[Probe, ...], folder: Folder | None) -> Iterator[Moment]:
    """The moments of a run on its evaluation grid, which ends where loss or metric stops being finite."""
    keep_before = any("before" in probe.needs for probe in probes)
    grid = [*range(0, steps, every), steps]
    done = 0
    moment: Moment | None = None
    try:
        for row in folder.open(run) if folder is not None else ():
            extra = {key: value for key, value in row.items() if key not in _COLUMNS}
            moment = run.moment(row, diverged=row["metric"] is None, probes=extra)
            done += 1
            yield moment
        ended = _ended(moment, done == len(grid)) if moment is not None else None
        if folder is not None and ended and not folder.finished:  # killed between the last row and the closing one
            folder.end(ended)
        for work in () if ended else grid[done:]:
            moment = run.judge(run.advance(work, keep_before), probes)
            done += 1
            ended = _ended(moment, done == len(grid))
            if folder is not None:
                folder.add(moment.row(), run, ended)
            yield moment
            if ended:
                return
    finally:
        if folder is not None:
            folder.close()


def _ended(moment: Moment, last: bool) -> str | None:
    return "diverged" if moment.diverged else "done" if last else None


_COLUMNS = ("step", "work", "examples", "loss", "metric", "observed")


def _optimizer(optimizer: Any, lr: float | None, steps: int, task: Task) -> tuple[str, Make]:
    """The optimizer as text for the record, and the function that makes it for a model."""
    if isinstance(optimizer, Composition) or (isinstance(optimizer, type) and issubclass(optimizer, Rule)):
        optimizer = optimizer()  # ravine.rules.Adam and ravine.rules.adamw as they stand
    if isinstance(optimizer, Rule):
        optimizer = Spec((Group(tuple(link.call() for link in optimizer.links)),))
    elif isinstance(optimizer, str):
        optimizer = parse(optimizer)
    if isinstance(optimizer, Spec):
        spec = optimizer if lr is None else optimizer.with_lr(lr)
        check(spec)
        # A loss that is not finite ends the run as diverged; there is no need to look at every gradient beforehand.
        return str(spec), lambda model: assemble(spec, model, steps, "ignore", task)
    if callable(optimizer) and lr is not None:
        raise RavineError("lr is given beside a function that makes the optimizer: set it there")
    if callable(optimizer):
        return getattr(optimizer, "__qualname__", repr(optimizer)), optimizer
    raise RavineError(f"optimizer must be a rule, a spec or a function of the model, got {optimizer!r}")
