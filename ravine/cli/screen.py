"""What commands share on the screen: results on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
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


def picture_place(out: Path | None, command: str, name: str, inside: str) -> Path:
    """Where a picture goes: `out`, or `inside` of it where that is a folder; in runs/ unless it is given.

    Raises `RavineError` unless a picture can be written there.
    """
    from ravine.core.errors import RavineError

    if out is None:
        out = Path("runs") / f"{command}-{name.replace('/', '-')}.png"
    elif out.is_dir() or not out.suffix:
        out = out / inside
    if out.suffix not in (".png", ".svg"):
        raise RavineError(f"--out must be a folder or end in .png or .svg, got '{out}'")
    for above in out.parents:
        if above.exists() and not above.is_dir():
            raise RavineError(f"'{above}' is no folder: no picture can be written there")
    return out
