"""Claims in the terminal: each criterion of a few, a line for each of many."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ravine.core.evidence import shown
from ravine.proving.proof import Proof

_FEW = 6
_COLORS = {"REPRODUCED": "green", "NOT REPRODUCED AT THIS SCALE": "red", "FAILED": "bold red"}


def table(proofs: Sequence[Proof]) -> RenderableType:
    """What was claimed beside what was measured, for `rich.print`."""
    parts: list[RenderableType] = []
    if len(proofs) <= _FEW:
        for proof in proofs:
            parts += [*_whole(proof), Text()]
    if len(proofs) > 1:
        parts.append(_summary(proofs))
    return Group(*parts)


def verdict(proof: Proof) -> Text:
    """The verdict in its colour."""
    color = next((color for word, color in _COLORS.items() if proof.verdict.split(" (")[0].startswith(word)), "yellow")
    return Text(proof.verdict, style="green" if proof.outcome == "REPRODUCED" and not proof.failure else color)


def _whole(proof: Proof) -> list[RenderableType]:
    slides = ", ".join(map(str, proof.said["slide"]))
    title = Text(f"{proof.name}  (slide {slides}, {proof.said['kind']})", style="bold")
    parts: list[RenderableType] = [title, Text(proof.said["statement"]), Text(f"claimed: {proof.said['claimed']}")]
    if proof.checks:
        checks = Table(box=box.SIMPLE_HEAD)
        for name, justify in (
            ("", "left"),
            ("claimed", "right"),
            ("measured", "right"),
            ("criterion", "left"),
            ("", "left"),
        ):
            checks.add_column(name, justify=justify)  # type: ignore[arg-type]
        for check in proof.checks:
            checks.add_row(check.what, shown(check.claimed), check.said(), check.criterion, check.mark)
        parts.append(checks)
    parts.append(Text.assemble(verdict(proof), f": {proof.reason}"))
    parts += [Text(f"note: {note}", style="dim") for note in proof.notes]
    if proof.said["changed"]:
        parts.append(Text(f"criterion changed: {proof.said['changed']}", style="dim"))
    return parts


def _summary(proofs: Sequence[Proof]) -> Table:
    made = Table(title="claimed beside measured", box=box.SIMPLE_HEAD)
    for name in ("slide", "claim", "claimed", "measured", "verdict"):
        made.add_column(name, overflow="fold")
    for proof in proofs:
        slides = ", ".join(map(str, proof.said["slide"]))
        deciding = [check for check in proof.checks if check.role == "claim"]
        measured = "; ".join(f"{check.what}: {check.said()}" for check in deciding[:2])
        more = f"; and {len(deciding) - 2} more" if len(deciding) > 2 else ""
        made.add_row(slides, proof.name, proof.said["claimed"], measured + more, verdict(proof))
    return made
