"""The averages by their names, with the arguments of the rules that say what they are."""

from torch import nn

from ravine.averaging.tracking import Averaging
from ravine.core.declared import check_value
from ravine.core.errors import RavineError, unknown
from ravine.rules import EMA as _EMA
from ravine.rules import SWA as _SWA
from ravine.rules import Polyak as _Polyak


class EMA(Averaging):
    """The exponential moving average of a model's weights, `ravine.rules.EMA`: 0.999 d unless one of three is given.

    decay: d in m <- d m + (1 - d) theta; half_life: the steps in which a weight in the average halves; horizon:
        1 / (1 - d), about the number of steps that count.
    warmup: how it begins: "corrected", "growing" or "none", see the rule.

    >>> import torch, ravine
    >>> avg = ravine.averaging.EMA(torch.nn.Linear(2, 1), half_life=500)
    >>> round(avg.rule.decay, 6)
    0.998615
    """

    def __init__(
        self, model: nn.Module, decay: float | None = None, half_life: float | None = None,
        horizon: float | None = None, warmup: str = "corrected", buffers: str = "last", execution: str = "auto",
    ) -> None:  # fmt: skip
        given = {"decay": decay, "half_life": half_life, "horizon": horizon}
        rates = {name: value for name, value in given.items() if value is not None}
        if len(rates) > 1:
            raise RavineError(f"EMA: {' and '.join(rates)} say the same thing: give one of {', '.join(given)}")
        if warmup not in (known := _EMA.choices["warmup"]):
            raise unknown("choice of warmup=", str(warmup), known)
        super().__init__(model, _EMA(**rates, warmup=warmup), buffers, execution)


class Polyak(Averaging):
    """The mean of a model's weights over the iterates, `ravine.rules.Polyak`.

    begin: the number of the first update whose weights count. tail: in place of it the last share of `steps` updates,
        such as the last half with tail=0.5 (Rakhlin, Shamir & Sridharan 2012: suffix averaging). eta: how fast the
        beginning is forgotten, where the length is not known beforehand.
    """

    def __init__(
        self, model: nn.Module, begin: int = 1, tail: float | None = None, steps: int | None = None, eta: float = 0.0,
        buffers: str = "last", execution: str = "auto",
    ) -> None:  # fmt: skip
        if (tail is None) != (steps is None):
            raise RavineError(
                "Polyak: tail is a share of steps, so give both, as in Polyak(model, tail=0.5, steps=1000)"
            )
        if tail is not None and steps is not None:
            check_value("Polyak: tail", tail, float, "(0, 1]")
            check_value("Polyak: steps", steps, int, "[1, inf)")
            if begin != 1:
                raise RavineError("Polyak: begin and tail both say where the average begins: give one")
            begin = steps - max(1, round(tail * steps)) + 1
        super().__init__(model, _Polyak(begin, eta), buffers, execution)


class SWA(Averaging):
    """Stochastic weight averaging of a model's weights, `ravine.rules.SWA`.

    begin: the number of the first update whose weights count; every: how many updates lie between two that do.
    """

    def __init__(
        self, model: nn.Module, begin: int = 1, every: int = 1, buffers: str = "last", execution: str = "auto"
    ) -> None:
        super().__init__(model, _SWA(begin, every), buffers, execution)
