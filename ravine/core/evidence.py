"""What an experiment measured, with its interval, beside what was claimed, and whether the one bears out the other.

A check is made by the function that carries its criterion, so that what is printed is what was decided:

>>> check = within("terminal speed", 9.999, claimed=10, rel=0.01)
>>> check.criterion, check.passed
('within 1 % of 10', True)
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Role = Literal["claim", "condition", "aside"]
"""claim: must pass. condition: where it fails, the claim holds with conditions. aside: shown, and decides nothing."""


@dataclass(frozen=True)
class Estimate:
    """A measured value with the interval that holds the true one at the stated confidence; `n` is what it rests on."""

    value: float
    low: float
    high: float
    n: int = 0
    confidence: float = 0.95

    def __str__(self) -> str:
        return f"{shown(self.value)} [{shown(self.low)}, {shown(self.high)}]"


Measured = float | Estimate


@dataclass(frozen=True)
class Check:
    """One quantity: what was claimed and measured, and the criterion that decided. Make it by a function below."""

    what: str
    claimed: float | str | None
    measured: float
    interval: tuple[float, float] | None
    criterion: str
    passed: bool
    role: Role = "claim"

    def row(self) -> dict[str, Any]:
        """As a record keeps it."""
        return asdict(self)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Check":
        """Read back from a record."""
        found = dict(row)
        found["measured"] = math.nan if found["measured"] is None else found["measured"]
        if found["interval"] is not None:
            low, high = found["interval"]  # a record keeps what is not finite as nothing
            found["interval"] = (-math.inf if low is None else low, math.inf if high is None else high)
        return cls(**found)

    def said(self) -> str:
        """The measured value and its interval, for people."""
        return said(self.measured, self.interval)

    @property
    def mark(self) -> str:
        """How it came out, in a word."""
        if self.role == "aside":
            return "reported"
        return ("✓" if self.passed else "✗") + (" condition" if self.role == "condition" else "")


def within(
    what: str,
    measured: Measured,
    claimed: float,
    *,
    rel: float | None = None,
    tol: float | None = None,
    role: Role = "claim",
) -> Check:
    """The value lies within the share `rel`, or the distance `tol`, of the claimed one."""
    if (rel is None) == (tol is None):
        raise TypeError("within() takes either rel= or tol=")
    value = _value(measured)
    bound = tol if tol is not None else rel * abs(claimed)  # type: ignore[operator]
    if tol is not None:
        how = f"within {shown(tol)}"
    else:
        how = f"within {100 * rel:.3g} %" if rel >= 1e-4 else f"within a relative {shown(rel)}"  # type: ignore[operator]
    how = f"{how} of" if bound else "exactly"
    passed = abs(value - claimed) <= bound
    return _check(what, claimed, measured, f"{how} {shown(claimed)}", passed, role)


def between(
    what: str, measured: Measured, low: float, high: float, *, claimed: float | str | None = None, role: Role = "claim"
) -> Check:
    """The value lies in [low, high]."""
    passed = low <= _value(measured) <= high
    return _check(what, claimed, measured, f"in [{shown(low)}, {shown(high)}]", passed, role)


def at_least(
    what: str, measured: Measured, bound: float, *, claimed: float | str | None = None, role: Role = "claim"
) -> Check:
    """The value is the bound or more."""
    return _check(what, claimed, measured, f"at least {shown(bound)}", _value(measured) >= bound, role)


def at_most(
    what: str, measured: Measured, bound: float, *, claimed: float | str | None = None, role: Role = "claim"
) -> Check:
    """The value is the bound or less."""
    return _check(what, claimed, measured, f"at most {shown(bound)}", _value(measured) <= bound, role)


def above(
    what: str, measured: Estimate, bound: float = 0.0, *, claimed: float | str | None = None, role: Role = "claim"
) -> Check:
    """The whole interval lies above the bound."""
    passed = measured.low > bound
    return _check(what, claimed, measured, f"{_share(measured)} interval above {shown(bound)}", passed, role)


def below(
    what: str, measured: Estimate, bound: float = 0.0, *, claimed: float | str | None = None, role: Role = "claim"
) -> Check:
    """The whole interval lies below the bound."""
    passed = measured.high < bound
    return _check(what, claimed, measured, f"{_share(measured)} interval below {shown(bound)}", passed, role)


def inside(
    what: str,
    measured: Estimate,
    low: float,
    high: float,
    *,
    claimed: float | str | None = None,
    role: Role = "claim",
) -> Check:
    """The whole interval lies in [low, high]: an equivalence, which an absent difference alone does not show.

    With an interval of 90 % this is the test by two one-sided tests at 5 % (Schuirmann 1987).
    """
    passed = low <= measured.low and measured.high <= high
    return _check(
        what, claimed, measured, f"{_share(measured)} interval in [{shown(low)}, {shown(high)}]", passed, role
    )


def covers(what: str, measured: Estimate, claimed: float, *, role: Role = "claim") -> Check:
    """The interval holds the claimed value: nothing was seen that speaks against it."""
    passed = measured.low <= claimed <= measured.high
    return _check(what, claimed, measured, f"{_share(measured)} interval holds {shown(claimed)}", passed, role)


def reported(what: str, measured: Measured, *, claimed: float | str | None = None) -> Check:
    """A value that is shown and decides nothing."""
    return _check(what, claimed, measured, "", True, "aside")


def _check(
    what: str, claimed: float | str | None, measured: Measured, criterion: str, passed: bool, role: Role
) -> Check:
    interval = (measured.low, measured.high) if isinstance(measured, Estimate) else None
    return Check(what, claimed, float(_value(measured)), interval, criterion, bool(passed), role)


def _value(measured: Measured) -> float:
    return measured.value if isinstance(measured, Estimate) else float(measured)


def _share(measured: Estimate) -> str:
    return f"{100 * measured.confidence:.3g} %"


def said(value: float, interval: tuple[float, float] | None) -> str:
    """A value and its interval, for people."""
    return shown(value) + (f" [{shown(interval[0])}, {shown(interval[1])}]" if interval else "")


def shown(value: float | str | None) -> str:
    """A number with four digits, for people.

    >>> shown(70811), shown(0.25), shown(1e-12), shown(None)
    ('70811', '0.25', '1e-12', '')
    """
    if value is None or isinstance(value, str):
        return value or ""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e7:
        return str(int(value))
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e")
