"""`ravine init`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ravine.cli.screen import aside, dump, failed, interruptible, picture_place, say, show

if TYPE_CHECKING:
    from ravine.init import Finding
    from ravine.outset import Start


def init(
    task: Annotated[str, typer.Argument(help="A built-in task, path/to/file.py:function or package.module:function.")],
    init: Annotated[str | None, typer.Option("--init", help="Initialize by a spec first: orthogonal, he, ...")] = None,
    search: Annotated[bool, typer.Option("--search", help="Rescale the layers on one batch first.")] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="Weights: a state_dict, or what train --out left.")] = None,
    examples: Annotated[int | None, typer.Option(help="In the batch; 128 or the task's batch size.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.")] = 0,
    device: Annotated[str, typer.Option(help="Device of torch.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="A .png, .svg or folder; runs/init-TASK.png otherwise.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print only the result, as JSON.")] = False,
) -> None:
    """Check where training starts: the signal through every layer, forward and backward, with pass, warn or fail.

    Exit status: 0 pass or warn, 1 fail, 2 something is wrong with what was given.
    """
    import ravine
    from ravine.outset import start

    with aside(json):
        problem = ravine.task(task)
    place = picture_place(out, "init", problem.name, "signal.png")
    with interruptible("nothing was kept"), aside(json):
        try:
            found = start(
                problem, init, search=search, checkpoint=checkpoint, seed=seed, examples=examples, device=device
            )
        except ravine.RavineError as error:
            failed(error)
            raise typer.Exit(2) from None
    drawn = _draw(found, place)
    if json:
        from ravine.core.machine import versions

        dump(_finite(found.content() | {"picture": drawn, "versions": versions()}))
    else:
        for table in _tables(found):
            show(table)
    if found.findings.verdict == "fail":
        raise typer.Exit(1)


def _draw(found: "Start", place: Path) -> str | None:
    from ravine.outset import plot_signal

    if not found.findings.signals:
        return None
    place.parent.mkdir(parents=True, exist_ok=True)
    plot_signal(found.findings, place, title=f"{found.task}, {found.where}, {found.examples} examples")
    say(f"written: {place}")
    return str(place)


def _finite(value: Any) -> Any:
    """Numbers that JSON does not have, in words."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and value - value != 0 else value


# ---------------------------------------------------------------- tables

_COLUMNS = ("activation std", "gradient std", "dead", "saturated", "effective rank", "identical units")


def _tables(found: "Start") -> list[Any]:
    from rich.table import Table

    findings = found.findings
    title = f"{found.task}: {found.where}, {found.examples} examples, verdict: {findings.verdict}"
    table = Table(title=title)
    table.add_column("layer", overflow="fold")
    for name in (*_COLUMNS, "verdict"):
        table.add_column(name, justify="left" if name == "verdict" else "right")
    for one in findings.signals:
        lines = {line.name: line for line in findings if line.layer == one.name}
        verdicts = [line.verdict for line in lines.values()]
        cells = [_cell(lines.get(name)) for name in _COLUMNS]
        table.add_row(one.name, *cells, _shown(next(v for v in ("fail", "warn", "pass") if v in verdicts)))
    return [table, *_searched(found), _whole(findings.lines), *_wrong(findings.wrong)]


def _cell(line: "Finding | None") -> str:
    if line is None:
        return ""
    value = f"{100 * line.value:.3g} %" if line.name in ("dead", "saturated") else f"{line.value:.3g}"
    return value if line.verdict == "pass" else f"[{_COLORS[line.verdict]}]{value}[/]"


_COLORS = {"pass": "green", "warn": "yellow", "fail": "bold red"}


def _shown(verdict: str) -> str:
    return f"[{_COLORS[verdict]}]{verdict}[/]"


def _searched(found: "Start") -> list[Any]:
    from rich.text import Text

    one = found.searched
    if one is None:
        return []
    told = f"searched: level {one.level:g}, {100 * one.share:.3g} % of means taken out, {one.passes} passes"
    return [Text(f"{told}\n  before: {one.before}\n  after:  {one.after}")]


def _whole(lines: "Sequence[Finding]") -> Any:
    from rich.table import Table

    table = Table()
    for name in ("of the whole", "reason", "verdict"):
        table.add_column(name)
    for line in lines:
        if line.name in ("loss", "layers", "gradient ratio", "through time", "state std"):
            table.add_row(f"{line.name} {line.layer}".strip(), line.reason, _shown(line.verdict))
    return table


def _wrong(lines: "Sequence[Finding]") -> list[Any]:
    """What does not pass: the same thing of several layers in one row."""
    from rich.table import Table

    if not lines:
        return []
    table = Table()
    for name in ("", "what", "where", "reason", "fix"):
        table.add_column(name, overflow="fold")
    groups: dict[tuple[str, str], list[Any]] = {}
    for line in lines:
        groups.setdefault((line.verdict, line.name), []).append(line)
    for (verdict, name), found in groups.items():
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        table.add_row(_shown(verdict), name, found[0].layer + more, found[0].reason, found[0].fix)
    return [table]
