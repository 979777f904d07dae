"""A race as its folder holds it: the plan, the verdict, and the records of the reruns."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ravine.core.errors import RavineError, nearest
from ravine.core.record import Damaged, Record, read, read_json

FORMAT = 1
Content = dict[str, Any]

_PLAN = ("task", "settings", "optimizers")
_VERDICT = ("task", "metric", "better", "goal", "goals", "budget", "sentence", "optimizers", "pairs", "gates", "notes")


@dataclass(frozen=True)
class Race:
    """A finished race. `records` holds what is on disk of the reruns that `verdict` names, by their id."""

    folder: Path
    plan: Content
    verdict: Content
    records: dict[str, Record]

    @property
    def optimizers(self) -> dict[str, Content]:
        """What the verdict says about each optimizer, by name, in the order of the plan."""
        found: dict[str, Content] = self.verdict["optimizers"]
        planned = [name for name in self.plan["optimizers"] if name in found]
        return {name: found[name] for name in (*planned, *found)}

    @property
    def higher(self) -> bool:
        """Whether more of the metric is better."""
        return bool(self.verdict["better"] == "higher")

    @property
    def horizon(self) -> float:
        """The work every run may do."""
        return float(self.verdict["budget"] or self.plan["settings"]["steps"])

    @property
    def missing(self) -> list[str]:
        """The reruns that the verdict names and the folder lacks."""
        runs = (run for optimizer in self.optimizers.values() for run in optimizer["runs"])
        return [run["id"] for run in runs if run["id"] not in self.records]


def load(folder: Path) -> Race:
    """The race in `folder`.

    Raises `RavineError` where there is no such folder, where it holds no race or one that has not finished, and
    `Damaged`, naming the file, where one of its files cannot be trusted.
    """
    folder = Path(folder)
    _check(folder)
    plan = _content(folder / "plan.json", _PLAN)
    if plan.get("format") != FORMAT:
        given = plan.get("format")
        raise RavineError(f"{folder / 'plan.json'} has format {given}, this version of ravine reads format {FORMAT}")
    if not (folder / "verdict.json").exists():
        count = sum(read(path).finished for path in sorted((folder / "records").glob("*.jsonl")))
        recorded = "1 trial is" if count == 1 else f"{count} trials are"
        raise RavineError(
            f"the race in {folder} has not finished: {recorded} recorded; run the same command again to finish it"
        )
    verdict = _content(folder / "verdict.json", _VERDICT)
    paths = {name: folder / "records" / f"{name}.jsonl" for name in _named(verdict)}
    return Race(folder, plan, verdict, {name: read(path) for name, path in paths.items() if path.exists()})


def _check(folder: Path) -> None:
    if not folder.exists():
        here = folder.parent
        siblings = sorted(path.name for path in here.iterdir() if path.is_dir()) if here.is_dir() else []
        near = {name.lower(): name for name in siblings}
        match = nearest(folder.name, near)
        guess = f"did you mean '{here / near[match]}'? " if match else ""
        raise RavineError(f"there is no folder '{folder}': {guess}Give the folder that `ravine race` wrote.")
    if not folder.is_dir():
        raise RavineError(f"'{folder}' is a file: give the folder that `ravine race` wrote")
    if not (folder / "plan.json").exists():
        inside = sorted(path.parent.name for path in folder.glob("*/plan.json"))
        hint = f"the races in it are {', '.join(inside)}" if inside else "give the folder that `ravine race` wrote"
        raise RavineError(f"'{folder}' is not a race's folder, it holds no plan.json: {hint}")


def _content(path: Path, keys: tuple[str, ...]) -> Content:
    content = read_json(path)
    if not isinstance(content, dict):
        raise Damaged(f"{path} holds a {type(content).__name__}, a dict was expected")
    for key in keys:
        if key not in content:
            raise Damaged(f"{path} has no '{key}'")
    return content


def _named(verdict: Content) -> Iterator[str]:
    for optimizer in verdict["optimizers"].values():
        yield from (run["id"] for run in optimizer["runs"])
