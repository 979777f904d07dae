"""Checks decide as their criterion says; estimates cover what they claim; a figure survives its record."""

import json
import math

import numpy as np
import pytest

from ravine.core import evidence
from ravine.core.claim import Claim, Findings, verdict
from ravine.core.errors import RavineError
from ravine.core.evidence import Check, Estimate
from ravine.core.figure import Figure, Ground, Panel, Series
from ravine.core.record import plain
from ravine.racing import estimate

E = Estimate(1.0, 0.5, 1.5, 10)


@pytest.mark.parametrize(
    ("check", "criterion", "passed"),
    [
        (evidence.within("x", 1.019, 1.0, rel=0.02), "within 2 % of 1", True),
        (evidence.within("x", 1.021, 1.0, rel=0.02), "within 2 % of 1", False),
        (evidence.within("x", 1e-13, 0.0, tol=1e-12), "within 1e-12 of 0", True),
        (evidence.within("x", -2e-12, 0.0, tol=1e-12), "within 1e-12 of 0", False),
        (evidence.within("x", 3, 3, tol=0), "exactly 3", True),
        (evidence.within("x", 1.0, 1.0, rel=1e-9), "within a relative 1e-9 of 1", True),
        (evidence.between("x", 2.0, 2.0, 3.0), "in [2, 3]", True),
        (evidence.between("x", 3.001, 2.0, 3.0), "in [2, 3]", False),
        (evidence.at_least("x", 18, 18), "at least 18", True),
        (evidence.at_least("x", 17, 18), "at least 18", False),
        (evidence.at_most("x", 17, 17), "at most 17", True),
        (evidence.at_most("x", 18, 17), "at most 17", False),
        (evidence.above("x", E), "95 % interval above 0", True),
        (evidence.above("x", E, 0.5), "95 % interval above 0.5", False),
        (evidence.below("x", E, 1.6), "95 % interval below 1.6", True),
        (evidence.below("x", E, 1.5), "95 % interval below 1.5", False),
        (evidence.inside("x", E, 0.5, 1.5), "95 % interval in [0.5, 1.5]", True),
        (evidence.inside("x", E, 0.6, 1.5), "95 % interval in [0.6, 1.5]", False),
        (evidence.covers("x", E, 1.2), "95 % interval holds 1.2", True),
        (evidence.covers("x", E, 1.6), "95 % interval holds 1.6", False),
    ],
)
def test_a_check_decides_as_its_criterion_says(check: Check, criterion: str, passed: bool) -> None:
    assert (check.criterion, check.passed, check.role) == (criterion, passed, "claim")


@pytest.mark.parametrize("make", [evidence.at_least, evidence.at_most])
def test_what_is_not_a_number_passes_nothing(make: object) -> None:
    assert not make("x", math.nan, 0.0).passed  # type: ignore[operator]
    assert not evidence.within("x", math.nan, 0.0, tol=1.0).passed
    assert not evidence.between("x", math.nan, -1.0, 1.0).passed


def test_within_wants_one_kind_of_tolerance() -> None:
    with pytest.raises(TypeError, match="either rel= or tol="):
        evidence.within("x", 1.0, 1.0)


def test_a_check_survives_its_record() -> None:
    checks = evidence.above("x", E, claimed="more"), evidence.at_least("y", math.nan, 1), evidence.reported("z", 3)
    for check in checks:
        found = Check.of(json.loads(json.dumps(plain(check.row()))))
        assert (found.what, found.criterion, found.passed, found.said()) == (
            check.what, check.criterion, check.passed, check.said(),
        )  # fmt: skip


def test_a_figure_survives_its_record() -> None:
    ground = Ground([0, 1], [0, 1, 2], [[0, 1], [1, 2], [2, 3]], [1, 2])
    lines = [Series("a", np.arange(3), [1, 2, math.nan], [0, 1, 2], [2, 3, 4]), Series("b", [0], [1], kind="points")]
    figure = Figure("see", [Panel("x / s", "y", lines, log="y"), Panel("x", "y", [], ground=ground, at={"one": 1})])
    found = Figure.of(json.loads(json.dumps(plain(figure.row()))))
    assert repr(found) == repr(figure)


def test_a_series_whose_parts_differ_in_length_is_refused() -> None:
    with pytest.raises(ValueError, match="series 'a': x, y, low and high differ in length"):
        Series("a", [1, 2], [1])


def made(**changed: object) -> Claim:
    said = {"statement": "s", "source": "b", "claimed": "c", "setting": "t"}
    return Claim(slide=(1,), kind="EXACT", measure=lambda trial: Findings([]), seconds=1, **(said | changed))  # type: ignore[arg-type]


YES, NO = evidence.at_least("yes", 1, 0), evidence.at_least("no", 0, 1)
NOT_HERE = evidence.at_least("no", 0, 1, role="condition")


@pytest.mark.parametrize(
    ("checks", "holds", "word"),
    [
        ([YES], "REPRODUCED", "REPRODUCED"),
        ([YES, NO], "REPRODUCED", "NOT REPRODUCED AT THIS SCALE"),
        ([YES, NOT_HERE], "REPRODUCED", "REPRODUCED WITH CONDITIONS"),
        ([YES, NO, NOT_HERE], "REPRODUCED", "NOT REPRODUCED AT THIS SCALE"),
        ([YES, evidence.reported("x", 1)], "DECK MISQUOTES BOOK", "DECK MISQUOTES BOOK"),
        ([NO, NOT_HERE], "DECK MISQUOTES BOOK", "DECK MISQUOTES BOOK"),
    ],
)
def test_the_verdict_follows_from_the_checks(checks: list[Check], holds: str, word: str) -> None:
    because = "the deck says a, the book b" if holds != "REPRODUCED" else ""
    assert verdict(made(holds=holds, because=because), checks) == word


def test_a_claim_that_nothing_decides_is_an_error() -> None:
    with pytest.raises(RavineError, match="no check has the role 'claim'"):
        verdict(made(), [evidence.reported("x", 1), NOT_HERE])


def test_a_claim_must_say_what_it_is() -> None:
    with pytest.raises(RavineError, match="a claim must say its setting"):
        made(setting=" ")
    with pytest.raises(RavineError, match="unknown verdict of a claim 'REPRODUCE': did you mean 'REPRODUCED'"):
        made(holds="REPRODUCE")
    with pytest.raises(RavineError, match="says `because` where its verdict is one of texts"):
        made(holds="DECK MISQUOTES BOOK")


def test_intervals_cover_as_often_as_they_say() -> None:
    """Of 400 intervals of 95 %, those that miss are 20 on average and at most 35 with probability 0.999."""
    draw = np.random.default_rng(0)
    means = slopes = ratios = 0
    x = np.geomspace(1, 100, 12)
    for _ in range(400):
        found = estimate.mean(draw.normal(3.0, 2.0, 8).tolist())
        means += not found.low <= 3.0 <= found.high
        found = estimate.ratio(np.exp(draw.normal(1.0, 0.5, 8)).tolist())
        ratios += not found.low <= math.e <= found.high
        found = estimate.slope(x, x**-0.5 * np.exp(draw.normal(0, 0.1, 12)))
        slopes += not found.low <= -0.5 <= found.high
    assert max(means, slopes, ratios) <= 35
    assert min(means, slopes, ratios) >= 7


def test_estimates_of_a_known_power_and_share() -> None:
    x = [1.0, 10.0, 100.0]
    assert estimate.slope(x, [5 * value**-1.5 for value in x]).value == pytest.approx(-1.5)
    assert estimate.slope([0, 1, 2], [1, 3, 5], log=False).value == pytest.approx(2)
    assert estimate.share(9, 10).value == 0.9
    assert estimate.share(9, 10).low == pytest.approx(0.5958, abs=1e-4)
