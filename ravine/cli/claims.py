"""`ravine claims`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ravine.cli.screen import dump, interruptible, progress, say, show

if TYPE_CHECKING:
    from ravine.proving.proof import Proof
    from ravine.proving.run import Progress

app = typer.Typer(no_args_is_help=True, help="What the textbook's chapter says, run: claimed beside measured.")

Slide = Annotated[int | None, typer.Option(help="The claims of this slide.")]


@app.command("list")
def listing(
    slide: Slide = None,
    json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """List the claims: what each says, and about how long its experiment takes."""
    from ravine import claims

    names = claims.select([], everything=slide is None, slide=slide)
    rows = []
    for name in names:
        claim = claims.claim(name)
        rows.append(
            {
                "name": name,
                "slide": list(claim.slide),
                "statement": claim.statement,
                "kind": claim.kind,
                "seconds": claim.seconds,
            }
        )
    if json:
        return dump(rows)
    from rich.table import Table

    table = Table(title=f"{len(rows)} claims")
    for column in ("name", "slide", "kind", "seconds", "statement"):
        table.add_column(column, no_wrap=column == "name", justify="right" if column == "seconds" else "left")
    for row in rows:
        slides = ", ".join(map(str, row["slide"]))  # type: ignore[call-overload]
        table.add_row(row["name"], slides, row["kind"], f"{row['seconds']:g}", row["statement"])  # type: ignore[arg-type]
    show(table)
    return None


@app.command("run")
def run(
    names: Annotated[list[str] | None, typer.Argument(help="Claims by name; `ravine claims list` shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All claims.")] = False,
    slide: Slide = None,
    quick: Annotated[bool, typer.Option("--quick", help="Less of everything; the verdicts say so.")] = False,
    full: Annotated[bool, typer.Option("--full", help="More seeds and longer runs.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of all chance.")] = 0,
    workers: Annotated[int, typer.Option(help="Claims at a time, one thread each.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of records and pages.")] = Path("runs/claims"),
    json: Annotated[bool, typer.Option("--json", help="Print only the results, as JSON.")] = False,
) -> None:
    """Run claims and print what was claimed beside what was measured. What is done already is not run again."""
    from ravine import claims
    from ravine.core.errors import RavineError

    if quick and full:
        raise RavineError("give either --quick or --full")
    chosen = claims.select(names or [], everything=everything, slide=slide)
    from ravine.proving import pages, terminal
    from ravine.proving.run import run as run_claims

    hint = "what is finished is kept; the same command goes on from here"
    with interruptible(hint), progress("seconds of work") as bar:
        line = bar.add_task("claims", total=None)
        said: set[str] = set()

        def observe(now: "Progress") -> None:
            text = f"{now.done} of {now.planned} claims"
            bar.update(line, description=text, completed=round(now.seconds_done), total=round(now.seconds))
            fresh = [note for note in now.notes if note not in said]
            for note in fresh:
                said.add(note)
                say(f"note: {note}")

        found = run_claims(
            chosen, scale="quick" if quick else "full" if full else "normal", seed=seed, out=out, workers=workers,
            observe=observe,
        )  # fmt: skip
    pages.write(found, out)
    if json:
        dump([one.row() for one in found])
    else:
        show(terminal.table(found))
        say(f"pages: {out / 'index.md'}")
    _end(found)


@app.command("pages")
def write_pages(
    out: Annotated[Path, typer.Argument(help="Folder with records/, into which pages are written.")] = Path(
        "runs/claims"
    ),
) -> None:
    """Write the pages of a folder of records anew, without running anything."""
    from ravine.proving import pages

    found = pages.read_all(out)
    pages.write(found, out)
    say(f"{len(found)} claims: {out / 'index.md'}")


def _end(found: "list[Proof]") -> Any:
    """Exit status 1 where a measurement failed; a claim that is not reproduced is a result."""
    if any(one.failure for one in found):
        raise typer.Exit(1)
