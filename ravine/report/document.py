"""A race as one page of HTML that needs nothing else: no network, no other file."""

import base64
import hashlib
import os
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ravine.core.errors import RavineError
from ravine.report import words
from ravine.report.crossing import work_to_goal
from ravine.report.curves import bands, learning_curves
from ravine.report.notes import notes
from ravine.report.pairs import axis, strips
from ravine.report.palette import DARK, LIGHT, swatch
from ravine.report.read import Race
from ravine.report.tuning import best_of_k, sensitivity, tuned_by_work, winners_curse
from ravine.report.winner import best, evidence, ranked, reached, standing

_HERE = Path(__file__).parent
_WIDE, _NARROW = 1040, 400


def write(race: Race) -> Path:
    """Write the page of `race` to report.html in its folder, at once or not at all, and say where.

    Raises `RavineError` where the folder cannot be written.
    """
    path = race.folder / "report.html"
    temporary = path.with_name(path.name + ".part")
    text = page(race).encode("utf-8", errors="replace")
    try:
        temporary.write_bytes(text)
        os.replace(temporary, path)
    except OSError as error:
        raise RavineError(f"cannot write {path}: {error.strerror or error}. Make room, or copy the folder") from error
    return path


def page(race: Race) -> str:
    """The page of `race`: the same text for the same race, to the bit."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        function.__name__: function
        for function in (words.count, words.metric, words.chance, words.percent, words.plain, words.line)
    }
    script = (_HERE / "script.html").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    context = _numbers(race) | _texts(race) | _plan(race) | {"figures": _figures(race)}
    return environment.get_template("page.html").render(
        context, script=Markup(script), script_hash=f"sha256-{digest}", light=LIGHT, dark=DARK
    )


def _figures(race: Race) -> dict[str, Markup | None]:
    found = bands(race)
    drawn = {
        "work_wide": work_to_goal(race, "work-wide", _WIDE),
        "work_narrow": work_to_goal(race, "work-narrow", _NARROW),
        "curves_wide": learning_curves(race, found, "curves-wide", (_WIDE, 460)),
        "curves_narrow": learning_curves(race, found, "curves-narrow", (_NARROW, 360)),
        "best": best_of_k(race, "best"),
        "sensitivity": sensitivity(race, "sensitivity"),
        "curse": winners_curse(race, "curse"),
    }
    return {name: Markup(svg) if svg else None for name, svg in drawn.items()}


def _numbers(race: Race) -> dict[str, Any]:
    gates = race.verdict["gates"]
    names = list(race.optimizers)
    order = ranked(race)
    return {
        "plan": race.plan,
        "settings": race.plan["settings"],
        "verdict": race.verdict,
        "optimizers": race.optimizers,
        "names": names,
        "ranked": order,
        "winner": order[0],
        "winner_series": names.index(order[0]) % len(LIGHT),
        "swatches": {name: Markup(swatch(number)) for number, name in enumerate(names)},
        "pairs": [(pair, Markup(picture)) for pair, picture in strips(race)],
        "forest_axis": Markup(axis(race)),
        "goals": [(key, goal) for key, goal in race.verdict["goals"].items() if goal is not None],
        "passed": sum(gate["passed"] is True for gate in gates),
        "skipped": sum(gate["passed"] is None for gate in gates),
        "failed": [words.line(gate["name"]) for gate in gates if gate["passed"] is False],
        "reached": reached(race),
        "by_work": tuned_by_work(race),
    }


def _texts(race: Race) -> dict[str, Any]:
    """The words of the page, and the functions that make them where a filter has too few arguments."""

    def crossing(work: Any) -> str:
        return words.crossing(work, race.horizon, race.verdict["goal"])

    def reached_at(run: Any) -> str:
        missed = "not reached" if run["status"] == "done" and race.verdict["goal"] is not None else words.NONE
        return missed if run["work_to_goal"] is None else words.count(run["work_to_goal"])

    return {
        "sentences": _sentences(race),
        "currency": words.currency(race.verdict.get("batch_size")),
        "notes": notes(race),
        "evidence": [words.line(text) for text in (evidence(race), *standing(race, ranked(race)[0]))],
        "change": _change,
        "best": best(race),
        "crossing": crossing,
        "reached_at": reached_at,
        "between": words.between,
        "ratio": words.ratio,
        "count": words.count,
        "metric": words.metric,
    }


def _plan(race: Race) -> dict[str, Any]:
    plan, task, settings = race.plan, race.plan["task"], race.plan["settings"]
    seeds = plan.get("seeds") or {}
    facts = {
        "Task": task.get("source") or task.get("name"),
        "Fingerprint of the task": task.get("fingerprint"),
        "Parameters of the model": task.get("parameters"),
        "Steps of a run": settings.get("steps"),
        "Evaluated every": settings.get("every"),
        "Points for each optimizer": settings.get("points"),
        "Seed of the plan": settings.get("seed"),
        "Seed of the tuning": seeds.get("tuning"),
        "Seeds of the goal": _listed(seeds.get("goal")),
        "Seeds of the reruns": _listed(seeds.get("runs")),
        "Goal that was given": plan.get("given_goal"),
        "Device": settings.get("device"),
    }
    entries = {**plan["optimizers"], **(plan.get("references") or {})}
    machine = {key.replace("_", " "): value for key, value in (plan.get("machine") or {}).items()}
    return {
        "plan_facts": [(label, words.line(words.plain(value))) for label, value in facts.items() if value is not None],
        "spaces": [
            (name, dimension, found)
            for name, entry in entries.items()
            for dimension, found in (entry.get("dimensions") or {}).items()
        ],
        "environment": [*(plan.get("versions") or {}).items(), *machine.items()],
    }


def _sentences(race: Race) -> list[str]:
    """The verdict's first sentence, and what follows it."""
    return re.split(r"(?<=\.) (?=[A-Z])", words.line(race.verdict["sentence"]), maxsplit=1)


def _change(tuning: dict[str, Any]) -> str:
    """How far the value on fresh seeds lies from the one in tuning."""
    before, after = tuning["tuning_value"], tuning["rerun_value"]
    if not before or after is None:
        return words.NONE
    change = after / before - 1
    return "the same" if abs(change) < 5e-4 else f"{change:+.1%}".replace("-", "−")


def _listed(seeds: Any) -> str | None:
    return ", ".join(map(str, seeds)) if seeds else None
