"""A job: one claim at one scale. Its id follows from everything that decides its numbers, its own source included."""

import hashlib
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ravine import claims
from ravine.core.claim import Scale
from ravine.core.machine import versions
from ravine.core.record import content_id

_SHARED = re.compile(r"ravine\.claims\.(_\w+)")


@dataclass(frozen=True)
class Job:
    """A claim to be measured. `code` is the checksum of its file and of the settings that it shares with others."""

    claim: str
    scale: Scale
    seed: int
    code: str
    torch: str

    @cached_property
    def id(self) -> str:
        return content_id(asdict(self))

    @property
    def file(self) -> str:
        """The name of its record: one for each claim and scale."""
        return self.claim + ("" if self.scale == "normal" else f"-{self.scale}") + ".jsonl"

    def header(self) -> dict[str, Any]:
        """What its record begins with: the job, and what the claim says."""
        stated = claims.claim(self.claim)
        told = (
            "slide", "kind", "statement", "source", "equation", "claimed", "setting", "disagreement", "because",
            "changed",
        )  # fmt: skip
        return {"id": self.id} | asdict(self) | {name: getattr(stated, name) for name in told}


def job(claim: str, scale: Scale, seed: int) -> Job:
    """The job for a claim as its source stands now."""
    return Job(claim, scale, seed, _code(claim), versions()["torch"])


def _code(claim: str) -> str:
    text = _source(claim.replace("-", "_"))
    shared = sorted(set(_SHARED.findall(text)))
    return hashlib.sha256("".join([text, *map(_source, shared)]).encode()).hexdigest()[:16]


def _source(module: str) -> str:
    found = find_spec(f"ravine.claims.{module}")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).read_text(encoding="utf-8")
