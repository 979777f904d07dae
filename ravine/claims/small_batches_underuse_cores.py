"""Slide 10: batches that are too small leave a machine's cores with too little to do."""

import numpy as np
from numpy.typing import NDArray

from ravine.claims._machine import cores, step_seconds
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, above, at_least, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import ratio

WIDTHS = [256, 512, 512, 10]
SIZES = [1, 4, 16, 64, 256, 1024]
Array = NDArray[np.float64]
Times = dict[tuple[int, int], list[float]]


def _per_second(times: Times, threads: int, size: int) -> Array:
    """Examples a second, of every repeat."""
    return size / np.array(times[threads, size])


def _gain(times: Times, threads: int, size: int) -> Array:
    """How many times as fast all threads are as one, of every repeat."""
    return _per_second(times, threads, size) / _per_second(times, 1, size)


def _measure(trial: Trial) -> Findings:
    many = cores()
    threads = [1, many] if many > 1 else [1]
    times = step_seconds(
        widths=WIDTHS, sizes=SIZES, threads=threads, repeats=7, seconds=trial.pick(quick=0.02, normal=0.3),
        seed=trial.seeds(1)[0],
    )  # fmt: skip
    tiny, large = (_per_second(times, many, size) for size in (1, 256))
    checks = _of_cores(times, many)
    checks.append(
        at_least("examples a second, b = 256 / b = 1, all cores (ratio of medians of 7)",
                 np.median(large) / np.median(tiny), 5, role="condition")
    )  # fmt: skip
    checks.append(reported("the same ratio, geometric mean over the repeats", ratio((large / tiny).tolist())))
    checks.append(reported("cores", many))
    rows = [
        (size, *(f"{np.median(_per_second(times, count, size)):,.0f}" for count in threads),
         f"{np.median(_gain(times, many, size)):.2f}")
        for size in SIZES
    ]  # fmt: skip
    columns = ("batch size", *(f"{count} thread{'s' * (count > 1)}" for count in threads), "all / one")
    notes = [
        "Two things make a large batch cheap for each example: the fixed cost of a step is shared, which one thread "
        "shows too, and the cores share the work. Only the second is about cores, hence the check that decides.",
        "Where other work keeps the cores busy, several threads wait for one another and can be slower than one, at "
        "every size: the condition that all cores gain at b = 1024 tells. Then only how much less a large batch "
        "suffers was seen.",
    ]
    if many == 1:
        notes.append("There is one core here: the claim is about cores and cannot be judged.")
    return Findings(checks, [_figure(times, threads)], [Table("Examples a second (medians)", columns, rows)], notes)


def _of_cores(times: Times, many: int) -> list[Check]:
    if many == 1:
        return [at_least("cores to be underused", many, 2)]
    more = _gain(times, many, 1024) / _gain(times, many, 1)
    return [
        above("gain by all cores over one thread, b = 1024 / b = 1", ratio(more.tolist()), 1),
        reported("gain by all cores over one thread, b = 1", ratio(_gain(times, many, 1).tolist())),
        above("gain by all cores over one thread, b = 1024", ratio(_gain(times, many, 1024).tolist()), 1,
              role="condition"),
    ]  # fmt: skip


def _figure(times: Times, threads: list[int]) -> Figure:
    series = []
    for count in threads:
        found = np.array([_per_second(times, count, size) for size in SIZES])
        series.append(Series(f"{count} thread{'s' * (count > 1)}", SIZES, np.median(found, 1), found.min(1),
                             found.max(1), kind="both"))  # fmt: skip
    caption = "Examples a second by batch size: medians of 7, the band from the slowest to the fastest."
    return Figure(caption, [Panel("batch size", "examples / s", series, log="xy")])


claim = Claim(
    slide=(10,),
    kind="STAT",
    statement="Multicore architectures are usually underused by extremely small batches: below some size, a smaller "
    "batch does not take less time.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.1.3",
    claimed="all cores gain more over one with batches of 1,024 than with single examples. Conditions: with 1,024 "
    "they do gain; at least 5 times as many examples a second with batches of 256 as with single examples",
    changed="The 5 times as many examples a second decided. One core shows that as well, since it shares the fixed "
    "cost of a step; what the cores themselves add decides now, and the first criterion is a condition.",
    setting="SGD on a dense net 256-512-512-10, float32, all cores and one thread, 7 interleaved repeats, in a process "
    "of its own.",
    alone=True,
    measure=_measure,
    seconds=30,
)
