"""ravine: why training is slow, and what is faster. Names are loaded when they are first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ravine.assembly import assemble as assemble
    from ravine.assembly import groups as groups
    from ravine.core.errors import RavineError as RavineError
    from ravine.core.probe import Moment as Moment
    from ravine.core.probe import Probe as Probe
    from ravine.core.rule import Rule as Rule
    from ravine.core.rule import chain as chain
    from ravine.core.spec import parse as parse
    from ravine.core.supervised import supervised as supervised
    from ravine.core.task import Task as Task
    from ravine.loop import train as train
    from ravine.optimizer import Optimizer as Optimizer
    from ravine.racing.race import race as race
    from ravine.solvers.minimizing import minimize as minimize
    from ravine.stopping import early_stopping as early_stopping
    from ravine.tasks import task as task

__version__ = "0.1.0"

_HOMES = {
    "Moment": "ravine.core.probe",
    "Optimizer": "ravine.optimizer",
    "Probe": "ravine.core.probe",
    "RavineError": "ravine.core.errors",
    "Rule": "ravine.core.rule",
    "Task": "ravine.core.task",
    "assemble": "ravine.assembly",
    "chain": "ravine.core.rule",
    "early_stopping": "ravine.stopping",
    "groups": "ravine.assembly",
    "minimize": "ravine.solvers.minimizing",
    "parse": "ravine.core.spec",
    "race": "ravine.racing.race",
    "supervised": "ravine.core.supervised",
    "task": "ravine.tasks",
    "train": "ravine.loop",
}
_ROOMS = (
    "averaging", "checks", "curvature", "data", "init", "nn", "optim", "probes", "racing", "report", "rules",
    "schedules", "solvers", "strategies", "surfaces", "tasks", "tune",
)  # fmt: skip

__all__ = [*_HOMES, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"ravine.{name}")
    else:
        raise AttributeError(f"module 'ravine' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
