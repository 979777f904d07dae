"""`ravine lr`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ravine.cli.screen import aside, dump, failed, interruptible, progress, say, show

if TYPE_CHECKING:
    from ravine.tune import Result


class Method(StrEnum):
    """How a learning rate is found."""

    range = "range"
    book = "book"


def lr(
    task: Annotated[str, typer.Argument(help="A built-in task, path/to/file.py:function or package.module:function.")],
    optimizer: Annotated[str, typer.Option(help="A spec; groups keep the ratios of their lrs.")] = "adam",
    method: Annotated[Method, typer.Option(help="A range test with validation, or the book's rule.")] = Method.range,
    seeds: Annotated[int, typer.Option(help="Seeds over which the test is repeated.")] = 3,
    steps: Annotated[int, typer.Option(help="Length of the run that is planned, in gradient evaluations.")] = 1000,
    budget: Annotated[int, typer.Option(help="Gradient evaluations the range test may take in all.")] = 300,
    seed: Annotated[int, typer.Option(help="Seed of the whole test.")] = 0,
    device: Annotated[str, typer.Option(help="Device of torch.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Picture to write, .png or .svg.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print only the result, as JSON.")] = False,
) -> None:
    """Find a learning rate: swept over seeds, validated by short runs, with an interval and the bound of divergence."""
    import ravine
    from ravine.tune import draw, lr_range
    from ravine.tune.drawing import check_place

    if out is not None:
        check_place(out)  # before an hour's work, not after
    with interruptible("nothing was kept"), aside(json), progress("evaluations of the gradient") as bar:
        line = bar.add_task(task, total=budget if method == Method.range else None)
        try:
            found = lr_range(
                ravine.task(task), optimizer, seeds, steps=steps, budget=budget, method=method.value, seed=seed,
                device=device, observe=lambda spent: bar.update(line, completed=spent),
            )  # fmt: skip
        except ravine.RavineError as error:
            bar.stop()
            failed(error)
            raise typer.Exit(2) from None
    if out is not None:
        say(f"picture: {draw(found, out)}")
    if json:
        return dump(found.content())
    show(_table(found))
    return None


def _table(found: "Result") -> Any:
    """The answer, line by line."""
    from rich.table import Table

    table = Table(title=f"{found.task}: learning rate by method '{found.method}'", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("suggestion", "don't know" if found.suggestion is None else f"{found.suggestion:.2g}")
    if found.low is not None and found.high is not None:
        table.add_row("interval", f"{found.low:.2g} to {found.high:.2g}")
    table.add_row("diverges at", "not seen" if found.diverges_at is None else f"{found.diverges_at:.2g}")
    if found.suggestion is not None and found.spec:
        table.add_row("to paste", found.spec)
    share = f"{found.cost / found.steps:.0%} of a run of {found.steps}"
    table.add_row("cost", f"{found.cost} gradient evaluations, {share}")
    table.add_row("why", found.reason)
    return table
