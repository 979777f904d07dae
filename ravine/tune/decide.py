"""From losses to decisions: where a sweep tore, which of two runs is better, what a short run says of a long one.

Two runs of one seed see the same weights and the same batches, so their losses are compared step by step: the noise of
the batches, which both have, cancels.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

FORGET = 0.5  # of the smoothed loss: with a handful of losses a decade, more would hide where it tears
TEARS = 6.0  # standard deviations above the level at which a smoothed loss has left it upwards
ROUGH = 2.0  # the same for the end of a run: the mean of many losses strays less than a smoothed loss does
WINDOW = 0.35  # the share of a run, at its end, whose losses count
LOWER, CLEARLY = 1.0, 2.0
"""Standard errors: by fewer than one a higher lr is not preferred; two runs within two are not told apart."""
EXPONENT = 0.32
"""Of the best lr in the length of the run, lr* ~ T^-0.32: Bjorck et al. 2024 (arXiv 2409.19913), fitted to AdamW on
language models. It lies between 0, which gradient descent without noise has, and 1/2, which the worst case of convex
problems has, where lr = D / (G sqrt(T))."""
PROPORTIONAL = EXPONENT / 2
"""The same for plain gradient descent, whose steps are proportional to the gradient and remember nothing. Curvature
bounds its lr, at 2 / sharpness whatever the length of the run, where momentum and Adam are bounded by noise. Halfway
between the two; the half is a judgement, see docs/learning-rate.md."""
STEEPEST = 0.5


@dataclass(frozen=True)
class Sweep:
    """One seed's sweep: lr, raw and smoothed loss step by step; loss at the start, its noise, and where it diverged."""

    seed: int
    lr: list[float]
    loss: list[float]
    smoothed: list[float]
    level: float
    noise: float
    diverged: float | None
    evaluations: int

    def content(self) -> dict[str, Any]:
        """As a plain dict."""
        return asdict(self)


@dataclass(frozen=True)
class Try:
    """One run at one lr: `failed` where its loss became no number, or ended above where it began."""

    seed: int
    lr: float
    loss: list[float]
    failed: bool
    evaluations: int

    def content(self) -> dict[str, Any]:
        """As a plain dict."""
        return asdict(self) | {"end": settled(self.loss)}


class Difference(NamedTuple):
    """How much higher one run's losses are than another's, on average, and the standard error of that."""

    mean: float
    error: float

    def clear(self, errors: float) -> bool:
        """Whether the first is worse by more than so many standard errors."""
        return self.mean > errors * self.error


def smooth(losses: Sequence[float], forget: float = FORGET) -> list[float]:
    """The exponential average with its bias corrected, s_t / (1 - forget^t): the first value is the first loss."""
    average, found = 0.0, []
    for t, loss in enumerate(losses, 1):
        average = forget * average + (1 - forget) * loss
        found.append(average / (1 - forget**t))
    return found


def still(losses: Sequence[float]) -> tuple[float, float]:
    """The mean and standard deviation of losses that nothing has moved yet; (nan, nan) where one is no number."""
    if not losses or not all(map(math.isfinite, losses)):
        return math.nan, math.nan
    return statistics.fmean(losses), statistics.pstdev(losses)


def torn(losses: Sequence[float], lrs: Sequence[float], quiet: int) -> float | None:
    """The lr that made the loss leave its level upwards, or be no number; None where it has not.

    It has left where the smoothed loss lies above the level of the first `quiet` losses by six standard deviations of
    their noise, and by more than it had fallen before: a loss that falls far bounces far.
    """
    # The loss that a step shows is that of the steps before it: what tore it is the lr of the last but one.
    culprit = lrs[max(0, len(losses) - 2)]
    if not math.isfinite(losses[-1]):
        return culprit
    if len(losses) <= quiet:
        return None
    level, noise = still(losses[:quiet])
    smoothed = smooth(losses)
    fallen = max(0.0, level - min(smoothed))
    return culprit if smoothed[-1] > level + max(TEARS * noise, fallen, 1e-3 * abs(level)) else None


def bound(sweeps: Sequence[Sweep]) -> float | None:
    """The lr at which the sweeps diverge, the median over seeds; None where most did not."""
    found = sorted(sweep.diverged if sweep.diverged is not None else math.inf for sweep in sweeps)
    middle = found[(len(found) - 1) // 2]
    return middle if math.isfinite(middle) else None


def settled(losses: Sequence[float]) -> float:
    """The mean loss at the end of a run; infinite where a loss there is no number."""
    end = _end(losses)
    return statistics.fmean(end) if all(map(math.isfinite, end)) else math.inf


def difference(worse: Sequence[float], better: Sequence[float]) -> Difference:
    """Of the losses at the ends of two runs of one seed, over the steps that both made."""
    n = min(len(worse), len(better))
    pairs = [a - b for a, b in zip(_end(worse[:n]), _end(better[:n]), strict=True)]
    if not all(map(math.isfinite, pairs)):
        return Difference(math.inf, 0.0)
    error = statistics.stdev(pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else 0.0
    return Difference(statistics.fmean(pairs), error)


def best(tries: Sequence[Try]) -> Try | None:
    """The try to go on with: that of the lowest loss at the end, or the next lower lr while it is not clearly worse.

    Neighbours are compared, since the losses of a run at the edge of stability are too rough to stand beside others.
    """
    sound = [one for one in tries if not one.failed]
    if not sound:
        return None
    chosen = min(sound, key=lambda one: settled(one.loss))
    for lower in sorted((one for one in sound if one.lr < chosen.lr), key=lambda one: -one.lr):
        if difference(lower.loss, chosen.loss).clear(LOWER):
            break
        chosen = lower
    return chosen


def alike(tries: Sequence[Try], chosen: Try) -> list[Try]:
    """Those tries that are not told apart from `chosen`, itself among them."""
    sound = [one for one in tries if not one.failed]
    return [one for one in sound if one is chosen or not difference(one.loss, chosen.loss).clear(CLEARLY)]


def learns(tries: Sequence[Try], chosen: Try, level: float, noise: float) -> bool:
    """Whether `chosen` got anywhere: clearly below the smallest lr that was tried, or below where it began."""
    least = min((one for one in tries if not one.failed), key=lambda one: one.lr)
    if least is not chosen and difference(least.loss, chosen.loss).clear(CLEARLY):
        return True
    return settled(chosen.loss) < level - CLEARLY * noise


def horizon(short: int, long: int, exponent: float = EXPONENT) -> float:
    """The factor from the best lr of runs of `short` evaluations to that of runs of `long`."""
    return min(1.0, math.pow(short / long, exponent))


def _end(losses: Sequence[float]) -> Sequence[float]:
    return losses[-max(1, round(WINDOW * len(losses))) :]
