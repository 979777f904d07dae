"""Claims are run here: those that are missing, several at a time, each in a process of its own."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ravine import claims
from ravine.core.claim import Scale
from ravine.core.declared import check_value
from ravine.core.machine import machine, versions
from ravine.core.record import Damaged, Writer, read
from ravine.proving.job import Job, job
from ravine.proving.proof import Proof, proof
from ravine.proving.worker import prove
from ravine.racing.crew import Crew, Limits
from ravine.racing.folder import cannot_write, claimed, set_aside

_SHARE = {"quick": 0.2, "normal": 1.0, "full": 10.0}
"""How long a claim takes at a scale, in its seconds at the normal one: only the progress bar and time limits ask."""


@dataclass(frozen=True)
class Progress:
    """How far a run of claims is: their number, and the seconds of work foreseen and done."""

    done: int
    planned: int
    seconds_done: float
    seconds: float
    last: Proof | None = None
    notes: Sequence[str] = ()


Observe = Callable[[Progress], None]


def run(
    names: Sequence[str],
    *,
    scale: Scale = "normal",
    seed: int = 0,
    out: str | Path = "runs/claims",
    workers: int = 2,
    observe: Observe | None = None,
) -> list[Proof]:
    """Measure the named claims and return what was found, in their order.

    out: the folder of the records. What is there already, from the same source, seed and scale, is not run again; a
        record that another version of the claim left is kept in `records/earlier/`, and what a claim of hours has done
        of itself in `partial/`, from which it goes on when it was killed.
    workers: claims at a time, each in a process with one thread. Those that measure time run by themselves at the end.

    Raises `RavineError` for an unknown claim or a folder that cannot be written to.
    """
    check_value("workers", workers, int, "[1, inf)")
    jobs = [job(name, scale, seed) for name in names]
    folder = Path(out)
    try:
        held = claimed(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        return _Run(jobs, folder, workers, observe or (lambda progress: None)).proofs()
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        if held is not None:
            os.close(held)


class _Run:
    """A run of claims under way."""

    def __init__(self, jobs: Sequence[Job], folder: Path, workers: int, observe: Observe) -> None:
        self.jobs, self.records, self.workers, self.observe = jobs, folder / "records", workers, observe
        self.notes: list[str] = []
        self.prove = partial(prove, partial=folder / "partial")
        self.seconds = {one: _seconds(one) for one in jobs}
        self.waiting = [one for one in jobs if not self._finished(one)]
        self._circumstances = {"versions": versions(), "machine": machine()}

    def proofs(self) -> list[Proof]:
        """Run what is missing."""
        self._tell(None)
        longest_first = sorted(self.waiting, key=lambda one: -self.seconds[one])
        timed = [one for one in longest_first if claims.claim(one.claim).alone]
        limits = Limits(60 + 20 * max(self.seconds.values(), default=0.0))
        for group, workers in (([one for one in longest_first if one not in timed], self.workers), (timed, 1)):
            if group:
                Crew("", workers).run(group, limits, self._open, self._done, self.prove)
        found = [proof(self.records / one.file) for one in self.jobs]
        return [one for one in found if one is not None]

    def _finished(self, one: Job) -> bool:
        path = self.records / one.file
        if not path.exists():
            return False
        try:
            record = read(path)
        except Damaged as error:
            self.notes.append(set_aside(path, error, "claim"))
            return False
        return record.status == "done" and record.header["id"] == one.id

    def _open(self, one: Job) -> Writer:
        path = self.records / one.file
        if path.exists() and (earlier := read(path)).status == "done":
            aside = path.parent / "earlier"
            aside.mkdir(exist_ok=True)
            os.replace(path, aside / f"{path.stem}-{earlier.header['id'][:6]}.jsonl")
        return Writer(path, one.header() | self._circumstances)

    def _done(self, one: Job) -> None:
        self.waiting.remove(one)
        self._tell(proof(self.records / one.file))

    def _tell(self, last: Proof | None) -> None:
        left = sum(self.seconds[one] for one in self.waiting)
        total = sum(self.seconds.values())
        done = len(self.jobs) - len(self.waiting)
        self.observe(Progress(done, len(self.jobs), total - left, total, last, self.notes))


def _seconds(one: Job) -> float:
    """How long a job takes about."""
    claim = claims.claim(one.claim)
    if one.scale == "full" and claim.full_seconds:
        return claim.full_seconds
    return claim.seconds * _SHARE[one.scale]
