"""A unit of work: one trial, named by its content."""

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from ravine.core.record import content_id

KINDS = ("tune", "goal", "run", "twin", "swapped")


@dataclass(frozen=True)
class Unit:
    """One training run of a race. `id` follows from everything that decides its numbers.

    kind: "tune" (a point is tried), "goal" (the best reference sets the goals), "run" (the best point is rerun),
    "twin" (a run once more, which must come out the same), "swapped" (labels are shuffled, which must not be learnt).
    """

    task: str
    fingerprint: str
    optimizer: str
    spec: str
    seed: int
    steps: int
    every: int
    device: str
    kind: str

    @cached_property
    def id(self) -> str:
        return content_id(asdict(self))

    def header(self) -> dict[str, Any]:
        return {"id": self.id} | asdict(self)

    @classmethod
    def of(cls, header: dict[str, Any]) -> "Unit | None":
        """The unit that a record's header describes; None where it is none, or where its id does not fit."""
        try:
            unit = cls(**{field.name: header[field.name] for field in fields(cls)})
        except KeyError:
            return None
        return unit if unit.id == header.get("id") else None
