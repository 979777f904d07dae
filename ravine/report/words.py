"""Numbers as words: one spelling for the table, the page, the figures and the code."""

from typing import Any

NONE = "–"

Number = float | int | None


def count(value: Number) -> str:
    """A number of gradient evaluations: exact to three digits at least, short above 100,000.

    >>> count(1234.5), count(2.5e6), count(None)
    ('1,234', '2.5M', '–')
    """
    if value is None:
        return NONE
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e5, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.3g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def metric(value: Number) -> str:
    """A value of the metric: four decimals where that is four digits or fewer, four digits elsewhere."""
    if value is None:
        return NONE
    return f"{value:.4f}" if 0.01 <= abs(value) < 10 or value == 0 else f"{value:.4g}"


def ratio(value: Number, bound: str = "") -> str:
    """A ratio of work, with the sign of a bound where it is only one; ~ where runs of both sides were cut off."""
    if value is None:
        return NONE
    sign = {"lower": "≥ ", "upper": "≤ ", "both": "~ "}.get(bound, "")
    return f"{sign}{value:.2f}" if 0.1 <= value < 100 else f"{sign}{value:.2g}"


def chance(value: Number) -> str:
    """A p-value."""
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def equals(value: Number) -> str:
    """A p-value with its sign, for a sentence: = 0.020, < 0.001."""
    return chance(value) if value is not None and value < 0.001 else f"= {chance(value)}"


def percent(value: Number) -> str:
    """A share in whole percent: 90%."""
    return NONE if value is None else f"{100 * value:.0f}%"


def tick(value: float) -> str:
    """A number on an axis, in few letters: 0.975, 2.5e-4, 100k."""
    if 0 < abs(value) < 0.001:
        digits, power = f"{value:.1e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.5g}" if abs(value) < 1000 else count(value)


def plain(value: Any) -> str:
    """A goal or a setting as a person would write it: 0.95, 1e-05, 1,000."""
    if value is None:
        return NONE
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def between(low: str, high: str) -> str:
    """An interval whose ends are already words; empty where neither is known."""
    return "" if low == high == NONE else f"[{low}, {high}]"


def crossing(work: dict[str, Number] | None, horizon: float, goal: Number) -> str:
    """Median work to the goal with its interval; a median that half of the runs never reached lies past the horizon."""
    if work is None or goal is None:
        return NONE
    past = f"> {count(horizon)}"
    low, median, high = (work.get(key) for key in ("low", "median", "high"))
    middle = past if median is None else count(median)
    if low is None:
        return middle
    return f"{middle} {between(count(low), past if high is None else count(high))}"


def currency(batch_size: Number) -> str:
    """The unit of work, as it stands on every axis."""
    return "gradient evaluations" + (f" (batch of {batch_size:,})" if batch_size else "")


def line(text: str, width: int = 0) -> str:
    """`text` on one line without control characters, cut in its middle where it is longer than `width`."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if width and len(text) > width:
        return f"{text[: width - width // 3 - 1]}…{text[-(width // 3) :]}"
    return text
