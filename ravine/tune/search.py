"""The method "range": sweeps over seeds, then short runs at fixed lrs below the lr that diverges, then the answer."""

import math
from collections.abc import Sequence

from ravine.tune.decide import STEEPEST, Sweep, Try, alike, best, bound, horizon, learns
from ravine.tune.ledger import Answer, Ledger
from ravine.tune.sweep import climb
from ravine.tune.validate import attempt

COARSE, FINE = 10**0.5, 10**0.25  # the steps between lrs that are tried: half and a quarter of a decade
SWEEPS, FIRST = 0.16, 1 / 12  # shares of the budget: all sweeps, and a run of the first round; the second has the rest
TRIED, LEAST = 4, 12  # lrs in the first round; evaluations below which a sweep or run says nothing
SMALLEST = 120  # the smallest budget: sweeps of three seeds, the first round, and two runs as long as one of that


def search(ledger: Ledger, span: tuple[float, float]) -> Answer:
    """The answer from sweeps and validation, or "don't know" at the first place where the evidence ends."""
    each = max(LEAST, int(SWEEPS * ledger.budget / len(ledger.seeds)))
    for seed in ledger.seeds:
        sweep = climb(ledger.begin(seed), seed, span, each)
        ledger.swept(sweep)
        if not math.isfinite(sweep.loss[0]):
            return Answer.unknown(
                "The loss is no number before the first step: no learning rate can help. Look for a division by zero, "
                "a logarithm of zero or a NaN in the data or the initial weights."
            )
    diverges = bound(ledger.sweeps)
    top = span[1] if diverges is None else diverges / COARSE
    return _validated(ledger, top, diverges, span)


def _validated(ledger: Ledger, top: float, diverges: float | None, span: tuple[float, float]) -> Answer:
    first = _first_round(ledger, top)
    chosen = best(first)
    sweep = ledger.sweep_of(first[0].seed)
    failed = [one.lr for one in first if one.failed]
    diverges = min([*failed, *([diverges] if diverges is not None else [])], default=None)
    if chosen is None:
        lowest, highest = first[-1].lr, first[0].lr
        return Answer.unknown(
            f"Short runs at {len(first)} learning rates from {lowest:.2g} to {highest:.2g} all diverged or ended above "
            f"where they began. Give a lower span, such as span=({lowest * 1e-6:.0e}, {lowest:.0e}), or look at the "
            "model: its loss only rises.",
            diverges_at=diverges,
        )
    if not learns(first, chosen, sweep.level, sweep.noise):
        return Answer.unknown(_nothing(first, sweep), diverges_at=diverges)
    second = _second_round(ledger, chosen.lr)
    final = best(second)
    failed = [one.lr for one in second if one.failed]
    diverges = min([*failed, *([diverges] if diverges is not None else [])], default=None)
    if final is None:
        return Answer.unknown(
            f"Runs at {second[-1].lr:.2g} to {second[0].lr:.2g} went well for {first[0].evaluations} evaluations and "
            "diverged later. Give a larger budget, or warm up and clip gradients.",
            diverges_at=diverges,
        )
    if diverges is None and final.lr >= span[1] / FINE:
        return Answer.unknown(
            f"The highest lr, {final.lr:.2g}, is the best of those tried, and nothing diverged: the best lies above. "
            "Give a higher span. A rule that finds its own scale, such as prodigy, is meant to be left at its default."
        )
    return _answer(ledger, final, second, diverges)


def _first_round(ledger: Ledger, top: float) -> list[Try]:
    """Half decades downwards from `top`, all on one seed; further where the lowest is the best; then one between.

    The lr between the best and the one above it is tried here, the one below it in the second round, for longer.
    """
    evaluations = max(LEAST, int(FIRST * ledger.budget))
    lrs = [top / COARSE**k for k in range(TRIED)]
    tries = [_try(ledger, 0, lr, evaluations) for lr in lrs]
    reserve = 2 * max(LEAST, evaluations)
    while best(tries) in (None, tries[-1]) and ledger.left() >= reserve + evaluations:
        tries.append(_try(ledger, 0, tries[-1].lr / COARSE, evaluations))
    chosen = best(tries)
    failed = min((one.lr for one in tries if one.failed), default=math.inf)
    if chosen is not None and chosen.lr * FINE < failed and ledger.left() >= reserve + evaluations:
        tries.append(_try(ledger, 0, chosen.lr * FINE, evaluations))
    return sorted(tries, key=lambda one: -one.lr)


def _second_round(ledger: Ledger, lr: float) -> list[Try]:
    """The best and its lower neighbour on another seed, for as long as the budget lasts; lower where both fail."""
    tries: list[Try] = []
    least = max(LEAST, int(FIRST * ledger.budget))
    while best(tries) is None and ledger.left() >= 2 * least:
        evaluations = ledger.left() // 2
        tries += [_try(ledger, 1, one, evaluations) for one in (lr, lr / FINE)]
        lr /= COARSE
    return tries


def _try(ledger: Ledger, number: int, lr: float, evaluations: int) -> Try:
    seed = ledger.seeds[number % len(ledger.seeds)]
    sweep = ledger.sweep_of(seed)
    return ledger.tried(attempt(ledger.begin(seed), seed, lr, evaluations, sweep.level, sweep.noise))


def _answer(ledger: Ledger, final: Try, second: Sequence[Try], diverges: float | None) -> Answer:
    """The best of the short runs, carried over to the length of the run that is planned."""
    equal = [one.lr for one in alike(second, final)]
    length = final.evaluations
    factor = horizon(length, ledger.steps, ledger.exponent)
    suggestion = final.lr * factor
    low = min(equal) * horizon(length, ledger.steps, STEEPEST)
    reason = (
        f"Of short runs at fixed learning rates, lr={final.lr:.2g} was best after {length} gradient evaluations; a run "
        f"of {ledger.steps} wants less, by ({length}/{ledger.steps})^{ledger.exponent:.2g} = {factor:.2f}."
    )
    if diverges is None:
        reason += " Nothing that was tried diverged, so how far up one may go is not known."
    return Answer(suggestion, low, max(equal), diverges, reason)


def _nothing(tries: Sequence[Try], sweep: Sweep) -> str:
    """Why no lr can be told: the loss is flat, or its noise hides what the lrs did."""
    spread = max(loss for one in tries for loss in one.loss) - min(loss for one in tries for loss in one.loss)
    if spread <= 1e-6 * max(1.0, abs(sweep.level)) or sweep.noise == 0:
        return (
            f"The loss is flat: it stayed at {sweep.level:.4g} at every learning rate from {tries[-1].lr:.2g} to "
            f"{tries[0].lr:.2g}. Look whether gradients are zero (dead units, a detached graph), or give a higher span."
        )
    return (
        f"No learning rate lowered the loss by more than its noise ({sweep.noise:.2g} from batch to batch) within "
        f"{tries[0].evaluations} gradient evaluations. Give a larger budget, or a larger batch."
    )
