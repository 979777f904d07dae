"""What one trial came to, read off its record; and what a point came to, on all the seeds it was tried on."""

import math
from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ravine.core.record import Record, Row
from ravine.racing.crossing import crossing
from ravine.racing.points import Point


@dataclass(frozen=True)
class Outcome:
    """What a race must remember of a trial, with the point it tried: little, since there may be thousands."""

    id: str
    seed: int
    steps: int
    status: str
    end: Row
    work: Sequence[float]
    metric: Sequence[float]
    point: Point
    better: str

    @classmethod
    def of(cls, record: Record, point: Point, better: str) -> Self:
        work, metric = (array("d", record.column(name)) for name in ("work", "metric"))
        header = record.header
        end = record.end or {}
        return cls(header["id"], header["seed"], header["steps"], record.status, end, work, metric, point, better)

    @property
    def reason(self) -> str:
        """Why the trial failed; empty where it did not."""
        return str(self.end.get("reason", ""))

    @property
    def final(self) -> float:
        """The metric at the horizon; NaN for a run that did not get there."""
        return self.metric[-1] if self.status == "done" else math.nan

    def work_to(self, goal: float) -> float:
        """The work to the goal; `inf` for a run that never reached it, or did not end well."""
        found = crossing(self.work, self.metric, goal, self.better) if self.status == "done" else None
        return math.inf if found is None else found

    def row(self, goal: float, tuned: bool) -> dict[str, Any]:
        """The outcome as the verdict lists it."""
        what: dict[str, Any] = {"spec": str(self.point.spec), "setting": dict(self.point.setting)} if tuned else {}
        return {
            "id": self.id,
            "seed": self.seed,
            **what,
            "work_to_goal": self.work_to(goal),
            "final_metric": self.final,
            "status": self.status,
            "reason": self.reason,
        }


# Never reaching a goal counts as ten times the budget: the penalized average of algorithm configuration (PAR10).
_PENALTY = 10


@dataclass(frozen=True)
class Tried:
    """A point and what it came to: on one seed, or on several for a finalist."""

    point: Point
    outcomes: tuple[Outcome, ...]

    def rank(self, goals: Collection[float]) -> tuple[int, float]:
        """Smaller is better: the mean log work over goals and seeds; where no goal is ever reached, the final metric;
        points of which no run ended well come last.

        All goals count, and never reaching one costs dearly, since one crossing of one goal may be luck.
        """
        works = [outcome.work_to(goal) for outcome in self.outcomes for goal in goals]
        if any(work < math.inf for work in works):
            worst = _PENALTY * float(self.outcomes[0].steps)
            return 0, sum(math.log(min(work, worst)) for work in works) / len(works)
        finals = [outcome.final for outcome in self.outcomes]
        if any(math.isnan(final) for final in finals):
            return 2, 0.0
        sign = -1 if self.outcomes[0].better == "higher" else 1
        return 1, sign * sum(finals) / len(finals)
