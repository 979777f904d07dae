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
    entry_group: ClassVar[str] = "ravine.schedules"

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
    """Falls along half a cosine over the first `steps` steps, then stays; or starts anew.

        final + (1 - final) (1 + cos(pi k / steps)) / 2

    Loshchilov & Hutter 2017, eq. 5 (arXiv:1608.03983). With `restarts` the first of 1 + restarts falls; each takes
    `stretch` times as long as the one before (their T_mult), and all together take `steps`.
    """

    steps: int | None = None
    final: float = 0.0
    restarts: int = 0
    stretch: float = 1.0

    ranges = {"steps": "[1, inf)", "final": "[0, inf)", "restarts": "[0, inf)", "stretch": "[1, inf)"}

    def __call__(self, k: int) -> float:
        steps = _known(self, self.steps)
        length = steps / math.fsum(self.stretch**i for i in range(self.restarts + 1))
        left, begun = self.restarts, 0.0
        while left and k >= begun + length:
            begun, length, left = begun + length, length * self.stretch, left - 1
        share = min((k - begun) / length, 1.0)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * share))


@dataclasses.dataclass(frozen=True)
class step(Schedule):
    """Multiplies by `gamma` after every `every` steps.

        gamma^floor(k / every)
    """

    every: int = 1000
    gamma: float = 0.1

    ranges = {"every": "[1, inf)", "gamma": "(0, inf)"}

    def __call__(self, k: int) -> float:
        return float(self.gamma ** (k // self.every))


@dataclasses.dataclass(frozen=True)
class exponential(Schedule):
    """Falls by the same share at every step.

        gamma^k
    """

    gamma: float = 0.999

    ranges = {"gamma": "(0, inf)"}

    def __call__(self, k: int) -> float:
        return float(self.gamma**k)


@dataclasses.dataclass(frozen=True)
class polynomial(Schedule):
    """Falls as a power of what is left of the first `steps` steps, then stays.

        final + (1 - final) (1 - min(k / steps, 1))^power
    """

    steps: int | None = None
    power: float = 2.0
    final: float = 0.0

    ranges = {"steps": "[1, inf)", "power": "(0, inf)", "final": "[0, inf)"}

    def __call__(self, k: int) -> float:
        left = 1 - min(k / _known(self, self.steps), 1.0)
        return float(self.final + (1 - self.final) * left**self.power)


@dataclasses.dataclass(frozen=True)
class one_cycle(Schedule):
    """Rises along half a cosine from `start` to 1 over a share of the steps, then falls along another to `final`.

        start + (1 - start) (1 - cos(pi k / (rise steps))) / 2,   then the same from 1 to final

    Smith & Topin 2018, "Super-convergence" (arXiv:1708.07120), in the shape of torch's OneCycleLR: start = 1/25,
    final = start/1e4, rise = 0.3.
    """

    steps: int | None = None
    rise: float = 0.3
    start: float = 0.04
    final: float = 4e-6

    ranges = {"steps": "[1, inf)", "rise": "(0, 1)", "start": "[0, 1]", "final": "[0, 1]"}

    def __call__(self, k: int) -> float:
        share = min(k / _known(self, self.steps), 1.0)
        rising = share < self.rise
        low = self.start if rising else self.final
        past = share / self.rise if rising else (1 - share) / (1 - self.rise)
        return low + (1 - low) * 0.5 * (1 - math.cos(math.pi * past))


@dataclasses.dataclass(frozen=True)
class wsd(Schedule):
    """Warm-up, stable, decay: rises over the first steps, stays at 1, and falls in a straight line at the end.

        min((k + 1) / warmup, 1, final + (1 - final) (steps - k) / (decay steps))

    Hu et al. 2024, section 4 (arXiv:2404.06395). `decay` is the share of the run that falls.
    """

    steps: int | None = None
    warmup: int = 100
    decay: float = 0.2
    final: float = 0.0

    ranges = {"steps": "[1, inf)", "warmup": "[0, inf)", "decay": "(0, 1]", "final": "[0, 1]"}

    def __call__(self, k: int) -> float:
        steps = _known(self, self.steps)
        left = max(steps - k, 0) / (self.decay * steps)
        rising = (k + 1) / self.warmup if self.warmup else 1.0
        return min(rising, 1.0, self.final + (1 - self.final) * left)


@dataclasses.dataclass(frozen=True)
class inverse_root(Schedule):
    """Falls as one over the root of the step once `steps` steps are done; before, it is 1.

        sqrt(steps / max(k + 1, steps))

    Vaswani et al. 2017, eq. 3 (arXiv:1706.03762), when multiplied by warmup(steps).
    """

    steps: int = 100

    ranges = {"steps": "[1, inf)"}

    def __call__(self, k: int) -> float:
        return math.sqrt(self.steps / max(k + 1, self.steps))


@dataclasses.dataclass(frozen=True)
class inverse(Schedule):
    """Falls as one over the step, half gone after `steps` steps.

        1 / (1 + k / steps)

    Robbins & Monro 1951: its sum is infinite and the sum of its squares is not, which is what convergence asks
    (Goodfellow et al. 2016, eqs. 8.12 and 8.13).
    """

    steps: int = 100

    ranges = {"steps": "[1, inf)"}

    def __call__(self, k: int) -> float:
        return 1 / (1 + k / self.steps)


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
