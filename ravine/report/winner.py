"""The winner of a race, and the code that builds it."""

import json
import shlex
import textwrap
from typing import Any

from ravine.report import words
from ravine.report.read import Race

_OPPOSITE = {"faster": "slower", "slower": "faster", "lower": "upper", "upper": "lower"}


def ranked(race: Race) -> list[str]:
    """The optimizers, best first, as the verdict ranks them."""
    return list(race.verdict["ranking"])


def reached(race: Race) -> bool:
    """Whether any rerun reached the goal."""
    return any(_or(found["success_rate"], 0) > 0 for found in race.optimizers.values())


def facing(race: Race, name: str) -> list[dict[str, Any]]:
    """The pairs of `name`, each turned so that it stands first: its work over the other's."""
    pairs = race.verdict["pairs"]
    return [
        {"bound": ""} | pair if pair["a"] == name else _turned(pair) for pair in pairs if name in (pair["a"], pair["b"])
    ]


def best(race: Race) -> str:
    """Python that builds the winner of `race` on a model, with the evidence and the command as comments."""
    name = ranked(race)[0]
    spec, task, steps = race.optimizers[name]["spec"], race.plan["task"], int(race.plan["settings"]["steps"])
    comments = [f"{task['name']}: {evidence(race)}", *standing(race, name)]
    wrapped = [part for text in comments for part in textwrap.wrap(words.line(text), 98, break_on_hyphens=False)]
    return "\n".join(
        [
            *(f"# {part}" for part in wrapped),
            *([f"# From the command line: {command(task['source'], spec, steps)}"] if task["source"] else []),
            "import ravine",
            "",
            f"STEPS = {steps}  # the race's horizon, where open schedules end",
            f"opt = ravine.assemble({json.dumps(spec, ensure_ascii=False)}, model, horizon=STEPS)",
        ]
    )


def evidence(race: Race) -> str:
    """Why the winner is the winner, in one sentence."""
    name = ranked(race)[0]
    found, verdict = race.optimizers[name], race.verdict
    final = f"a median final {verdict['metric']} of {words.metric(found['final_metric'])}"
    if verdict["goal"] is None:
        return f"{name} has the best result, {final}; the race had no goal."
    goal = f"{verdict['metric']} {words.plain(verdict['goal'])}"
    if not reached(race):
        return f"{name} has the best result, {final}; no optimizer reached {goal}."
    work = words.crossing(found["work_to_goal"], race.horizon, verdict["goal"])
    unit = words.currency(verdict.get("batch_size"))
    share = f"{round(found['success_rate'] * len(found['runs']))} of {len(found['runs'])} runs"
    return f"{name} reached {goal} in {share}, after a median of {work} {unit}; {final}."


def command(task: str, spec: str, steps: int) -> str:
    """The winner as a command for a shell, over the race's budget."""
    quoted = f'"{spec}"' if not set(spec) & set('"$`\\!\n') else shlex.quote(words.line(spec))
    return f"ravine train {shlex.quote(words.line(task))} --optimizer {quoted} --steps {steps}"


def standing(race: Race, name: str) -> list[str]:
    """What the verdict says of `name` and the others: a sentence for each word of the verdict."""
    said: dict[str, list[str]] = {"faster": [], "slower": [], "tie": [], "": []}
    for pair in facing(race, name):
        work = f"{words.ratio(pair['ratio'], pair['bound'])} of its work"
        interval = words.between(words.ratio(pair["low"]), words.ratio(pair["high"]))
        known = pair["verdict"] if pair["verdict"] in said else ""
        said[known].append(f"{pair['b']} ({work} {interval}, p {words.equals(pair['p'])})" if known else pair["b"])
    starts = {
        "faster": "Faster than",
        "slower": "Slower than",
        "tie": "A tie with",
        "": "Not enough runs to tell it from",
    }
    return [f"{starts[word]} {', '.join(others)}." for word, others in said.items() if others]


def _turned(pair: dict[str, Any]) -> dict[str, Any]:
    def inverse(value: float | None) -> float | None:
        return 1 / value if value else None

    return pair | {
        "a": pair["b"],
        "b": pair["a"],
        "ratio": inverse(pair["ratio"]),
        "low": inverse(pair["high"]),
        "high": inverse(pair["low"]),
        "verdict": _OPPOSITE.get(pair["verdict"], pair["verdict"]),
        "bound": _OPPOSITE.get(pair.get("bound", ""), pair.get("bound", "")),
    }


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else float(value)
