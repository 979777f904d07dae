"""The plan of a race: everything that will be run, listed before anything is."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ravine.assembly import check
from ravine.core.declared import check_value
from ravine.core.errors import RavineError
from ravine.core.machine import machine, versions
from ravine.core.record import content_id
from ravine.core.seeds import derive
from ravine.core.spec import Spec, parse, parse_list
from ravine.loop import EVALUATIONS
from ravine.racing.judge import runs_needed
from ravine.racing.points import Point, knobs, points
from ravine.racing.unit import Unit

REFERENCES = ("nesterov", "adamw", "nadamw")
GOAL_SEEDS = 5
TUNING_SEEDS = 3  # one for every point, the others for the finalists
FINALISTS = 3


@dataclass(frozen=True)
class Settings:
    """What was asked for, apart from task and optimizers. Checked at construction."""

    steps: int = 1000
    points: int = 8
    seeds: int = 10
    goal: float | None = None
    device: str = "cpu"
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "points", "seeds"):
            check_value(name, getattr(self, name), int, "[1, inf)")
        check_value("seed", self.seed, int, "[0, inf)")
        if self.goal is not None:
            check_value("goal", self.goal, float, "(-inf, inf)")
            object.__setattr__(self, "goal", float(self.goal))  # 1 and 1.0 are the same race
        if self.every is None:
            object.__setattr__(self, "every", max(1, self.steps // EVALUATIONS))
        check_value("every", self.every, int, f"[1, {self.steps}]")


def entrants(optimizers: str | Sequence[str | Spec]) -> dict[str, Spec]:
    """The competitors by name; everything in their specs is checked."""
    if isinstance(optimizers, str):
        specs = parse_list(optimizers)
    else:
        specs = [parse(spec) if isinstance(spec, str) else spec for spec in optimizers]
    if not specs:
        raise RavineError('a race needs at least one optimizer, as in optimizers="sgd, adam"')
    found: dict[str, Spec] = {}
    for spec in specs:
        if not isinstance(spec, Spec):
            raise RavineError(f"a competitor is a spec such as 'adam(lr=0.001)', got {spec!r} ({type(spec).__name__})")
        check(spec)
        if spec.name in found:
            raise RavineError(f"two competitors are called '{spec.name}': give each a label, as in a={spec}, b={spec}")
        found[spec.name] = spec.unlabelled()
    return found


@dataclass(frozen=True)
class Plan:
    """The settings, the task as its dry run showed it, and every point of every optimizer."""

    settings: Settings
    source: str | None  # what the command line calls the task; None for one that was made in Python
    task: Mapping[str, Any]
    optimizers: Mapping[str, Spec]

    @property
    def given_goal(self) -> float | None:
        """The goal that the user gave, with the race or with the task."""
        return self.settings.goal if self.settings.goal is not None else self.task["goal"]

    @property
    def references(self) -> dict[str, Spec]:
        """The optimizers whose best run sets the goals, unless a goal is given."""
        return {} if self.given_goal is not None else {name: parse(name) for name in REFERENCES}

    def points(self, name: str, spec: Spec) -> list[Point]:
        return points(spec, self.settings.points, self.point_seed)

    @property
    def point_seed(self) -> int:
        return derive(self.settings.seed, "points") % 2**31

    @property
    def extra(self) -> int:
        """How many points every tuned optimizer gets on top when the best of one lies at the edge of its range."""
        return max(1, self.settings.points // 4)

    def more_points(self, spec: Spec) -> list[Point]:
        """The next points inside the space: what the others get when one optimizer's range is widened."""
        count = self.settings.points
        return points(spec, count, self.point_seed, self.extra)[count:]

    def seeds(self, kind: str) -> list[int]:
        count = {"tune": TUNING_SEEDS, "goal": GOAL_SEEDS, "run": self.settings.seeds}[kind]
        return [derive(self.settings.seed, kind, i) % 2**31 for i in range(count)]

    def unit(self, name: str, spec: Spec, seed: int, kind: str) -> Unit:
        settings = self.settings
        assert settings.every is not None
        return Unit(
            self.task["name"], self.task["fingerprint"], name, str(spec), seed,
            settings.steps, settings.every, settings.device, kind,
        )  # fmt: skip

    def content(self) -> dict[str, Any]:
        """The plan as plan.json holds it, without what is found on the way."""
        kept = ("name", "metric", "better", "goal", "batch_size", "parameters", "fingerprint")
        content = {
            "format": 1,
            "task": {"source": self.source} | {key: self.task[key] for key in kept},
            "settings": asdict(self.settings),
            "optimizers": {name: self._entry(name, spec) for name, spec in self.optimizers.items()},
            "references": {name: self._entry(name, spec) for name, spec in self.references.items()},
            "seeds": {"tuning": self.seeds("tune"), "goal": self.seeds("goal"), "runs": self.seeds("run")},
            "given_goal": self.given_goal,
            "versions": versions(),
        }
        return {"id": content_id(content)} | content | {"machine": machine(), "goals": None}

    def _entry(self, name: str, spec: Spec) -> dict[str, Any]:
        tuned = knobs(spec, self.settings.points)
        kept = ("low", "high", "scale", "zero")
        ranges = {key: {k: getattr(knob.dimension, k) for k in kept} for key, knob in tuned.items()}
        listed = [str(point.spec) for point in self.points(name, spec)]
        reserve = [str(point.spec) for point in self.more_points(spec)] if len(listed) > 1 else []
        return {"spec": str(spec), "dimensions": ranges, "points": listed, "reserve": reserve}

    def notes(self) -> list[str]:
        """What this plan cannot do, said before it is carried out."""
        said = []
        n, seeds = len(self.optimizers), self.settings.seeds
        fewest = runs_needed(1)
        if n > 1 and seeds < fewest:
            said.append(f"with {seeds} seeds no pair can come out as faster or slower: that takes {fewest} or more")
        elif n > 1 and seeds < runs_needed(n * (n - 1) // 2):
            needed = runs_needed(n * (n - 1) // 2)
            said.append(
                f"{seeds} seeds cannot tell all pairs of {n} optimizers apart (that takes {needed}): "
                "only pairs with the first and with the best in tuning are judged"
            )
        return said
