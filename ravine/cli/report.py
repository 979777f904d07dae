"""`ravine report`."""

from pathlib import Path
from typing import Annotated

import typer

from ravine.cli.screen import dump, say, show


def report(
    folder: Annotated[Path, typer.Argument(help="A race's folder.")],
    best: Annotated[bool, typer.Option("--best", help="Print the winner's setting as code to paste.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print only the verdict, as JSON.")] = False,
) -> None:
    """Show a finished race again: the table here, and report.html made anew from its records."""
    from ravine import report as room

    race = room.load(folder)
    if best:
        return typer.echo(room.best(race))
    if json:
        return dump(race.verdict)
    show(room.table(race))
    say(f"report: {room.write(race)}")
    return None
