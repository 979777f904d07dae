"""`ravine curvature`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ravine.cli.screen import aside, dump, failed, interruptible, picture_place, progress, say, show

if TYPE_CHECKING:
    from ravine.anatomy import Anatomy
    from ravine.curvature.survey import Watch


class At(StrEnum):
    """Where the curvature is taken."""

    init = "init"
    trained = "trained"


def curvature(
    task: Annotated[str, typer.Argument(help="A built-in task, path/to/file.py:function or package.module:function.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Weights: a state_dict, or what train --out left.")] = None,
    at: Annotated[At, typer.Option(help="At the initial weights, or after training.")] = At.init,
    optimizer: Annotated[str | None, typer.Option(help="With --at trained: a spec; adam unless given.")] = None,
    steps: Annotated[int | None, typer.Option(help="With --at trained: evaluations, 500 unless given.")] = None,
    kind: Annotated[str, typer.Option(help="Which matrix: gauss_newton, fisher, kfac, and so on.")] = "hessian",
    examples: Annotated[int | None, typer.Option(help="The first so many; four batches unless given.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Each layer's own block too.")] = False,
    top: Annotated[int, typer.Option(help="Eigenvalues at each end.")] = 3,
    samples: Annotated[int, typer.Option(help="Products for a trace, at most.")] = 100,
    most: Annotated[int | None, typer.Option(help="Vectors in memory, at most; what fits into 8 GB otherwise.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, training and estimates.")] = 0,
    device: Annotated[str, typer.Option(help="Device of torch.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="A .png, .svg or folder; runs/curvature-TASK.png otherwise.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print only the result, as JSON.")] = False,
) -> None:
    """Look at a task's curvature: both ends of the spectrum, trace, condition number, with error bars and pictures."""
    import ravine
    from ravine.anatomy import anatomy

    with aside(json):
        problem = ravine.task(task)
    _check_training(at, checkpoint, optimizer, steps)
    places = _places(out, problem.name, layers)
    trained = (optimizer or "adam") if at == At.trained else None
    with interruptible("nothing was kept"), aside(json), progress("") as bar:
        try:
            found = anatomy(
                problem, kind=kind, checkpoint=checkpoint, optimizer=trained, steps=500 if steps is None else steps,
                examples=examples, layers=layers, top=top, samples=samples, most=most, seed=seed, device=device,
                observe=_lines(bar),
            )  # fmt: skip
        except ravine.RavineError as error:
            bar.stop()
            failed(error)
            raise typer.Exit(2) from None
    _draw(found, places)
    if json:
        return dump(_content(found, places))
    for table in _tables(found):
        show(table)
    return None


def _check_training(at: At, checkpoint: Path | None, optimizer: str | None, steps: int | None) -> None:
    from ravine.core.errors import RavineError

    if at == At.trained and checkpoint is not None:
        raise RavineError("--checkpoint has the weights: leave --at trained out")
    if at == At.init and (optimizer is not None or steps is not None):
        given = "--optimizer" if optimizer is not None else "--steps"
        raise RavineError(f"{given} says how to train, and nothing is trained: add --at trained")


def _places(out: Path | None, name: str, layers: bool) -> list[Path]:
    """Where the spectrum is drawn, and the layers where they are wanted; raises unless both can be written."""
    out = picture_place(out, "curvature", name, "spectrum.png")
    beside = "layers" if out.stem == "spectrum" else f"{out.stem}-layers"
    return [out, out.with_name(beside + out.suffix)] if layers else [out]


def _lines(bar: Any) -> "Watch":
    """A line for each thing that is estimated, the layers in one."""
    lines: dict[str, Any] = {}
    planned: dict[str, int] = {}

    def observe(stage: str, done: int, most: int) -> None:
        line = "layers" if stage.startswith("layer ") else stage
        if line not in lines:
            for other, number in lines.items():  # it ended, mostly before the most it may take
                bar.update(number, total=planned[other], completed=planned[other])
            lines[line] = bar.add_task(stage, total=most)
        planned[line] = done
        bar.update(lines[line], description=stage, completed=done, total=most)

    return observe


def _draw(found: "Anatomy", places: list[Path]) -> None:
    from ravine.curvature import plot_layers, plot_spectrum

    title = f"{found.task}: {found.kind}, {found.where}, {found.examples} examples"
    places[0].parent.mkdir(parents=True, exist_ok=True)
    plot_spectrum(found.whole.spectrum, places[0], title=title)
    if len(places) > 1:
        plot_layers(found.layers, places[1], title=title)
    if found.still:
        say(f"in evaluation mode, since they drop at random: {', '.join(found.still[:8])}")
    say(f"written: {', '.join(map(str, places))}")


def _content(found: "Anatomy", places: list[Path]) -> dict[str, Any]:
    from ravine.core.machine import versions

    return found.content() | {"pictures": [str(place) for place in places], "versions": versions()}


def _tables(found: "Anatomy") -> list[Any]:
    """The whole, and the layers where they were asked for."""
    from rich.table import Table

    whole = found.whole
    title = f"{found.task}: {found.kind} of {whole.size:,} parameters, {found.where}, {found.examples} examples"
    told: dict[str, Any] = {
        "top": whole.top,
        "bottom": whole.bottom,
        "trace": whole.trace,
        "condition number": whole.condition,
    }
    told |= {f"share below {whole.limit:.2g}": whole.negative}
    table = Table(title=title, caption=_reasons(told) or None, caption_justify="left", caption_style="")
    _columns(table, "", "value", "±", "products", "converged")
    for name, one in told.items():
        percent = one is whole.negative
        label = f"{name} eigenvalues" if name in ("top", "bottom") else name
        rest = [str(one.products), "yes" if one.converged else "no"]
        for value, error in _pairs(one):
            least = "≥ " if one is whole.condition and not one.converged else ""
            table.add_row(label, least + _number(value, 5, percent), _number(error, 2, percent), *rest)
            label, rest = "", ["", ""]
    return [table, _layers(found)] if found.layers else [table]


def _layers(found: "Anatomy") -> Any:
    from rich.table import Table

    table = Table(title="each layer's own block")
    _columns(table, "layer", "parameters", "top eigenvalue", "±", "trace", "±", "converged")
    for name, layer in found.layers.items():
        both = (_pairs(layer.top)[0], _pairs(layer.trace)[0])
        cells = [shown for value, error in both for shown in (_number(value, 4), _number(error, 2))]
        missed = [what for what, one in (("top", layer.top), ("trace", layer.trace)) if not one.converged]
        table.add_row(name, f"{layer.size:,}", *cells, f"not the {' nor the '.join(missed)}" if missed else "yes")
    return table


def _columns(table: Any, *names: str) -> None:
    for number, name in enumerate(names):
        last = name == "converged"
        table.add_column(name, justify="left" if last or not number else "right", no_wrap=bool(number), overflow="fold")


def _pairs(found: Any) -> list[tuple[float, float]]:
    """Values with their errors."""
    if isinstance(found.value, int | float):
        return [(found.value, found.error)]
    return list(zip(found.value.tolist(), found.error.tolist(), strict=True))


def _number(value: float, digits: int, percent: bool = False) -> str:
    return f"{100 * value:.{min(3, digits)}g} %" if percent else f"{value:.{digits}g}"


def _reasons(told: dict[str, Any]) -> str:
    """Why what did not converge did not, in the words of the command line."""
    found = [f"{name}: {one.reason}" for name, one in told.items() if not one.converged]
    return (
        "\n".join(found)
        .replace("most=", "--most")
        .replace("more samples", "more --samples")
        .replace(", or a larger tol", "")
    )
