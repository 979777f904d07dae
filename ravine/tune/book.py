"""The book's rule: a learning rate somewhat above the one that is best after the first hundred iterations or so.

Goodfellow, Bengio and Courville 2016, section 8.3.1: "... monitor the first several iterations and use a learning rate
that is higher than the best-performing learning rate at this time, but not so high that it causes severe instability."
"""

import math
import statistics

from ravine.tune.decide import Sweep, Try, settled, still
from ravine.tune.ledger import Answer, Ledger
from ravine.tune.validate import attempt

ITERATIONS = 100
STEP = 10 ** (1 / 3)  # three learning rates a decade


def book(ledger: Ledger, span: tuple[float, float]) -> Answer:
    """Runs of 100 iterations on a grid over `span`, for every seed; one grid step above the best, if that is stable."""
    count = math.floor(math.log(span[1] / span[0]) / math.log(STEP) + 1e-9) + 1
    lrs = [span[0] * STEP**k for k in range(count)]
    _levels(ledger, span[0])
    if not all(math.isfinite(sweep.level) for sweep in ledger.sweeps):
        return Answer.unknown(
            "The loss is no number within the first steps at the smallest learning rate. Look for a NaN in the data or "
            "the initial weights, or give a lower span."
        )
    ends: dict[float, float] = {}
    for lr in lrs:
        tries = [_try(ledger, seed, lr) for seed in ledger.seeds]
        ends[lr] = (
            math.inf if any(one.failed for one in tries) else statistics.fmean(settled(one.loss) for one in tries)
        )
    stable = [lr for lr in lrs if math.isfinite(ends[lr])]
    failed = [lr for lr in lrs if not math.isfinite(ends[lr])]
    if not stable or max(ends[lr] for lr in stable) - min(ends[lr] for lr in stable) <= 1e-9:
        word = "ends where it began" if stable else "diverges"
        return Answer.unknown(f"The loss {word} at every learning rate that was tried. Give another span.")
    best = min(stable, key=lambda lr: ends[lr])
    diverges = min((lr for lr in failed if lr > best), default=None)
    above = [lr for lr in stable if best < lr <= best * STEP * 1.01]
    chosen = above[0] if above else best
    word = "one grid step above it" if above else "the step above it is unstable or was not tried, so it is kept"
    reason = f"After {ITERATIONS} iterations the best of {len(lrs)} learning rates was {best:.2g}; {word}."
    return Answer(chosen, best, chosen, diverges, reason)


def _levels(ledger: Ledger, lr: float) -> None:
    """Where the loss begins and how noisy it is, from a few steps at the smallest lr."""
    for seed in ledger.seeds:
        trial = ledger.begin(seed)
        for _ in range(8):
            trial.step(lr)
        level, noise = still(trial.losses)
        lrs = [lr] * len(trial.losses)
        ledger.swept(Sweep(seed, lrs, trial.losses, trial.losses, level, noise, None, trial.work))


def _try(ledger: Ledger, seed: int, lr: float) -> Try:
    sweep = ledger.sweep_of(seed)
    return ledger.tried(attempt(ledger.begin(seed), seed, lr, ITERATIONS, sweep.level, sweep.noise))
