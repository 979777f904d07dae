"""A claim: a statement of the textbook's chapter, with the experiment that shows whether it holds.

A file of `ravine/claims/` is one claim: what is said and by whom, and a function that measures. The verdict follows
from the checks that the function returns, by one rule for all claims (`verdict`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch

from ravine.core.errors import RavineError, unknown
from ravine.core.evidence import Check
from ravine.core.figure import Figure
from ravine.core.seeds import derive, generator

Kind = Literal["EXACT", "RATE", "STAT", "ARCH"]
"""EXACT: identity or closed form. RATE: fitted exponent. STAT: seeds and an interval. ARCH: training experiment."""

Verdict = Literal[
    "REPRODUCED",
    "REPRODUCED WITH CONDITIONS",
    "NOT REPRODUCED AT THIS SCALE",
    "DECK MISQUOTES BOOK",
    "SOURCE DOES NOT SAY IT",
]
OF_TEXTS = ("DECK MISQUOTES BOOK", "SOURCE DOES NOT SAY IT")
"""Verdicts that follow from what is written where; no experiment can."""

Scale = Literal["quick", "normal", "full"]
T = TypeVar("T")


@dataclass(frozen=True)
class Trial:
    """What a measurement is given: how much to run, its own chance, and a place for what is done of it.

    kept: a folder of this claim at this scale and seed, of its source as it stands. A measurement of hours puts its
        partial results there and goes on from them when it was killed; None where nothing is kept.
    """

    claim: str
    scale: Scale = "normal"
    seed: int = 0
    kept: Path | None = None

    def pick(self, *, quick: T, normal: T, full: T | None = None) -> T:
        """The value for this scale; `full` is the normal one unless given."""
        if self.scale == "quick":
            return quick
        return full if self.scale == "full" and full is not None else normal

    def seeds(self, count: int) -> list[int]:
        """Seeds of `count` repetitions."""
        return [derive(self.seed, self.claim, "repetition", i) for i in range(count)]

    def torch(self, *names: str | int) -> torch.Generator:
        """A generator of torch for one use of chance."""
        return generator(self.seed, self.claim, *names)

    def numpy(self, *names: str | int) -> np.random.Generator:
        """A generator of NumPy for one use of chance."""
        return np.random.default_rng(derive(self.seed, self.claim, *names))


@dataclass(frozen=True)
class Table:
    """Numbers or words in rows, for the page."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Findings:
    """What a measurement returns. `notes` are sentences for the reader: what surprised, what limits the result."""

    checks: Sequence[Check]
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement and its experiment.

    statement: what is said, in a sentence. claimed: the figures or the behaviour that would bear it out.
    source: where it is said, with page or equation. equation: its formula as text, where one helps.
    setting: what is run, on what, with how many seeds.
    seconds: how long `measure` takes about, on one core at the normal scale. full_seconds: at the full one, where that
        is not about ten times as long.
    disagreement: the name ("D4") of the place where deck, book and source disagree. `holds` is the verdict that the
        texts themselves lead to, and `because` says who says what, in their words; the experiment then shows the
        disagreement in numbers, and decides where `holds` is not one of the texts' verdicts.
    changed: where the criterion is not the one first written down: what it was, what was wrong with it.
    alone: run by itself, since it measures time.
    """

    slide: tuple[int, ...]
    kind: Kind
    statement: str
    source: str
    claimed: str
    setting: str
    measure: Callable[[Trial], Findings] = field(repr=False)
    seconds: float
    full_seconds: float = 0.0
    equation: str = ""
    disagreement: str = ""
    holds: Verdict = "REPRODUCED"
    because: str = ""
    changed: str = ""
    alone: bool = False

    def __post_init__(self) -> None:
        for name, value, allowed in (("kind", self.kind, Kind), ("verdict", self.holds, Verdict)):
            if value not in get_args(allowed):
                raise unknown(f"{name} of a claim", value, get_args(allowed))
        for name in ("statement", "source", "claimed", "setting"):
            if not getattr(self, name).strip():
                raise RavineError(f"a claim must say its {name}")
        if bool(self.because) != (self.holds in OF_TEXTS):
            raise RavineError("a claim says `because` where its verdict is one of texts, and only there")


def verdict(claim: Claim, checks: Sequence[Check]) -> Verdict:
    """What the checks make of the claim.

    All checks of role "claim" must pass, else it is not reproduced. Where only checks of role "condition" fail, it is
    reproduced with conditions. A verdict of texts stands as it is.
    """
    deciding = [check for check in checks if check.role == "claim"]
    if not deciding:
        raise RavineError("nothing decides: no check has the role 'claim'")
    if claim.holds in OF_TEXTS:
        return claim.holds
    if not all(check.passed for check in deciding):
        return "NOT REPRODUCED AT THIS SCALE"
    return "REPRODUCED" if all(check.passed for check in checks) else "REPRODUCED WITH CONDITIONS"
