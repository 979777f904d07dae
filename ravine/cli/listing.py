"""`ravine list`."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from ravine.cli.screen import dump, show


class Kind(StrEnum):
    """What can be listed."""

    tasks = "tasks"
    optimizers = "optimizers"
    schedules = "schedules"
    probes = "probes"
    surfaces = "surfaces"
    initializations = "initializations"


def listing(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """List what has a name: tasks, optimizers, schedules, probes, surfaces or initializations."""
    from rich.table import Table

    rows = _ROWS[kind]()
    if json:
        return dump(rows)
    table = Table(title=f"{kind}")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), no_wrap=name == "name")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    show(table)
    return None


def _tasks() -> list[dict[str, Any]]:
    from ravine import tasks

    return [{"name": name, "what": tasks.summary(name)} for name in tasks.names()]


def _optimizers() -> list[dict[str, Any]]:
    from ravine import rules, solving

    return [
        {"name": name, "default_lr": lr, "arguments": _listed(arguments), "what": what}
        for name, lr, arguments, what in (
            *rules.catalogue(),
            *((name, None, arguments, what) for name, arguments, what in solving.catalogue()),
        )
    ]


def _schedules() -> list[dict[str, Any]]:
    from ravine.schedules import Schedule

    return [_declared(member) for member in Schedule.family().values()]


def _probes() -> list[dict[str, Any]]:
    from ravine import probes

    return [_declared(member) for member in probes.Probe.family().values()]


def _surfaces() -> list[dict[str, Any]]:
    from ravine import surfaces

    found = {name: surfaces.find(name) for name in surfaces.names()}
    return [{"name": name, "start": _pair(one.start), "what": one.summary} for name, one in found.items()]


def _initializations() -> list[dict[str, Any]]:
    from ravine.init import Strategy

    return [_declared(member) for member in Strategy.family().values()]


def _pair(point: tuple[float, float]) -> str:
    return f"{point[0]:g}, {point[1]:g}"


def _declared(member: Any) -> dict[str, Any]:
    import dataclasses

    arguments = {field.name: field.default for field in dataclasses.fields(member)}
    return {"name": member.name, "arguments": _listed(arguments), "what": member.summary()}


def _listed(arguments: dict[str, Any]) -> str:
    from ravine.core.spec import show

    return ", ".join(f"{name}={show(value)}" for name, value in arguments.items())


_ROWS = {
    Kind.tasks: _tasks, Kind.optimizers: _optimizers, Kind.schedules: _schedules, Kind.probes: _probes,
    Kind.surfaces: _surfaces,
    Kind.initializations: _initializations,
}  # fmt: skip
