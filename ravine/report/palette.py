"""How optimizers are told apart: by colour, in a light and a dark page, and without it, by dashes and markers."""

from typing import Any, NamedTuple

INK, PAPER = "#010203", "#fdfeff"
"""Stand-ins that no palette has: the text's colour and the background's, whichever theme the reader has chosen."""

# Okabe and Ito's hues, which the colour-blind tell apart: darkened to 3:1 on white, then light on a dark ground
LIGHT = ("#0072b2", "#c24e00", "#008a64", "#b0508a", "#8f6e00", "#4795c6", "#5b5b5b", "#7d4bb0")
DARK = ("#56b4e9", "#ff8a4c", "#2fc79c", "#e59cc8", "#f0d34a", "#a6d8f7", "#c4c4c4", "#c7a4f2")
DOTS = (0, (1.5, 2.5))
_DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (6, 2, 1.5, 2)), (0, (2, 1.6)))
_MARKERS = {
    "o": "M3.6 0A3.6 3.6 0 1 1-3.6 0A3.6 3.6 0 1 1 3.6 0Z",
    "s": "M-3.2-3.2H3.2V3.2H-3.2Z",
    "^": "M0-3.9 3.9 3.3H-3.9Z",
    "D": "M0-4.4 4.4 0 0 4.4-4.4 0Z",
    "v": "M0 3.9 3.9-3.3H-3.9Z",
    "P": "M-1.4-4H1.4V-1.4H4V1.4H1.4V4H-1.4V1.4H-4V-1.4H-1.4Z",
    ">": "M4 0-3.3 4V-4Z",
}
VARIABLES = {INK: "currentColor", PAPER: "var(--paper, #fff)"} | {
    color: f"var(--series-{number}, {color})" for number, color in enumerate(LIGHT)
}
"""What stands in the page for each colour of a drawing."""


class Style(NamedTuple):
    """How one optimizer is told from the others, with colour or without."""

    color: str
    dash: Any
    marker: str


def style(number: int) -> Style:
    """The style of the optimizer that stands at `number` in the plan; 56 differ."""
    return Style(LIGHT[number % len(LIGHT)], _DASHES[number % len(_DASHES)], list(_MARKERS)[number % len(_MARKERS)])


def swatch(number: int) -> str:
    """A small SVG that shows `style(number)`, for a legend."""
    dash = _DASHES[number % len(_DASHES)]
    dashes = "" if dash == "-" else f' stroke-dasharray="{" ".join(f"{1.6 * part:g}" for part in dash[1])}"'
    color = f"var(--series-{number % len(LIGHT)})"
    return (
        f'<svg class="swatch" viewBox="0 0 34 12" width="34" height="12" aria-hidden="true" style="color: {color}">'
        f'<path d="M1 6H33" stroke="currentColor" stroke-width="2" fill="none"{dashes}/>'
        f'<path d="{_MARKERS[style(number).marker]}" transform="translate(17 6)" fill="currentColor"/></svg>'
    )


def outline(number: int) -> str:
    """The path, in SVG's language, of the marker of `style(number)`, about 8 pixels wide around the origin."""
    return _MARKERS[style(number).marker]
