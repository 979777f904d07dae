"""`ravine race`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ravine.cli.screen import dump, failed, interruptible, progress, say, show

if TYPE_CHECKING:
    from ravine.racing.race import Progress


def race(
    task: Annotated[str, typer.Argument(help="A built-in task, path/to/file.py:function or package.module:function.")],
    optimizers: Annotated[
        str, typer.Option(help="Specs separated by commas; label=spec gives a name.")
    ] = "sgd,momentum,nesterov,adam,adamw",
    points: Annotated[int, typer.Option(help="Settings tried for each optimizer, the default among them.")] = 8,
    seeds: Annotated[int, typer.Option(help="Fresh seeds on which each optimizer's best setting is rerun.")] = 10,
    steps: Annotated[int, typer.Option(help="Budget of one run in gradient evaluations.")] = 1000,
    goal: Annotated[float | None, typer.Option(help="Metric to reach; set by reference optimizers otherwise.")] = None,
    workers: Annotated[int, typer.Option(help="Trials at a time, one thread each.")] = 2,
    device: Annotated[str, typer.Option(help="Device of torch.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="The race's folder; runs/TASK-ID otherwise.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the whole race.")] = 0,
    every: Annotated[int | None, typer.Option(help="Gradient evaluations between two judgements.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds that one trial may take.")] = None,
    memory_limit: Annotated[float | None, typer.Option(help="MB that one trial may take.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print only the verdict, as JSON.")] = False,
) -> None:
    """Race optimizers on a task: which reaches the goal with less work, by how much, and how sure are we?

    The same command goes on where the last one was cut off.
    """
    from ravine.racing import server

    server.start_early(task)  # it imports torch while this process does
    import ravine
    from ravine import report
    from ravine.racing.race import RaceStopped

    with interruptible("finished trials are kept; the same command goes on from here"), progress("trials") as bar:
        line = bar.add_task("looking at the task", total=None)
        said: set[str] = set()

        def observe(now: "Progress") -> None:
            bar.update(line, description=now.phase, completed=now.done, total=now.planned)
            for note in now.notes:
                if note not in said:
                    said.add(note)
                    say(f"note: {note}")

        try:
            verdict = ravine.race(
                task, optimizers, points=points, seeds=seeds, steps=steps, goal=goal, workers=workers, device=device,
                out=out, seed=seed, every=every, time_limit=time_limit, memory_limit=memory_limit, observe=observe,
            )  # fmt: skip
        except RaceStopped as error:
            bar.stop()
            failed(error)
            raise typer.Exit(1) from None
    if json:
        return dump(verdict.content)
    show(report.table(report.load(Path(verdict.folder))))
    say(f"report: {Path(verdict.folder) / 'report.html'}")
    return None
