"""Schedules: functions from the number of steps done to a factor on the learning rate. Schedules multiply.

    warmup(100) * cosine(5000)
"""

import dataclasses
import math
from typing import ClassVar

from ravine.core.declared import Declared
from ravine.core.errors import RavineError
from ravine.core.spec import Call


@dataclasses.dataclass(frozen=True)
class Schedule(Declared):
    """`schedule(k)` is the factor on the learning rate when `k` = 0, 1, 2, ... steps are done.

    A schedule whose `steps` is None takes the run's horizon, which `bound(horizon)` fills in.
    """

    kind: ClassVar[str] = "schedule"

    def __call__(self, k: int) -> float:
        raise NotImplementedError

    def __mul__(self, other: "Schedule") -> "Schedule":
        return product(self, other) if isinstance(other, Schedule) else NotImplemented

    @property
    def factors(self) -> tuple["Schedule", ...]:
        return (self,)

    def bound(self, horizon: int) -> "Schedule":
        """The same schedule with the horizon filled in where it was left open."""
        if getattr(self, "steps", horizon) is None:
            return dataclasses.replace(self, steps=horizon)  # type: ignore[call-arg]  # a field of those that have it
        return self


@dataclasses.dataclass(frozen=True)
class Product(Schedule, register=False):
    """Schedules multiplied."""

    schedules: tuple[Schedule, ...] = ()

    def __post_init__(self) -> None:
        for schedule in self.schedules:
            if not isinstance(schedule, Schedule):
                raise RavineError(f"schedules multiply with schedules, got {schedule!r}")

    @property
    def factors(self) -> tuple[Schedule, ...]:
        return self.schedules

    def __call__(self, k: int) -> float:
        return math.prod(schedule(k) for schedule in self.schedules)

    def bound(self, horizon: int) -> Schedule:
        return Product(tuple(schedule.bound(horizon) for schedule in self.schedules))

    def __str__(self) -> str:
        return " * ".join(map(str, self.schedules))


@dataclasses.dataclass(frozen=True)
class constant(Schedule):
    """Always the same factor.

        factor
    """

    factor: float = 1.0

    ranges = {"factor": "[0, inf)"}

    def __call__(self, k: int) -> float:
        return self.factor


@dataclasses.dataclass(frozen=True)
class linear(Schedule):
    """Falls in a straight line over the first `steps` steps, then stays.

        (1 - a) + a final,   a = min(k / steps, 1)

    Goodfellow, Bengio & Courville 2016, eq. 8.14, with tau = `steps` and epsilon_tau = `final` epsilon_0; the book
    advises about 1 % for the latter.
    """

    steps: int | None = None
    final: float = 0.01

    ranges = {"steps": "[1, inf)", "final": "[0, inf)"}

    def __call__(self, k: int) -> float:
        share = min(k / _known(self, self.steps), 1.0)
        return (1 - share) + share * self.final


@dataclasses.dataclass(frozen=True)
class warmup(Schedule):
    """Rises in a straight line to 1 over the first `steps` steps.

        min((k + 1) / steps, 1)

    Goyal et al. 2017, section 2.2 (arXiv:1706.02677).
    """

    steps: int = 100

    ranges = {"steps": "[1, inf)"}

    def __call__(self, k: int) -> float:
        return min((k + 1) / self.steps, 1.0)


@dataclasses.dataclass(frozen=True)
class cosine(Schedule):
    """Falls along half a cosine over the first `steps` steps, then stays.

        final + (1 - final) (1 + cos(pi min(k / steps, 1))) / 2

    Loshchilov & Hutter 2017, eq. 5 without restarts (arXiv:1608.03983).
    """

    steps: int | None = None
    final: float = 0.0

    ranges = {"steps": "[1, inf)", "final": "[0, inf)"}

    def __call__(self, k: int) -> float:
        share = min(k / _known(self, self.steps), 1.0)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * share))


def product(*schedules: Schedule) -> Schedule:
    """The schedules multiplied; one alone stays itself."""
    flat = tuple(factor for schedule in schedules for factor in schedule.factors)
    return flat[0] if len(flat) == 1 else Product(flat)


def make_schedule(calls: tuple[Call, ...]) -> Schedule:
    """The schedule that the factors of a spec describe; no factors are the constant 1."""
    return product(*(Schedule.make(call) for call in calls)) if calls else constant()


def _known(schedule: Schedule, steps: int | None) -> int:
    if steps is None:
        raise RavineError(
            f"{schedule} does not know how long the run is: write {schedule.name}(steps=1000); "
            "ravine.train and ravine.race fill it in"
        )
    return steps
