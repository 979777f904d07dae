"""`ravine pretrain`."""

from pathlib import Path
from typing import Annotated

import typer

from ravine.cli.screen import aside, dump, failed, interruptible, progress, say, show
from ravine.cli.stages import content, follow, follow_direct, picture, table


def pretrain(
    task: Annotated[str, typer.Argument(help="A built-in task, path/to/file.py:function or package.module:function.")],
    optimizer: Annotated[str, typer.Option(help='A spec, such as "adam(lr=0.001)".')] = "adam",
    steps_per_layer: Annotated[int, typer.Option(help="Gradient evaluations of each layer's stage.")] = 100,
    steps: Annotated[int, typer.Option(help="Gradient evaluations of the joint training that follows.")] = 500,
    keep_outer: Annotated[
        bool, typer.Option("--keep-outer", help="Train the outer layers, then insert the middle.")
    ] = False,
    keep: Annotated[str | None, typer.Option(help="FIRST,LAST: how many outer layers to keep, as in 4,3.")] = None,
    direct: Annotated[bool, typer.Option("--direct", help="Train directly too, with as much work in all.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights, data order and chance within training.")] = 0,
    every: Annotated[int | None, typer.Option(help="Gradient evaluations between two judgements.")] = None,
    device: Annotated[str, typer.Option(help="Device of torch.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder for records and checkpoints; a cut-off run goes on.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print only the result, as JSON.")] = False,
) -> None:
    """Pretrain a deep model layer by layer, then train all of it."""
    import ravine
    from ravine.strategies import pretrain as start

    outer = _outer(keep) if keep is not None else keep_outer
    with aside(json):
        problem = ravine.task(task)
        moments = start(
            problem, optimizer, steps_per_layer=steps_per_layer, steps=steps, keep_outer=outer, seed=seed, every=every,
            device=device, out=out,
        )  # fmt: skip
    hint = "the same command goes on from here" if out else "nothing was kept; --out keeps a run so that it can go on"
    beside = []
    try:
        with interruptible(hint), aside(json), progress("evaluations of the gradient") as bar:
            moment, rows = follow(bar, moments, task)
            if direct:
                place = None if out is None else out / "direct"
                whole = ravine.train(
                    problem, optimizer, steps=moment.works, seed=seed, every=every, device=device, out=place
                )
                beside = follow_direct(bar, whole, moment.works)
    except ravine.RavineError as error:
        failed(error)
        raise typer.Exit(1) from None
    if drawn := picture(out, moment, rows, beside):
        say(f"picture: {drawn}")
    if json:
        return dump(content(moment, rows, optimizer, seed, beside))
    show(table(moment, rows, beside))
    return None


def _outer(text: str) -> tuple[int, int]:
    from ravine.core.errors import RavineError

    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise RavineError(f"--keep must be two whole numbers such as 4,3, got '{text}'")
    return int(parts[0]), int(parts[1])
