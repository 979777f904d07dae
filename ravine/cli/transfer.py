"""`ravine transfer`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ravine.cli.screen import aside, dump, failed, interruptible, progress, say, show

if TYPE_CHECKING:
    from ravine.strategies import Matrix


def transfer(
    task_a: Annotated[str, typer.Argument(help="The task learnt first: a name, file.py:function or module:function.")],
    task_b: Annotated[
        str | None, typer.Argument(help="The task it serves; random halves of A's classes unless given.")
    ] = None,
    optimizer: Annotated[str, typer.Option(help='A spec, such as "adam(lr=0.001)".')] = "adam",
    layers: Annotated[
        str | None, typer.Option(help="How many layers to copy, as 1-3 or 1,2,5; all but the last.")
    ] = None,
    few: Annotated[int | None, typer.Option(help="With one task: training examples of each class in B.")] = None,
    steps: Annotated[int, typer.Option(help="Budget of every run, in gradient evaluations.")] = 500,
    seeds: Annotated[int, typer.Option(help="How often the whole is repeated.")] = 3,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    device: Annotated[str, typer.Option(help="Device of torch.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder for records, picture and transfer.json; it goes on.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print only the result, as JSON.")] = False,
) -> None:
    """Copy the first layers learnt on one task into a model for another: AnB, BnB and fine-tuned, for every n."""
    import ravine
    from ravine.strategies import class_halves, draw_matrix
    from ravine.strategies import transfer as run

    chosen = None if layers is None else _numbers(layers)
    if few is not None and task_b is not None:
        raise ravine.RavineError("--few takes examples from the half of a task: leave it out where two are given")
    with aside(json):
        first = ravine.task(task_a)
        a, b = class_halves(first, seed, few) if task_b is None else (first, ravine.task(task_b))
    hint = "the same command goes on from here" if out else "nothing was kept; --out keeps runs so that they can go on"
    with interruptible(hint), aside(json), progress("evaluations of the gradient") as bar:
        line = bar.add_task(task_a, total=None)
        try:
            found = run(
                a, b, optimizer, layers=chosen, steps=steps, seeds=seeds, seed=seed, device=device, out=out,
                observe=lambda name, done, most: bar.update(line, description=name, completed=done, total=most),
            )  # fmt: skip
        except ravine.RavineError as error:
            bar.stop()
            failed(error)
            raise typer.Exit(2) from None
    if out is not None:
        say(f"picture: {draw_matrix(found, out / 'transfer.png')}")
    if json:
        return dump(found.content())
    show(_table(found))
    return None


def _numbers(text: str) -> list[int]:
    """1-3 or 1,2,5 as numbers."""
    from ravine.core.errors import RavineError

    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.strip().isdigit() or (last and not last.strip().isdigit()):
            raise RavineError(f"--layers must be like 1-3 or 1,2,5, got '{text}'")
        found += range(int(first), int(last or first) + 1)
    return found


def _table(found: "Matrix") -> Any:
    """The matrix, with the gain over baseB below each mean."""
    from rich.table import Table

    title = f"{found.task_a} to {found.task_b}: {found.metric_name} on B, means of {len(found.seeds)} seeds [95 %]"
    table = Table(title=title, caption=f"{found.work} gradient evaluations in all; baseB {found.estimate('baseB')}")
    table.add_column("layers copied")
    treatments = list(dict.fromkeys(name for name, n in found.values if n))
    for name in treatments:
        table.add_column(name, justify="right")
    for n in found.layers:
        table.add_row(str(n), *(str(found.estimate(name, n)) for name in treatments))
    return table
