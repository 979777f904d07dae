"""`ravine distill`."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ravine.cli.screen import aside, dump, failed, interruptible, progress, say, show
from ravine.cli.stages import content, follow, picture, table


def distill(
    task: Annotated[str, typer.Argument(help="The student's task: a name, file.py:function or module:function.")],
    teacher: Annotated[str, typer.Option(help="The teacher's task, with the same data and another model.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Its weights: a state_dict, or what train --out left.")
    ] = None,
    teacher_steps: Annotated[int | None, typer.Option(help="Train it on the spot; 500 unless given.")] = None,
    hint_layer: Annotated[
        str | None, typer.Option(help="The teacher's module to imitate; its middle unless given.")
    ] = None,
    guided_layer: Annotated[
        str | None, typer.Option(help="The student's that imitates; its middle unless given.")
    ] = None,
    hint_steps: Annotated[int, typer.Option(help="Gradient evaluations of the hints; 0 leaves them out.")] = 500,
    steps: Annotated[int, typer.Option(help="Gradient evaluations of the distillation.")] = 500,
    temperature: Annotated[float, typer.Option(help="tau of the softened answers.")] = 3.0,
    soft: Annotated[str, typer.Option(help="FIRST,LAST: weight of the teacher's answers on the way.")] = "4,1",
    classes: Annotated[int | None, typer.Option(help="Dimension that holds the classes: -1, the last, or 1.")] = None,
    optimizer: Annotated[str, typer.Option(help='A spec, such as "adam(lr=0.001)".')] = "adam",
    seed: Annotated[int, typer.Option(help="Seed of weights, data order and chance within training.")] = 0,
    every: Annotated[int | None, typer.Option(help="Gradient evaluations between two judgements.")] = None,
    device: Annotated[str, typer.Option(help="Device of torch.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder for records and checkpoints; a cut-off run goes on.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print only the result, as JSON.")] = False,
) -> None:
    """Let a student learn from a teacher: first its features (hints), then its answers (distillation)."""
    import ravine
    from ravine.strategies import distill as start
    from ravine.weights import fresh

    if checkpoint is not None and teacher_steps is not None:
        raise ravine.RavineError("--checkpoint has the teacher's weights: leave --teacher-steps out")
    weights = _weights(soft)
    hint = "the same command goes on from here" if out else "nothing was kept; --out keeps a run so that it can go on"
    with aside(json):
        problem, theirs = ravine.task(task), ravine.task(teacher)
    with interruptible(hint), aside(json), progress("evaluations of the gradient") as bar:
        try:
            lesson = partial(
                start, student=None, task=problem, optimizer=optimizer, hint_layer=hint_layer,
                guided_layer=guided_layer, hint_steps=hint_steps, steps=steps, temperature=temperature, soft=weights,
                classes=classes, seed=seed, every=every, device=device,
            )  # fmt: skip
            if checkpoint is None:
                lesson(fresh(theirs, seed, device))  # what is wrong is told before the teacher is trained
            length = 500 if teacher_steps is None else teacher_steps
            taught = _teacher(theirs, checkpoint, length, seed, device, out, bar)
            moments = lesson(taught, out=None if out is None else out / "student")
            moment, rows = follow(bar, moments, task)
        except ravine.RavineError as error:
            bar.stop()
            failed(error)
            raise typer.Exit(2) from None
    if drawn := picture(out, moment, rows, []):
        say(f"picture: {drawn}")
    if json:
        return dump(content(moment, rows, optimizer, seed, []) | {"teacher": teacher})
    show(table(moment, rows, []))
    return None


def _weights(text: str) -> tuple[float, float]:
    from ravine.core.errors import RavineError

    try:
        first, last = (float(part) for part in text.split(","))
    except ValueError:
        raise RavineError(f"--soft must be two numbers such as 4,1, got '{text}'") from None
    return first, last


def _teacher(task: Any, checkpoint: Path | None, steps: int, seed: int, device: str, out: Path | None, bar: Any) -> Any:
    """The teacher from its file, or trained here; in the folder, so that it is there when the run goes on."""
    from ravine.strategies.teaching import taught
    from ravine.weights import stored

    if checkpoint is not None:
        return stored(task, checkpoint, device)
    line = bar.add_task("teacher", total=steps)

    def observe(work: int) -> None:
        bar.update(line, completed=work)

    return taught(task, steps, seed, device, None if out is None else out / "teacher", observe)
