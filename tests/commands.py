"""The command line, run in the test's own process."""

import re
import sys
from typing import Any, NamedTuple

from ravine.cli import main


class Done(NamedTuple):
    """How a command ended: its exit status, standard output and standard error."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> "Done":
        """The same with standard error in one line, without the frames that long errors stand in."""
        return self._replace(err=" ".join(re.sub("[╭─╮│╰╯]", " ", self.err).split()))


def run(capsys: Any, monkeypatch: Any, *arguments: Any) -> Done:
    """`ravine` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["ravine", *map(str, arguments)])
    capsys.readouterr()
    status: Any = 0
    try:
        main()
    except SystemExit as stop:
        status = stop.code or 0
    return Done(status, *capsys.readouterr())
