"""The range test: within one short run the learning rate climbs geometrically, and the loss tells where it tears.

Smith 2015 (arXiv 1506.01186) let it climb linearly over epochs. Here it climbs in a few steps, over several seeds, and
tells only what that can tell: where the loss leaves its level upwards. It cannot tell the best lr, since each value is
seen for one step, and each step stands on those before.
"""

from ravine.tune.decide import Sweep, smooth, still, torn
from ravine.tune.trial import Trial

QUIET = 3  # the first third of a sweep hardly moves: its losses tell the level at the start and the noise around it


def climb(trial: Trial, seed: int, span: tuple[float, float], evaluations: int) -> Sweep:
    """Let the lr climb over `span` within so many evaluations of the gradient, until the loss has diverged.

    The lr follows the work done, not the steps, so that a rule which takes two gradients a step climbs as far.
    """
    low, high = span
    lrs: list[float] = []
    diverged, quiet = None, 2
    while trial.affords(evaluations) and diverged is None:
        lrs.append(low * (high / low) ** min(1.0, trial.work / max(1, evaluations - 1)))
        trial.step(lrs[-1])
        quiet = max(2, round(len(lrs) * evaluations / QUIET / trial.work))  # in steps, which may take two evaluations
        diverged = torn(trial.losses, lrs, quiet)
    before = len(lrs) if diverged is None else len(lrs) - 2  # one that tears at once tells its level by its first loss
    level, noise = still(trial.losses[: max(1, min(quiet, before))])
    return Sweep(seed, lrs, trial.losses, smooth(trial.losses), level, noise, diverged, trial.work)
