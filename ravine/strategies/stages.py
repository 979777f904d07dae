"""Training in stages: each is a run of `ravine.train` that begins where the one before ended."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from ravine.core.declared import check_value
from ravine.core.errors import RavineError
from ravine.core.probe import Moment, Probe
from ravine.core.record import Row, read_json, write_json
from ravine.core.seeds import derive
from ravine.core.task import Task
from ravine.loop import EVALUATIONS, train
from ravine.weights import settled

FILE = "strategy.json"


@dataclasses.dataclass(frozen=True)
class StageMoment(Moment):
    """A moment of a run in stages; steps, work, examples and seconds count from the beginning of the first.

    stage: the name of the stage. works: the work of all stages together, when they are done.
    """

    stage: str = ""
    works: int = 0

    def row(self) -> Row:
        """The moment as a row of a record."""
        return super().row() | {"stage": self.stage}


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage: its name, its budget in gradient evaluations, its task, and what to do with the model it leaves.

    The task is made when the stage begins, from what earlier stages have left wherever `after` put it.
    """

    name: str
    steps: int
    task: Callable[[], Task]
    after: Callable[[nn.Module], None]


def staged(
    stages: list[Stage],
    optimizer: Any,
    lr: float | None,
    *,
    seed: int,
    every: int | None,
    probes: Iterable[Probe],
    device: str,
    out: str | Path | None,
    settings: Row,
) -> Iterator[StageMoment]:
    """The moments of all stages, one after the other; it ends where a stage diverges.

    Each stage has a folder of its own in `out`, and chance of its own derived from `seed`. `settings` is what makes
    this another strategy than one whose folder it may find.
    """
    total = sum(stage.steps for stage in stages)
    every = max(1, total // EVALUATIONS) if every is None else every
    folder = None if out is None else Path(out)
    if folder is not None:
        claim(folder, settings | {"seed": seed, "stages": [[stage.name, stage.steps] for stage in stages]})
    probes = tuple(probes)

    def begin(number: int) -> Iterator[Moment]:
        stage = stages[number]
        place = None if folder is None else folder / f"{number + 1}-{stage.name.replace(' ', '-')}"
        own = derive(seed, "stage", stage.name)
        return train(stage.task(), optimizer, lr, stage.steps, own, every, probes, device, place)

    return _moments(stages, begin, begin(0), total)  # the first one now, so that what is wrong is told now


def _moments(
    stages: list[Stage], begin: Callable[[int], Iterator[Moment]], first: Iterator[Moment], total: int
) -> Iterator[StageMoment]:
    before: Moment | None = None
    for number, stage in enumerate(stages):
        last: Moment | None = None
        for moment in begin(number) if number else first:
            last = _added(moment, before, stage.name, total)
            yield last
        assert last is not None
        if last.diverged:
            return
        stage.after(settled(last))
        before = last


def _added(moment: Moment, before: Moment | None, stage: str, total: int) -> StageMoment:
    values = {field.name: getattr(moment, field.name) for field in dataclasses.fields(Moment)}
    for name in ("step", "work", "examples", "seconds", "evaluation_seconds") if before else ():
        values[name] += getattr(before, name)
    return StageMoment(**values, stage=stage, works=total)


def claim(folder: Path, settings: Row) -> None:
    """Note in the folder what is done there; raises where it holds something else."""
    file = folder / FILE
    if file.exists():
        found = read_json(file)
        others = [name for name in settings if found.get(name) != settings[name]]
        if others:
            differ = ", ".join(f"{name} is {found.get(name)!r}, not {settings[name]!r}" for name in others)
            raise RavineError(f"{folder} holds another run ({differ}): choose another --out, or remove the folder")
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise RavineError(f"{folder} holds something else: choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, settings)
    except OSError as error:
        raise RavineError(f"cannot write to {folder}: {error.strerror or error}; choose another --out") from error


def check_task(owner: str, task: Any) -> None:
    """Raise unless it is a task."""
    if not isinstance(task, Task):
        raise RavineError(f"{owner} needs a ravine.Task such as ravine.task('digits-mlp'), got {type(task).__name__}")


def check_budget(**steps: Any) -> None:
    """Raise unless every one of these is a whole number from 1."""
    for name, value in steps.items():
        check_value(name, value, int, "[1, inf)")
