"""Short runs at fixed learning rates: what a sweep only suspects is tried."""

from ravine.tune.decide import ROUGH, Try, settled
from ravine.tune.trial import Trial


def attempt(trial: Trial, seed: int, lr: float, evaluations: int, level: float, noise: float) -> Try:
    """Run at `lr` for so many evaluations of the gradient, or until the loss is no number.

    `level` and `noise` are of the loss before anything has moved: a run that ends above them has failed.
    """
    while trial.affords(evaluations) and not trial.broken:
        trial.step(lr)
    failed = not settled(trial.losses) <= level + ROUGH * noise
    return Try(seed, lr, trial.losses, failed, trial.work)
