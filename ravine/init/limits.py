"""What counts as a healthy start: one table of limits, and findings by it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

VERDICTS = ("pass", "warn", "fail")
Interval = tuple[float, float]


@dataclass(frozen=True)
class Limit:
    """A value passes within `passes`, fails outside of `fails`, and warns between. why: where the limits come from."""

    passes: Interval
    fails: Interval
    why: str


@dataclass(frozen=True)
class Finding:
    """One line: what was measured of which layer ("" is the whole model), the value, "pass", "warn" or "fail", the
    reason, and what to do ("" where it passes).
    """

    name: str
    layer: str
    value: float
    verdict: str
    reason: str
    fix: str = ""


_ANY = math.inf
LIMITS = {
    "activation std": Limit(
        (0.05, 20.0), (1e-3, 1e3),
        "std 1 is where tanh and sigmoid are neither linear nor flat and where a layer's inputs have the scale that "
        "lr defaults assume (Glorot & Bengio 2010; Mishkin & Matas 2016); 20 times off still trains, a thousand "
        "times off is many layers' worth of shrinking or growing",
    ),
    "gradient ratio": Limit(
        (1e-2, 1e2), (1e-4, 1e4),
        "norm of the gradient in the weights, first layer over last, and in each layer's outputs over the last's: "
        "at 100 one lr cannot fit both layers well, at 10,000 one of them does not move (Bengio et al. 1994; torch's "
        "defaults: 2e-11 at 50 tanh layers)",
    ),
    "dead": Limit(
        (0.0, 0.2), (0.0, 0.8),
        "a unit whose slope is zero on the whole batch gets no gradient from it; with random signs on b examples 2^-b "
        "of units are so; at 80 % four of five layers' units are lost (Lu et al. 2020, arXiv 1903.06733)",
    ),
    "saturated": Limit(
        (0.0, 0.2), (0.0, 0.5),
        "slope below 2 % of the largest, |tanh| > 0.99; N(0, 1) inputs saturate 0.8 % of tanh; where half is saturated "
        "every layer halves the gradient and more (Glorot & Bengio 2010, section 3)",
    ),
    "effective rank": Limit(
        (1.5, _ANY), (0.0, _ANY),
        "participation ratio of the covariance: at 1 all examples lie on a line, whatever the width "
        "(Gao et al. 2017; Saxe et al. 2014)",
    ),
    "likeness": Limit(
        (-1.0, 1 - 1e-4), (-1.0, 1 - 1e-6),
        "mean cosine between two examples' outputs: at 1 the layers above cannot tell examples apart; 1e-6 is what "
        "float32 can resolve (Schoenholz et al. 2017, arXiv 1611.01232)",
    ),
    "loss at chance": Limit(
        (0.0, 1.5), (0.0, 3.0),
        "initial loss over that of predicting the marginals: logits of std 1 cost 0.5 nats beyond ln K, a fifth for "
        "ten classes; three times chance is confidently wrong, and the first steps only undo it; it fails where it is "
        "three times ln K as well, since all classes alike are no confidence",
    ),
    "squared loss at chance": Limit(
        (0.0, 3.0), (0.0, 10.0),
        "initial loss over the variance of the targets: outputs of std 1 double it for targets of std 1",
    ),
    "identical units": Limit(
        (0.0, 0.0), (0.0, 0.0),
        "units with equal weights and equal gradients stay equal for ever: they count as one (Goodfellow et al. 2016, "
        "p. 301)",
    ),
    "through time": Limit(
        (1e-3, 1e2), (1e-6, 1e4),
        "||dh_T/dh_1|| over ||dh_T/dh_T||: a forget gate at sigmoid(1) leaves 2e-3 after 20 steps, one at sigmoid(0) "
        "1e-6 (Jozefowicz et al. 2015); beyond 100 a clipped gradient is mostly the oldest step (Pascanu et al. 2013)",
    ),
    "state std": Limit(
        (1e-3, 10.0), (1e-6, 1e3),
        "std of the last state h_T: tanh bounds it by 1, a linear or ReLU state has no bound",
    ),
}  # fmt: skip


def judge(name: str, value: float) -> str:
    """"pass", "warn" or "fail"; a value that is not a number fails."""
    limit = LIMITS[name]
    if limit.passes[0] <= value <= limit.passes[1]:
        return "pass"
    return "warn" if limit.fails[0] <= value <= limit.fails[1] else "fail"


def worst(verdicts: Iterable[str]) -> str:
    """The worst of several verdicts."""
    return VERDICTS[max((VERDICTS.index(one) for one in verdicts), default=0)]
