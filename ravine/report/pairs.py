"""The ratios of all pairs as strips on one common axis, one strip for each row of a table."""

import math
from typing import Any

from ravine.report import words
from ravine.report.read import Race

_WIDTH, _HEIGHT, _EDGE = 176, 24, 8
_TIE = (0.9, 1.11)
_POINTS = {"": "M4.5 0A4.5 4.5 0 1 1-4.5 0A4.5 4.5 0 1 1 4.5 0Z", "lower": "M-4-5 5 0-4 5Z", "upper": "M4-5-5 0 4 5Z"}


def strips(race: Race) -> list[tuple[dict[str, Any], str]]:
    """Every pair of the verdict with its ratio and interval as a small SVG; empty where nothing is known."""
    reach = _reach(race)
    return [(pair, _strip(pair, reach)) for pair in race.verdict["pairs"]]


def axis(race: Race) -> str:
    """The numbers under which the strips stand; empty where no ratio is known."""
    reach = _reach(race)
    if not any(pair["ratio"] for pair in race.verdict["pairs"]):
        return ""
    ticks = [
        tick for tick in (0.01, 0.1, 0.25, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 4, 10, 100) if 1 / reach <= tick <= reach
    ]
    ticks = [tick for tick in ticks if tick == 1 or 0.5 < math.log(reach) / abs(math.log(tick)) < 2.9]
    texts = (f'<text x="{_x(tick, reach):.1f}" y="18" text-anchor="middle">{tick:g}</text>' for tick in ticks)
    return f'<svg class="forest" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">{"".join(texts)}</svg>'


def _reach(race: Race) -> float:
    """How far from 1 the axis goes, either way."""
    ends = [pair[key] for pair in race.verdict["pairs"] for key in ("ratio", "low", "high") if pair[key]]
    return min(math.exp(max((abs(math.log(end)) for end in ends), default=0.7) * 1.05), 100)


def _x(ratio: float, reach: float) -> float:
    share = math.log(min(max(ratio, 1 / reach), reach)) / math.log(max(reach, 1.2))
    return _WIDTH / 2 + share * (_WIDTH / 2 - _EDGE)


def _strip(pair: dict[str, Any], reach: float) -> str:
    if not pair["ratio"]:
        return ""
    middle, ground = _HEIGHT / 2, (_x(_TIE[0], reach), _x(_TIE[1], reach))
    x = _x(pair["ratio"], reach)
    interval = words.between(words.ratio(pair["low"]), words.ratio(pair["high"]))
    parts = [
        f'<path d="M{ground[0]:.1f} 0H{ground[1]:.1f}V{_HEIGHT}H{ground[0]:.1f}Z" fill="currentColor" opacity=".1"/>',
        f'<path d="M{_WIDTH / 2} 0V{_HEIGHT}" stroke="currentColor" stroke-opacity=".5"/>',
    ]
    if pair["low"] and pair["high"]:
        ends = _x(pair["low"], reach), _x(pair["high"], reach)
        parts.append(f'<path d="M{ends[0]:.1f} {middle}H{ends[1]:.1f}" stroke="currentColor" stroke-width="2"/>')
    bound = pair.get("bound", "")
    parts.append(
        f'<path d="{_POINTS.get(bound, _POINTS[""])}" transform="translate({x:.1f} {middle})" fill="currentColor"/>'
    )
    label = f"{words.ratio(pair['ratio'], bound)} {interval}".strip()
    return (
        f'<svg class="forest" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )
