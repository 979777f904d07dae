"""From a race's folder to what people read: a table, a page, and the winner as code.

    race = report.load(Path("runs/digits-mlp"))
    rich.print(report.table(race))
    report.write(race)              # runs/digits-mlp/report.html
    print(report.best(race))

Everything is read from the records; neither torch nor scipy is loaded. Names resolve on first use, because the table
needs no matplotlib and the page no terminal.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ravine.report.document import page, write
    from ravine.report.read import Race, load
    from ravine.report.terminal import table
    from ravine.report.winner import best

__all__ = ["Race", "best", "load", "page", "table", "write"]

_FILES = {"Race": "read", "load": "read", "best": "winner", "table": "terminal"} | dict.fromkeys(
    ("page", "write"), "document"
)


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
    return globals()[name]


def __dir__() -> list[str]:
    return __all__
