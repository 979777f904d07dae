"""What commands share on the screen: results on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress


def failed(error: BaseException) -> None:
    """Say what went wrong."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text("error: ", style="bold red") + Text(str(error), style=""), soft_wrap=True)


def say(text: str) -> None:
    """A remark beside the result."""
    from rich.console import Console

    Console(stderr=True).print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def show(renderable: Any) -> None:
    """A result for people."""
    from rich.console import Console

    Console().print(renderable)


def dump(content: Any) -> None:
    """A result for programs: JSON and nothing else on standard output."""
    from ravine.core.record import plain

    typer.echo(json.dumps(plain(content), indent=1, allow_nan=False))


@contextmanager
def aside(json: bool) -> Iterator[None]:
    """With `json`, what code of the user's prints inside goes to standard error: standard output is for the result."""
    with redirect_stdout(sys.stderr) if json else nullcontext():
        yield


@contextmanager
def progress(unit: str) -> Iterator["Progress"]:
    """A progress bar with counts, time so far and time left."""
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn(unit),
        bars.TimeElapsedColumn(),
        bars.TextColumn("left"),
        bars.TimeRemainingColumn(elapsed_when_finished=False),
    )
    with bars.Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar


@contextmanager
def interruptible(hint: str) -> Iterator[None]:
    """Ctrl-C ends the command with status 130 and the `hint` how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted: {hint}")
        raise typer.Exit(130) from None
