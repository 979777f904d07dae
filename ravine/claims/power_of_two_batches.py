"""Slide 10: are batches whose size is a power of two faster? Each is timed beside its two neighbours."""

import numpy as np

from ravine.claims._machine import step_seconds
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_least, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import ratio

WIDTHS = [256, 512, 512, 10]
POWERS = (32, 64, 128, 256)
MARGIN = 0.02
Times = dict[int, np.ndarray]


def _faster(times: Times, power: int, other: int) -> float:
    """The share of time for each example that the power of two saves beside a neighbour, by medians."""
    return float(1 - (np.median(times[power]) / power) / (np.median(times[other]) / other))


def _measure(trial: Trial) -> Findings:
    sizes = [size for power in POWERS for size in (power - 1, power, power + 1)]
    found = step_seconds(
        widths=WIDTHS, sizes=sizes, threads=[1], repeats=trial.pick(quick=7, normal=31),
        seconds=trial.pick(quick=0.03, normal=0.1), seed=trial.seeds(1)[0],
    )  # fmt: skip
    times = {size: np.array(found[1, size]) for size in sizes}
    saved = {power: [_faster(times, power, power + side) for side in (-1, 1)] for power in POWERS}
    wins = sum(min(both) > MARGIN for both in saved.values())
    checks = [at_least("powers of two more than 2 % faster for each example than both neighbours, of 4", wins, 3)]
    rows = []
    for power in POWERS:
        sides = [ratio((times[power + side] / times[power] * power / (power + side)).tolist()) for side in (-1, 1)]
        rows.append((power, *(f"{100 * share:+.1f} %" for share in saved[power]), *(str(side) for side in sides)))
        checks += [
            reported(f"time for each example, {power + side} / {power}", one)
            for side, one in zip((-1, 1), sides, strict=True)
        ]
    columns = ("power", "saved beside one less", "saved beside one more", "one less / power", "one more / power")
    each = np.array([1e6 * times[size] / size for size in sizes])
    middle, low, high = np.median(each, 1), np.quantile(each, 0.25, 1), np.quantile(each, 0.75, 1)
    series = [
        Series(f"{power - 1}, {power}, {power + 1}", [-1, 0, 1], middle[3 * i : 3 * i + 3], low[3 * i : 3 * i + 3],
               high[3 * i : 3 * i + 3], kind="both")
        for i, power in enumerate(POWERS)
    ]  # fmt: skip
    caption = "Time for each example at a power of two (0) and its neighbours: medians; band: the middle half."
    panel = Panel("batch size minus the power of two", "time for an example (µs)", series)
    return Findings(checks, [Figure(caption, [panel])], [Table("Savings by medians; ratios with 95 %", columns, rows)],
                    [
        "The book says this of GPUs above all; here a CPU is timed, with one thread. On a GPU, whose units take whole "
        "tiles of a matrix, this experiment does not say what would be found.",
    ])  # fmt: skip


claim = Claim(
    slide=(10,),
    kind="STAT",
    statement="Some hardware runs faster with specific sizes of arrays, GPUs above all: powers of two, typically from "
    "32 to 256, and sometimes 16 for large models.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.1.3",
    claimed="on this CPU a power of two is faster for each example than both its neighbours by more than 2 %, in 3 of "
    "4 cases",
    setting="On this CPU (no GPU is tried): SGD on a dense net 256-512-512-10, float32, one thread; batches of 31 to "
    "33, 63 to 65, 127 to 129, 255 to 257; 31 interleaved repeats, in a process of its own.",
    alone=True,
    measure=_measure,
    seconds=45,
)
