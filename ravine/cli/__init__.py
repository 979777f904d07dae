"""The command line: each command is a few lines that call the library. Heavy imports wait until they are needed."""

import os
import sys

import typer

from ravine.cli import (
    claims,
    curvature,
    data,
    distill,
    init,
    listing,
    lr,
    pretrain,
    race,
    report,
    surface,
    train,
    transfer,
)
from ravine.cli.screen import failed
from ravine.core.errors import RavineError

app = typer.Typer(
    name="ravine",
    help="Why is training slow, and what is faster? Fair races of optimizers, and more, for PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.command("race")(race.race)
app.command("train")(train.train)
app.command("lr")(lr.lr)
app.command("pretrain")(pretrain.pretrain)
app.command("transfer")(transfer.transfer)
app.command("distill")(distill.distill)
app.command("curvature")(curvature.curvature)
app.command("init")(init.init)
app.command("report")(report.report)
app.command("surface")(surface.surface)
app.command("list")(listing.listing)
app.add_typer(data.app, name="data")
app.add_typer(claims.app, name="claims")


def main() -> None:
    """The entry point. Exit status: 0 done, 1 failure, 2 something is wrong with what was given, 130 interrupted."""
    sys.path.insert(0, os.getcwd())  # package.module:function is looked for where the user stands
    try:
        app()
    except RavineError as error:
        failed(error)
        sys.exit(2)
