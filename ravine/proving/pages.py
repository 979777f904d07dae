"""Records of claims as pages in Markdown: one for each claim, with its figures, and one table of all."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ravine import claims
from ravine.core.errors import RavineError
from ravine.core.evidence import shown
from ravine.proving import drawing
from ravine.proving.proof import Proof, proof

_PROPER = {
    "auc": "AUC", "sgd": "SGD", "adam": "Adam", "adagrad": "AdaGrad", "rmsprop": "RMSProp", "nesterov": "Nesterov",
    "beale": "Beale", "robbins": "Robbins", "monro": "Monro", "kappa": "κ", "k": "k", "n": "n", "lr": "lr",
}  # fmt: skip
_SUFFIX = {"normal": "", "quick": "-quick", "full": "-full"}


def read_all(folder: Path) -> list[Proof]:
    """All finished proofs in a folder's records, in the order of the slides."""
    records = folder / "records"
    if not records.is_dir():
        raise RavineError(f"{folder} has no records/ of claims: `ravine claims run --all --out {folder}` makes them")
    found = [one for path in sorted(records.glob("*.jsonl")) if (one := proof(path)) is not None]
    place = {name: number for number, name in enumerate(claims.CLAIMS)}
    return sorted(found, key=lambda one: (place.get(one.name, len(place)), one.said["scale"]))


def write(proofs: Sequence[Proof], folder: Path) -> None:
    """Write the pages of these proofs, and the table of all that the folder holds."""
    for one in proofs:
        stem = page_name(one)
        for number, figure in enumerate(one.figures, 1):
            picture = drawing.alone(drawing.svg(figure, f"figure-{number}"))
            _put(folder / f"{stem}-{number}.svg", picture)
        _put(folder / f"{stem}.md", page(one))
    _put(folder / "index.md", index(read_all(folder)))


def page_name(one: Proof) -> str:
    """The stem of a proof's files."""
    return one.name + _SUFFIX[one.said["scale"]]


def page(one: Proof) -> str:
    """A claim's page."""
    return _render("page.md", proof=one, stem=page_name(one), title=title(one.name))


def index(proofs: Sequence[Proof]) -> str:
    """The table of all claims."""
    counts: dict[str, int] = {}
    for one in proofs:
        counts[one.verdict] = counts.get(one.verdict, 0) + 1
    quick = any(one.said["scale"] == "quick" for one in proofs)
    counts = dict(sorted(counts.items(), key=lambda item: -item[1]))
    return _render("index.md", proofs=proofs, counts=counts, stem=page_name, telling=telling, quick=quick)


def brief(proofs: Sequence[Proof], folder: str) -> str:
    """A short table of some claims for another page: what was said, one thing measured that decided, the verdict."""
    lines = ["| slide | the chapter says | measured | verdict |", "|---|---|---|---|"]
    for one in proofs:
        slides = ", ".join(map(str, one.said["slide"]))
        link = f"[{cell(one.said['statement'])}]({folder}/{page_name(one)}.md)"
        lines.append(f"| {slides} | {link} | {cell(telling(one))} | {one.verdict} |")
    return "\n".join(lines) + "\n"


def telling(one: Proof) -> str:
    """One thing that was measured: of what decided, the first that missed its criterion, else the first."""
    deciding = [check for check in one.checks if check.role == "claim"]
    missed = [check for check in deciding if not check.passed]
    found = [f"{check.what}: {check.said()}" for check in missed or deciding]
    return found[0] if found else ""


def title(name: str) -> str:
    """A claim's name as a heading.

    >>> title("adam-can-fail"), title("auc-is-not-cross-entropy")
    ('Adam can fail', 'AUC is not cross entropy')
    """
    words = [_PROPER.get(word, word) for word in name.split("-")]
    return " ".join([words[0][0].upper() + words[0][1:], *words[1:]])


def _render(template: str, **content: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ravine.proving", "."),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown, not HTML; cells are escaped by `cell`
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Any] = {"cell": cell, "shown": shown}
    environment.filters |= filters
    return environment.get_template(template).render(**content)


def cell(value: Any) -> str:
    """A value as it may stand in a cell of a table, or in a line."""
    text = shown(value) if isinstance(value, float | int) and not isinstance(value, bool) else str(value or "")
    for character in "\\|<>*_`":
        text = text.replace(
            character, f"\\{character}" if character not in "<>" else {"<": "&lt;", ">": "&gt;"}[character]
        )
    return " ".join(text.split())


def _put(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
