"""`ravine surface`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ravine.cli.screen import aside, dump, interruptible, progress, say, show

if TYPE_CHECKING:
    from ravine.surfaces import Surface, Trajectory


def surface(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A built-in surface, or a function of two tensors: path/to/file.py:function or "
            "package.module:function.",
        ),
    ],
    optimizers: Annotated[
        str, typer.Option(help="Specs separated by commas; an lr that is not written is tuned.")
    ] = "sgd,momentum,nesterov,rmsprop,adam",
    start: Annotated[str | None, typer.Option(metavar="X,Y", help="Where to begin; the surface knows a place.")] = None,
    window: Annotated[
        str | None, typer.Option(metavar="X0,X1,Y0,Y1", help="What is shown; a way ends where it leaves it.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Budget in gradient evaluations; the surface knows one.")] = None,
    out: Annotated[Path | None, typer.Option(help="A .png, .gif or .html to write; runs/NAME.html otherwise.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of chance within optimizers.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print only where the trajectories end, as JSON.")] = False,
) -> None:
    """Draw the ways of optimizers on a surface of two numbers: a picture, a film, or a page to play with."""
    from ravine import surfaces
    from ravine.surfaces.drawing import check_out

    with aside(json):
        ground = surfaces.find(name)
    called = ground.name if ":" in name else surfaces.hyphened(name)
    path = check_out(out or Path("runs") / f"{called}.html")
    begin = _point(start) if start is not None else ground.start
    if window is not None:
        ground = ground.within(_window(window), begin)
    with aside(json), interruptible("nothing was written"), progress("runs") as bar:
        line = bar.add_task(called, total=None)

        def observe(spec: str, done: int, planned: int) -> None:
            bar.update(line, description=spec, completed=done, total=planned)

        walked = surfaces.trajectories(ground, optimizers, begin, steps, seed, observe)
        bar.update(line, description=f"drawing {path.name}", completed=sum(one.runs for one in walked))
        surfaces.draw(ground, walked, path)
    if json:
        told = {"surface": called, "start": begin, "window": ground.window, "seed": seed, "out": str(path)}
        return dump(told | {"trajectories": [_result(one) for one in walked]})
    show(_table(ground, called, walked))
    say(f"written: {path}")
    return None


def _point(text: str) -> tuple[float, float]:
    from ravine.core.errors import RavineError

    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise RavineError(
            f"--start is two numbers with a comma between them, as in --start=-1.5,2; got '{text}'"
        ) from None
    return x, y


def _window(text: str) -> tuple[float, float, float, float]:
    from ravine.core.errors import RavineError

    try:
        left, right, low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise RavineError(
            f"--window is four numbers with commas between them, x from, x to, y from, y to, as in "
            f"--window=-2,2,-1,3; got '{text}'"
        ) from None
    return left, right, low, high


def _result(one: "Trajectory") -> dict[str, Any]:
    kept = {"name": one.name, "spec": str(one.spec), "lr": one.lr, "tuned": one.tuned, "ending": one.ending or None}
    kept |= {"flat_start": one.flat_start}
    return kept | {key: getattr(one, key)[-1] for key in ("step", "work", "x", "y", "loss")}


def _table(ground: "Surface", called: str, walked: "list[Trajectory]") -> Any:
    from rich.table import Table

    table = Table(title=f"{called}: {ground.summary}" if ground.summary else called)
    for head in ("optimizer", "", "steps", "gradients", *ground.axes, "loss"):
        table.add_column(head, justify="left" if head in ("optimizer", "") else "right")
    for one in walked:
        numbers = (f"{one.x[-1]:.4g}", f"{one.y[-1]:.4g}", f"{one.loss[-1]:.3g}")
        table.add_row(one.name, "; ".join(one.notes), str(one.step[-1]), str(one.work[-1]), *numbers)
    return table
