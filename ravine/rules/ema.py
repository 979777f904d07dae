"""The exponential moving average of the weights."""

from dataclasses import dataclass
from typing import Any

from ravine.core.declared import check_value
from ravine.core.errors import RavineError
from ravine.core.rule import choose
from ravine.rules.averages import Average

WARMUPS = ("corrected", "growing", "none")
DECAY = 0.999


@dataclass(frozen=True)
class EMA(Average):
    """An average of the weights that forgets exponentially, for any rule: it is judged, and the steps stay the rule's.

        m <- d m + (1 - d) theta        the weight of an iterate k steps ago is d^k

    Goodfellow, Bengio & Courville 2016, eq. 8.39. d is given as `decay`, by `half_life` h (d = 2^(-1/h)), or by
    `horizon` h, the mean age of what is averaged and today's step (d = 1 - 1/h). How it begins says `warmup`:
    "corrected" keeps the weights at d^k from the first step on, c = (1 - d) / (1 - d^t), as Adam corrects its moments;
    "growing" has d = min(decay, t / (t + 9)), as TensorFlow's ExponentialMovingAverage with num_updates = t - 1;
    "none" gives the first iterate the weight of all before it, as torch's AveragedModel does.
    """

    decay: float = DECAY
    half_life: float | None = None
    horizon: float | None = None
    warmup: str = "corrected"

    ranges = {"decay": "(0, 1)", "half_life": "(0, inf)", "horizon": "(1, inf)"}
    choices = {"warmup": WARMUPS}

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("half_life", "horizon") if getattr(self, name) is not None]
        if len(given) > 1 or (given and self.decay != DECAY):
            both = " and ".join([*given, *(["decay"] if self.decay != DECAY else [])])
            raise RavineError(f"{self.name}: {both} say the same thing: give one of decay, half_life and horizon")
        if self.half_life is not None:
            object.__setattr__(self, "decay", 2 ** (-1 / self.half_life))
        if self.horizon is not None:
            object.__setattr__(self, "decay", 1 - 1 / self.horizon)
        for name in given:  # which are ways to say `decay`: the optimizer's groups keep one number
            object.__setattr__(self, name, None)
        check_value(f"{self.name}: decay", self.decay, float, self.ranges["decay"])

    def share(self, t: Any) -> Any:
        d = self.decay
        if self.warmup == "corrected":
            return (1 - d) / (1 - d**t)
        grown = t / (t + 9)
        later = choose(grown < d, 1 - grown, 1 - d + 0 * t) if self.warmup == "growing" else 1 - d + 0 * t
        return choose(t < 1.5, 1 + 0 * t, later)
