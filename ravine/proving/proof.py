"""A claim's record, read back: what was said, what was measured, and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ravine.core.evidence import Check
from ravine.core.figure import Figure
from ravine.core.record import Record, read


@dataclass(frozen=True)
class Proof:
    """One claim as it came out. `said` is the record's header: the claim's own words, seed, versions and machine."""

    said: Mapping[str, Any]
    checks: Sequence[Check]
    figures: Sequence[Figure]
    tables: Sequence[Mapping[str, Any]]
    notes: Sequence[str]
    outcome: str
    seconds: float
    failure: str = ""

    @property
    def name(self) -> str:
        return str(self.said["claim"])

    @property
    def verdict(self) -> str:
        """The verdict; one that a quick run came to says so."""
        quick = " (quick)" if self.said["scale"] == "quick" else ""
        return f"FAILED: {self.failure}" if self.failure else f"{self.outcome}{quick}"

    @property
    def measured(self) -> str:
        """What decided, in a line."""
        return "; ".join(f"{check.what}: {check.said()}" for check in self.checks if check.role == "claim")

    @property
    def criterion(self) -> str:
        """The criteria that decided, in a line."""
        return "; ".join(f"{check.what} {check.criterion}" for check in self.checks if check.role == "claim")

    @property
    def reason(self) -> str:
        """Why the verdict is what it is."""
        if self.failure:
            return f"the measurement itself failed: {self.failure}"
        texts = self.said.get("because", "")
        return f"{texts.rstrip('.')}. In the experiment {self._outcome()}" if texts else self._outcome()

    def _outcome(self) -> str:
        """How the criteria came out."""
        deciding = [check for check in self.checks if check.role == "claim"]
        missed = [_missed(check) for check in deciding if not check.passed]
        if missed:
            return f"{len(missed)} of {len(deciding)} criteria were not met: {'; '.join(missed)}"
        without = [_missed(check) for check in self.checks if check.role == "condition" and not check.passed]
        met = "its one criterion was met" if len(deciding) == 1 else f"all {len(deciding)} criteria were met"
        return met + (f"; it did not hold under: {'; '.join(without)}" if without else "")

    def row(self) -> dict[str, Any]:
        """For programs: what was claimed beside what was measured."""
        return {
            "name": self.name,
            "slide": list(self.said["slide"]),
            "statement": self.said["statement"],
            "kind": self.said["kind"],
            "seconds": round(self.seconds, 2),
            "claimed": self.said["claimed"],
            "measured": self.measured,
            "criterion": self.criterion,
            "verdict": self.verdict,
            "reason": self.reason,
            "scale": self.said["scale"],
            "seed": self.said["seed"],
            "checks": [check.row() for check in self.checks],
        }


def _missed(check: Check) -> str:
    """A check that failed; where a difference may be on either side of nothing, that it is undecided."""
    undecided = check.interval is not None and check.interval[0] <= 0 <= check.interval[1]
    differs = check.criterion.endswith(("interval above 0", "interval below 0"))
    return check.what + (" (undecided: the interval holds 0)" if undecided and differs else "")


def proof(path: Path) -> Proof | None:
    """The proof in the record at `path`; None where it is not finished. A damaged one raises `Damaged`."""
    record = read(path)
    return _proof(record) if record.finished else None


def _proof(record: Record) -> Proof:
    rows, end = record.rows, record.end or {}
    return Proof(
        record.header,
        [Check.of(row["check"]) for row in rows if "check" in row],
        [Figure.of(row["figure"]) for row in rows if "figure" in row],
        [row["table"] for row in rows if "table" in row],
        [row["note"] for row in rows if "note" in row],
        str(end.get("verdict", "")),
        float(end.get("observed", {}).get("seconds", 0.0)),
        str(end["reason"]) if end["status"] == "failed" else "",
    )
