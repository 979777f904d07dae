"""What a run in stages looks like on the screen: shared by `ravine pretrain` and `ravine distill`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ravine.core.probe import Moment
    from ravine.strategies import StageMoment


def follow(bar: Any, moments: "Iterable[StageMoment]", name: str) -> tuple["StageMoment", list[dict[str, Any]]]:
    """Go through the moments with a progress bar; the last one and the rows of all."""
    rows: list[dict[str, Any]] = []
    line = None
    for moment in moments:
        line = bar.add_task(name, total=moment.works) if line is None else line
        bar.update(line, completed=moment.work, description=f"{name}  {moment.stage}  {moment.metric:.4g}")
        rows.append(moment.row())
    return moment, rows


def follow_direct(bar: Any, moments: "Iterable[Moment]", total: int) -> list[dict[str, Any]]:
    """Go through a plain run of the same work; its rows."""
    line = bar.add_task("directly", total=total)
    rows: list[dict[str, Any]] = []
    for moment in moments:
        bar.update(line, completed=moment.work, description=f"directly  {moment.metric:.4g}")
        rows.append(moment.row())
    return rows


def content(
    moment: "StageMoment", rows: list[dict[str, Any]], spec: str, seed: int, direct: list[dict[str, Any]]
) -> dict[str, Any]:
    """The result for programs."""
    ends = {row["stage"]: row for row in rows}
    found = {
        "task": moment.task.name,
        "spec": spec,
        "seed": seed,
        "work": moment.work,
        "works": moment.works,
        "metric_name": moment.task.metric_name,
        "metric": moment.metric,
        "diverged": moment.diverged,
        "stages": [{"stage": name, "work": row["work"], "metric": row["metric"]} for name, row in ends.items()],
        "rows": rows,
    }
    return found | ({"direct": {"metric": direct[-1]["metric"], "rows": direct}} if direct else {})


def table(moment: "StageMoment", rows: list[dict[str, Any]], direct: list[dict[str, Any]]) -> Any:
    """How every stage ended."""
    from rich.table import Table

    judged = f"{moment.task.metric_name} {moment.metric:.4g}"
    ending = "diverged" if moment.diverged else f"{moment.seconds:.1f} s"
    made = Table(title=f"{moment.task.name}: {judged} after {moment.work} gradient evaluations ({ending})")
    for name in ("stage", "work", "loss", moment.task.metric_name):
        made.add_column(name, justify="left" if name == "stage" else "right")
    for name, row in {row["stage"]: row for row in rows}.items():
        shown = f"{_number(row['metric'])} (hint loss)" if name == "hint" else _number(row["metric"])
        made.add_row(name, str(row["work"]), _number(row["loss"]), shown)
    if direct:
        last = direct[-1]
        made.add_row("directly", str(last["work"]), _number(last["loss"]), _number(last["metric"]))
    return made


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def picture(out: Path | None, moment: "StageMoment", rows: list[dict[str, Any]], direct: list[dict[str, Any]]) -> str:
    """Draw the stages into the folder; what was written, or nothing without one."""
    from ravine.strategies import draw_stages

    if out is None:
        return ""
    what = {"title": f"{moment.task.name} in stages", "metric_name": moment.task.metric_name}
    return str(draw_stages(rows, out / "stages.png", direct=direct, **what))
