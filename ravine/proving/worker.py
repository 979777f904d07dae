"""What a claim's process does: measure, and send what was found to the coordinator, which alone writes."""

import dataclasses
import time
from multiprocessing import connection
from pathlib import Path

from threadpoolctl import threadpool_limits

from ravine import claims
from ravine.core.claim import Trial, verdict
from ravine.proving.job import Job
from ravine.racing.worker import peak_memory, reporting


def prove(pipe: connection.Connection, source: str, job: Job, *, partial: Path | None = None) -> None:
    """Measure one claim; what a long one has done so far is kept below `partial`, by the job's id."""
    with reporting(pipe):
        claim = claims.claim(job.claim)
        started = time.perf_counter()
        with threadpool_limits(1):  # NumPy's BLAS too: workers share the cores, and sums keep their order
            kept = partial / f"{job.claim}-{job.id}" if partial else None
            found = claim.measure(Trial(job.claim, job.scale, job.seed, kept))
        seconds = time.perf_counter() - started
        for check in found.checks:
            pipe.send(("row", {"check": check.row()}))
        for figure in found.figures:
            pipe.send(("row", {"figure": figure.row()}))
        for table in found.tables:
            pipe.send(("row", {"table": dataclasses.asdict(table)}))
        for note in found.notes:
            pipe.send(("row", {"note": note}))
        observed = {"seconds": seconds, "memory_mb": peak_memory()}
        pipe.send(("end", {"status": "done", "verdict": verdict(claim, found.checks), "observed": observed}))
