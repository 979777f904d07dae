"""Gains: how wide weights must be so that an activation keeps the signal, forward or backward, or both."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ravine.core.errors import RavineError, unknown
from ravine.init.activations import Activation, Function, activation
from ravine.init.moments import moments, slopes_at_zero
from ravine.init.strategy import PRESERVED

AMPLIFIED = 1.5  # at width 256 inputs deviate by 9 % (sqrt(2 / 256)), the odd one by 30 %, and more than that runs away
SMALLEST = 1e-4


def gain(f: "str | Function | Activation", preserve: str = "variance", depth: int | None = None) -> float:
    """The gain of an activation: weights of variance gain^2 / fan_in keep what `preserve` names.

        variance: 1 / sqrt(E f(z)^2)     gradient: 1 / sqrt(E f'(z)^2)     z ~ N(0, 1)
        auto:     the edge of chaos, chi_1 = gain^2 E f'(z)^2 = 1 at the fixed point z ~ N(0, q*), where biases centre f

    f: a name ("gelu", "leaky_relu(0.1)") or any elementwise callable that torch can differentiate.
    depth: for auto, the number of layers before this one, where the variance is not yet q*; None is the limit.

    Raises `RavineError` for an unknown name, and for a function whose derivative is zero or that is zero itself.
    Glorot and Bengio 2010, eqs. 10 and 11; chi_1 of Schoenholz et al., arXiv 1611.01232; see docs/initialization.md.

    >>> round(gain("relu"), 6), round(gain("tanh", preserve="gradient"), 6), gain("sigmoid", preserve="auto")
    (1.414214, 1.467414, 4.0)
    """
    if preserve not in PRESERVED:
        raise unknown("thing to preserve", str(preserve), PRESERVED)
    f = activation(f)
    if preserve == "auto":
        if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):
            raise RavineError(f"depth must be a whole number of layers or none, got {depth!r}")
        return edge_after(f, depth).weight if depth is not None else limit(f)
    of = moments(f)
    kept = of.square if preserve == "variance" else of.slope_square
    return 1 / math.sqrt(_positive(f, kept, "f(z)" if preserve == "variance" else "f'(z)"))


def _positive(f: Activation, value: float, what: str) -> float:
    if not value > 0:
        raise RavineError(f"activation {f} has no gain: {what} is zero almost everywhere, so nothing of it can be kept")
    return value


@dataclass(frozen=True)
class Edge:
    """The edge of chaos of f for pre-activations z ~ N(0, q).

    weight: sigma_w = 1 / sqrt(E f'(z)^2), which makes chi_1 = 1: gradients keep their size.
    centre: what the next layer's bias takes away from f, b = -W 1 centre: E f, or less where that starves the signal.
    after: the variance of the next pre-activations, sigma_w^2 E (f - centre)^2; q for linear f, else less.
    """

    q: float
    weight: float
    centre: float
    after: float


def edge(f: Activation, q: float = 1.0) -> Edge:
    """The edge of chaos at the variance q.

    With centre = E f, Var f <= q E f'^2 (the Poincaré inequality, equal for linear f alone) makes the variance fall by
    Var f / (q E f'^2) in each layer. Where f is smooth at 0 this comes to an end as q falls and f looks linear. Where f
    has a kink at 0 it never does, so f is centred only as far as the variance stays: not at all for ReLU.
    """
    of = moments(f, q)
    weight = 1 / math.sqrt(_positive(f, of.slope_square, "f'(z)"))
    below, above = slopes_at_zero(f)
    smooth = below != 0 and math.isclose(below, above, rel_tol=1e-9)
    if smooth or of.mean == 0:
        centre = of.mean
    else:
        wanted = q * of.slope_square - of.variance  # (E f - centre)^2
        centre = of.mean - math.copysign(min(math.sqrt(max(0.0, wanted)), abs(of.mean)), of.mean)
        centre = 0.0 if abs(centre) < 1e-9 * abs(of.mean) else centre
    centre = 0.0 if abs(centre) < 1e-12 * math.sqrt(q) else centre  # of an odd f rounding is left of the mean
    return Edge(q, weight, centre, weight**2 * (of.variance + (of.mean - centre) ** 2))


def edge_after(f: Activation, layers: int) -> Edge:
    """The edge of chaos after so many layers of f, from pre-activations of variance 1."""
    here = edge(f)
    for _ in range(layers if _slopes(f) else 0):
        if math.isclose(here.after, here.q, rel_tol=1e-12):
            break
        here = edge(f, here.after)
    return here


@lru_cache(256)
def start(f: Activation, layers: int) -> float:
    """The variance with which pre-activations of a chain of `layers` layers of f begin: 1, or less where 1 is unstable.

    Where the variance grows faster than itself, d ln after / d ln q > 1 as for GELU, SiLU and softplus, a deviation of
    it at the first layer is amplified by every other. The start is the first variance on the way from 1 to 0 from
    which the whole chain amplifies by AMPLIFIED at most. Fall and growth are smooth in ln q, so a table serves.
    """
    grid = np.linspace(math.log(SMALLEST) - 3, 0.0, 41)
    here = [edge(f, math.exp(x)) for x in grid]
    falls = [math.log(e.after / e.q) for e in here]
    grows = [math.log(max(_amplifies(f, e), 1e-9)) for e in here]
    way, growth = [0.0], [0.0]  # ln q, and the sum of ln d ln after / d ln q before it
    first = 0
    while way[first] > math.log(SMALLEST):
        while len(growth) <= first + layers:
            growth.append(growth[-1] + float(np.interp(way[-1], grid, grows)))
            way.append(way[-1] + float(np.interp(way[-1], grid, falls)))
        if growth[first + layers] - growth[first] <= math.log(AMPLIFIED) or way[first] == way[first + 1]:
            break
        first += 1
    return math.exp(way[first])


def _amplifies(f: Activation, here: Edge) -> float:
    """d ln after / d ln q with sigma_w and the centre held."""
    step = 1e-3
    squares = []
    for q in (here.q * math.exp(-step), here.q * math.exp(step)):
        of = moments(f, q)
        squares.append(of.variance + (of.mean - here.centre) ** 2)
    return math.log(squares[1] / squares[0]) / (2 * step)


def _slopes(f: Activation) -> tuple[float, float]:
    """The slopes at 0; raises where both are zero, since the signal of the edge of chaos ends there."""
    below, above = slopes_at_zero(f)
    if below == above == 0:
        raise RavineError(
            f"activation {f} is flat at 0, so at the edge of chaos its signal dies with depth: "
            "take preserve='variance' or 'gradient'"
        )
    return below, above


def limit(f: Activation) -> float:
    """sigma_w at the fixed point that any depth comes to: q* = 0, where the slopes at 0 decide."""
    below, above = _slopes(f)
    return 1 / math.sqrt((below**2 + above**2) / 2)
