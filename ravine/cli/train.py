"""`ravine train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ravine.cli.screen import aside, dump, failed, interruptible, progress, show

if TYPE_CHECKING:
    from ravine.core.probe import Moment


def train(
    task: Annotated[str, typer.Argument(help="A built-in task, path/to/file.py:function or package.module:function.")],
    optimizer: Annotated[str, typer.Option(help='A spec, such as "adam(lr=0.001) @ cosine()".')] = "adam",
    steps: Annotated[int, typer.Option(help="Budget in gradient evaluations.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of weights, data order and chance within training.")] = 0,
    every: Annotated[int | None, typer.Option(help="Gradient evaluations between two judgements.")] = None,
    probe: Annotated[list[str] | None, typer.Option(help="Measure on the way; may be given several times.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after this many judgements without improvement.")] = None,
    device: Annotated[str, typer.Option(help="Device of torch.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder for record and checkpoints; a cut-off run goes on.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print only the result, as JSON.")] = False,
) -> None:
    """Train on a task with one optimizer and show how it went."""
    import ravine
    from ravine.core.declared import check_value
    from ravine.core.spec import parse_links

    if patience is not None:  # before ravine.train makes the folder
        check_value("patience", patience, int, "[1, inf)")
    probes = [ravine.probes.make(call) for text in probe or () for call in parse_links(text)]
    with aside(json):
        moments = ravine.train(
            ravine.task(task), optimizer, steps=steps, seed=seed, every=every, probes=probes, device=device, out=out
        )
    if patience is not None:
        moments = ravine.early_stopping(moments, patience, keep=out / "best.pt" if out else None)
    rows: list[dict[str, Any]] = []
    hint = "the same command goes on from here" if out else "nothing was kept; --out keeps a run so that it can go on"
    try:
        with interruptible(hint), aside(json), progress("evaluations of the gradient") as bar:
            line = bar.add_task(task, total=steps)
            for moment in moments:
                bar.update(line, completed=moment.work, description=f"{task}  {moment.metric:.4g}")
                rows.append(moment.row())
    except ravine.RavineError as error:
        failed(error)
        raise typer.Exit(1) from None
    if json:
        return dump(_result(optimizer, seed, moment, rows))
    show(_table(moment, rows))
    return None


def _result(optimizer: str, seed: int, moment: "Moment", rows: list[dict[str, Any]]) -> dict[str, Any]:
    best = max if moment.task.better == "higher" else min
    return {
        "task": moment.task.name,
        "spec": optimizer,
        "seed": seed,
        "work": moment.work,
        "metric_name": moment.task.metric_name,
        "metric": moment.metric,
        "best_metric": best((row["metric"] for row in rows if row["metric"] == row["metric"]), default=None),
        "loss": moment.loss,
        "diverged": moment.diverged,
        "rows": rows,
    }


def _table(moment: "Moment", rows: list[dict[str, Any]]) -> Any:
    """About ten rows of the record, the last among them."""
    from rich.table import Table

    fixed = ("step", "work", "examples", "observed")
    names = ["loss", "metric", *sorted({key for row in rows for key in row} - {*fixed, "loss", "metric"})]
    ending = "diverged" if moment.diverged else f"{moment.seconds:.1f} s"
    judged = f"{moment.task.metric_name} {moment.metric:.4g}"
    table = Table(title=f"{moment.task.name}: {judged} after {moment.work} gradient evaluations ({ending})")
    for name in ("work", *(moment.task.metric_name if name == "metric" else name for name in names)):
        table.add_column(name, justify="right")
    stride = max(1, (len(rows) - 1) // 10)
    for row in [*rows[:-1:stride], rows[-1]]:
        cells = ("" if row.get(name) is None else f"{row[name]:.4g}" for name in names)
        table.add_row(str(row["work"]), *cells)
    return table
