"""`ravine.race`: plan, trials, verdict. The one file that puts the room's parts together."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ravine import report
from ravine.core.declared import check_value
from ravine.core.errors import RavineError
from ravine.core.record import write_json
from ravine.core.spec import Spec
from ravine.core.task import Task
from ravine.racing import gates
from ravine.racing.crew import Crew, Limits
from ravine.racing.crossing import freeze
from ravine.racing.folder import cannot_write
from ravine.racing.judge import judge
from ravine.racing.outcome import Outcome, Tried
from ravine.racing.plan import FINALISTS, TUNING_SEEDS, Plan, Settings, entrants
from ravine.racing.points import Point, widened
from ravine.racing.source import sent
from ravine.racing.store import Store
from ravine.racing.unit import Unit
from ravine.racing.verdict import Tuning, Verdict, assemble_verdict, judged_goal, works_of


class RaceStopped(RuntimeError):
    """A race that began and could not go on; what was finished is kept, and the same command goes on from there."""


@dataclass(frozen=True)
class Progress:
    """How far a race is: trials done and planned, what is being run, and what the user should know."""

    phase: str
    done: int
    planned: int
    notes: Sequence[str] = ()


Observe = Callable[[Progress], None]


def race(
    task: Task | str,
    optimizers: str | Sequence[str | Spec] = "sgd, momentum, nesterov, adam, adamw",
    *,
    points: int = 8,
    seeds: int = 10,
    steps: int = 1000,
    goal: float | None = None,
    workers: int = 2,
    device: str = "cpu",
    out: str | Path | None = None,
    seed: int = 0,
    every: int | None = None,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    observe: Observe | None = None,
) -> Verdict:
    """Which optimizer reaches the goal on `task` with less work, by how much, and how sure are we?

    task: a Task, a built-in name, or `file.py:function`.
    optimizers: specs, in a list or separated by commas. What is written in a spec is fixed, the rest of its declared
        space is tuned with `points` points each; the best point is rerun on `seeds` fresh seeds.
    steps: the budget of a run, in gradient evaluations at the task's batch size.
    goal: the value of the metric to reach; the task's own unless given, else set by reference optimizers beforehand.
    workers: trials at a time, each in a process with one thread.
    out: the race's folder, `runs/TASK-ID` unless given. The same call goes on where the last one was cut off.
    every: gradient evaluations between two judgements, a fiftieth of the budget unless given.
    time_limit, memory_limit: seconds and MB that one trial may take; by default 60 s and twenty times what the dry run
        foretells, and no limit.
    observe: called with a `Progress` after every trial.

    Raises `RavineError` for whatever is wrong before the first trial, and `RaceStopped` for what goes wrong later.
    """
    settings = Settings(steps, points, seeds, goal, device, seed, every)
    check_value("workers", workers, int, "[1, inf)")
    for name, limit in (("time_limit", time_limit), ("memory_limit", memory_limit)):
        if limit is not None:
            check_value(name, limit, float, "(0, inf)")
    competitors = entrants(optimizers)
    with sent(task) as source:
        crew = Crew(source, workers)
        found = crew.inspect([str(spec) for spec in competitors.values()], steps, device)
        plan = Plan(settings, task if isinstance(task, str) else None, found, competitors)
        content = plan.content()
        with Store(Path(out) if out is not None else Path("runs") / f"{found['name']}-{content['id'][:6]}") as store:
            content = store.adopt(content)
            limits = Limits(time_limit or _patience(plan), memory_limit)
            running = _Race(plan, content, store, crew, limits, observe or (lambda progress: None))
            try:
                return running.run()
            except OSError as error:
                raise RaceStopped(f"{cannot_write(store.folder, error)}, then run the same command again") from error
            except RavineError as error:
                raise RaceStopped(str(error)) from error


def _patience(plan: Plan) -> float:
    """Seconds after which a trial counts as hanging: a minute, and twenty times what the dry run foretells."""
    settings = plan.settings
    assert settings.every is not None
    evaluations = settings.steps / settings.every + 2
    foretold = settings.steps * plan.task["step_seconds"] + evaluations * plan.task["evaluation_seconds"]
    return 60 + 20 * float(foretold)


class _Race:
    """A race under way: what is finished, and the phases in their order."""

    def __init__(
        self, plan: Plan, content: dict[str, Any], store: Store, crew: Crew, limits: Limits, observe: Observe
    ) -> None:
        self.plan, self.content, self.store = plan, content, store
        self.crew, self.limits, self.observe = crew, limits, observe
        self.done = store.finished()
        self.notes = [*plan.notes(), *store.notes]
        self.coming = self._foresee()

    def run(self) -> Verdict:
        goals = self._goals()
        goal = judged_goal(goals)
        tuning = self._tune(goals)
        best = {name: tuned.tried[tuned.chosen(goals.values())].point for name, tuned in tuning.items()}
        runs = self._rerun(best)
        verdict = assemble_verdict(self.plan.task, self.plan.settings.steps, goals, tuning, runs)
        verdict["gates"] = self._gates(verdict, goal, runs)
        verdict["notes"] = self.notes + self._remarks(tuning, runs)
        write_json(self.store.folder / "verdict.json", verdict)
        report.write(report.load(self.store.folder))
        self.observe(Progress("done", len(self.done), len(self.done), self.notes))
        return Verdict(verdict, str(self.store.folder))

    def _foresee(self) -> int:
        """The number of trials, as far as it is known before the first: widened ranges come on top."""
        plan = self.plan
        entries = [*plan.references.items(), *plan.optimizers.items()]
        points = {plan.unit(name, p.spec, 0, "tune").id for name, spec in entries for p in plan.points(name, spec)}
        goals = len(plan.seeds("goal")) if plan.references else 0
        listed = [len(plan.points(name, spec)) for name, spec in entries]
        finals = sum(min(FINALISTS, count) for count in listed if count > 1) * (TUNING_SEEDS - 1)
        checks = 2 if plan.task["can_swap"] else 1
        return len(points) + finals + goals + len(plan.optimizers) * plan.settings.seeds + checks

    def _do(self, phase: str, units: Sequence[Unit]) -> None:
        """Run what is missing of `units`."""
        missing = list({unit.id: unit for unit in units if unit.id not in self.done}.values())

        def tell() -> None:
            self.observe(Progress(phase, len(self.done), max(self.coming, len(self.done)), self.notes))

        def finished(unit: Unit) -> None:
            self.done.add(unit.id)
            self.store.add(unit)
            tell()

        tell()
        self.crew.run(missing, self.limits, self.store.open_record, finished)

    def _outcome(self, unit: Unit, point: Point) -> Outcome:
        return Outcome.of(self.store.record(unit), point, self.plan.task["better"])

    def _try(self, phase: str, points: dict[str, list[Point]]) -> dict[str, list[Tried]]:
        """Every point of every optimizer on the first tuning seed."""
        seed = self.plan.seeds("tune")[0]
        units = {name: [self.plan.unit(name, p.spec, seed, "tune") for p in listed] for name, listed in points.items()}
        self._do(phase, [unit for listed in units.values() for unit in listed])
        return {
            name: [Tried(point, (self._outcome(u, point),)) for u, point in zip(units[name], listed, strict=True)]
            for name, listed in points.items()
        }

    def _finals(self, phase: str, tried: dict[str, list[Tried]], goals: Collection[float]) -> dict[str, list[Tried]]:
        """The same with the best few points of every optimizer tried on the further tuning seeds as well."""
        plan, seeds = self.plan, self.plan.seeds("tune")[1:]
        finalists = {
            name: sorted(listed, key=lambda one: one.rank(goals))[:FINALISTS]
            for name, listed in tried.items()
            if len(listed) > 1
        }
        units = {
            (name, one.point.spec): [plan.unit(name, one.point.spec, seed, "tune") for seed in seeds]
            for name, listed in finalists.items()
            for one in listed
        }
        self._do(phase, [unit for listed in units.values() for unit in listed])

        def again(name: str, one: Tried) -> Tried:
            more = (self._outcome(unit, one.point) for unit in units.get((name, one.point.spec), []))
            return Tried(one.point, (*one.outcomes, *more))

        return {name: [again(name, one) for one in listed] for name, listed in tried.items()}

    def _goals(self) -> dict[str, float]:
        """The given goal, or three that the best reference sets before any challenger runs; frozen in the plan."""
        if self.content["goals"] is not None:
            return dict(self.content["goals"])
        plan = self.plan
        if plan.given_goal is not None:
            goals = {"given": float(plan.given_goal)}
        else:
            tried = self._try("references", {name: plan.points(name, spec) for name, spec in plan.references.items()})
            tuned = {name: Tuning(listed, ()) for name, listed in self._finals("references", tried, ()).items()}
            name, best = min(
                ((name, tuning.tried[tuning.chosen(())]) for name, tuning in tuned.items()),
                key=lambda item: item[1].rank(()),
            )
            units = [plan.unit(name, best.point.spec, seed, "goal") for seed in plan.seeds("goal")]
            self._do("goals", units)
            curves = [(o.work, o.metric) for o in (self._outcome(unit, best.point) for unit in units)]
            goals = freeze(curves, plan.settings.steps, plan.task["better"])
            if any(value != value or abs(value) == float("inf") for value in goals.values()):
                raise RaceStopped("no reference optimizer trained at all, so there is no goal: give one with --goal")
        self.content["goals"] = goals
        self.store.save_plan(self.content)
        return goals

    def _tune(self, goals: dict[str, float]) -> dict[str, Tuning]:
        """Every point; then, where the best one of an optimizer lies at the edge of its range, a few more for all."""
        plan = self.plan
        listed = {name: plan.points(name, spec) for name, spec in plan.optimizers.items()}
        tried = self._try("tuning", listed)
        best = {name: min(listed, key=lambda one: one.rank(goals.values())).point for name, listed in tried.items()}
        settings = plan.settings
        beyond = {
            name: widened(spec, settings.points, plan.point_seed, best[name], plan.extra)
            for name, spec in plan.optimizers.items()
        }
        if any(names for _, names in beyond.values()):
            tunable = {name: spec for name, spec in plan.optimizers.items() if len(listed[name]) > 1}
            more = {name: beyond[name][0] or plan.more_points(spec) for name, spec in tunable.items()}
            for name, further in self._try("tuning beyond the range", more).items():
                tried[name] = tried[name] + further
        tried = self._finals("finalists", tried, goals.values())
        return {name: Tuning(listed, beyond[name][1]) for name, listed in tried.items()}

    def _rerun(self, best: dict[str, Point]) -> dict[str, list[Outcome]]:
        """The best point of every optimizer on the same fresh seeds."""
        seeds = self.plan.seeds("run")
        units = {name: [self.plan.unit(name, p.spec, seed, "run") for seed in seeds] for name, p in best.items()}
        # Seed by seed, so that a race that is stopped early has something to compare.
        self._do("reruns", [units[name][i] for i in range(len(seeds)) for name in best])
        return {name: [self._outcome(unit, best[name]) for unit in listed] for name, listed in units.items()}

    def _gates(self, verdict: dict[str, Any], goal: float, runs: dict[str, list[Outcome]]) -> list[gates.Gate]:
        plan, settings = self.plan, self.plan.settings
        works = works_of(runs, goal)
        winner = verdict["ranking"][0]
        first = runs[winner][0]
        seed = plan.seeds("run")[0]
        rerun, twin = (plan.unit(winner, first.point.spec, seed, kind) for kind in ("run", "twin"))
        swapped = plan.unit(winner, first.point.spec, seed, "swapped")
        self._do("gates", [twin, swapped] if plan.task["can_swap"] else [twin])
        ends = [end for end in map(self.store.end, sorted(self.done)) if end is not None]
        return [
            gates.same_numbers(self.store.record(rerun), self.store.record(twin)),
            gates.same_start({name: [outcome.end for outcome in outcomes] for name, outcomes in runs.items()}),
            gates.no_false_alarms(works, settings.steps, judge),
            gates.swapped_labels(
                self.store.record(swapped) if plan.task["can_swap"] else None, goal, plan.task["better"]
            ),
            gates.few_diverge(ends),
            gates.cheap_evaluation(ends),
        ]

    def _remarks(self, tuning: dict[str, Tuning], runs: dict[str, list[Outcome]]) -> list[str]:
        """What a reader of the verdict should know about how it came about."""
        said = []
        for name, tuned in tuning.items():
            if tuned.widened:
                said.append(
                    f"the best {', '.join(tuned.widened)} of {name} lay in the outer tenth of its range, which was "
                    f"widened: every optimizer was given {self.plan.extra} more points"
                )
            if len(tuned.tried) == 1 and self.plan.settings.points > 1:
                said.append(f"{name} has nothing left to tune: it ran at one point")
        for name, outcomes in runs.items():
            reasons = sorted({outcome.reason for outcome in outcomes if outcome.status == "failed"})
            if reasons:
                said.append(f"runs of {name} failed and count as not reaching the goal: {'; '.join(reasons)}")
        return said
