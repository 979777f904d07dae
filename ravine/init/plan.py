"""What each parameter of a model will get, decided and checked before anything has changed."""

import dataclasses
import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ravine.core.errors import RavineError, unknown
from ravine.init.activations import Activation, activation
from ravine.init.edges import edges
from ravine.init.fixup import Fixup
from ravine.init.flow import Flow, Place, Unknown
from ravine.init.gains import Edge, gain, limit
from ravine.init.neutral import as_new, neutral
from ravine.init.normal import Normal
from ravine.init.orthogonal import Orthogonal
from ravine.init.parts import MATRIX, RECURRENT, Part, gate, gates_of
from ravine.init.random_walk import RandomWalk, walking_gain
from ravine.init.report import LEFT, Row
from ravine.init.settings import Settings
from ravine.init.strategy import Strategy, fans


@dataclass(frozen=True)
class Step:
    """One parameter: the row of the report, and either a strategy with the gain of each matrix or a way to fill it."""

    part: Part
    row: Row
    strategy: Strategy | None = None
    gains: tuple[float | None, ...] = ()
    turned: bool = False
    fill: Callable[[Tensor], object] | None = None
    centre: float = 0.0


class Plan:
    """Decides for one model; `flow` is what stands before and behind every weight, where that is needed."""

    def __init__(self, wanted: Settings, parts: Sequence[Part], flow: Flow | None, fallback: Activation | None) -> None:
        self.wanted, self.parts, self.flow, self.fallback = wanted, parts, flow, fallback
        branches = list(flow.branches.values()) if flow else []
        self.branch_of = {key: branch for branch in branches for key in branch.weights}
        self.ends = {key for branch in branches for key in branch.ends}
        self.zeroed = {key for branch in branches for key in ([branch.norm] if branch.norm else branch.ends)}
        if wanted.zero_residual and not branches:
            raise RavineError("zero_residual: no residual branch was found; pass example=inputs, so that sums are seen")
        self.branches = len(branches)
        self.centring: dict[int, Part] = {}  # biases by the weights whose inputs they centre

    def steps(self, leave: Sequence[str]) -> list[Step]:
        """One step for every parameter."""
        names = [name for part in self.parts for name in (part.name, *part.tied)]
        for pattern in leave:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                raise unknown("parameter in leave=", pattern, names, "Wildcards are those of file names.")
        return [self.step(part, leave) for part in self.parts]

    def step(self, part: Part, leave: Sequence[str]) -> Step:
        """What one parameter gets."""
        names = (part.name, *part.tied)
        if any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in leave):
            return self._left(part, "asked for by leave=")
        if not part.parameter.requires_grad:
            return self._left(part, "frozen (requires_grad=False)")
        place = self.flow.places.get(id(part.parameter)) if self.flow else None
        if part.kind == "unknown" and place is not None and part.parameter.ndim == 2:
            part = dataclasses.replace(part, kind="matrix")
        elif part.kind == "unknown" and self.flow and id(part.parameter) in self.flow.added:
            part = dataclasses.replace(part, kind="token", role="embedding")
        if part.kind in ("scalar", "unknown"):
            raise _not_understood(part)
        if self.wanted.zero_residual and id(part.parameter) in self.zeroed:
            return self._ending(part)
        if place is not None and place.parts > 1 and part.count == 1 and part.kind in ("matrix", "transposed"):
            part = dataclasses.replace(part, split=place.parts)
        if part.kind in MATRIX:
            return self._matrix(part, place)
        return self._other(part)

    def _left(self, part: Part, why: str) -> Step:
        return Step(part, Row(part.name, part.role, LEFT, None, why))

    def _filled(self, part: Part, what: str, fill: Callable[[Tensor], object], why: str) -> Step:
        return Step(part, Row(part.name, part.role, what, None, _with_ties(part, why)), fill=fill)

    @cached_property
    def edges(self) -> tuple[dict[int, Edge], dict[int, str]]:
        """The edge of chaos at every weight; made where a gain asks for it."""
        return edges(self.flow, self.fallback) if self.flow else ({}, {})

    # ------------------------------------------------------------ matrices

    def _matrix(self, part: Part, place: Place | None) -> Step:
        strategy = self.wanted.strategy(part.role, part.name)  # None for recurrent ones alone
        unnamed = part.role == "recurrent" and part.role not in self.wanted.strategies
        if strategy is None or (unnamed and not (isinstance(strategy, Orthogonal) and isinstance(strategy.gain, str))):
            strategy = Orthogonal()
        turned = place is not None and place.turned and part.kind == "matrix"
        role, strategy = self._branch_role(part, strategy)
        shapes = [tuple(view.shape) for view in part.matrices(turned)]
        gains, why, centre = [], "", 0.0
        for shape in shapes:
            number, why, centre = self._gain(part, place, strategy, shape, role)
            try:
                strategy.check(shape, role, number, part.parameter.dtype)
            except RavineError as error:
                raise RavineError(f"parameter '{part.name}': {error}") from error
            gains.append(number)
        std = strategy.spread(shapes[0], role, gains[0])
        packed = f"{len(shapes)} matrices of {shapes[0]}, each alone" if len(shapes) > 1 else ""
        packed = f"the model splits its output: {packed}" if part.split > 1 else packed
        reason = "; ".join(filter(None, (why, packed, "used as x W" if turned else "")))
        row = Row(part.name, role, str(strategy), std, _with_ties(part, reason))
        return Step(part, row, strategy, tuple(gains), turned, centre=centre)

    def _branch_role(self, part: Part, strategy: Strategy) -> tuple[str, Strategy]:
        """The role a strategy is told, and Fixup with its counts filled in."""
        branch = self.branch_of.get(id(part.parameter))
        if not isinstance(strategy, Fixup):
            return part.role, strategy
        if strategy.branches is None and not self.branches:
            raise RavineError("fixup: no residual branch was found; pass example=inputs, so that sums are seen")
        if branch is None:
            return part.role, strategy
        filled = Fixup(strategy.branches or self.branches, strategy.layers or len(branch.weights))
        return ("branch_end" if id(part.parameter) in self.ends else "branch"), filled

    def _gain(
        self, part: Part, place: Place | None, strategy: Strategy, shape: tuple[int, ...], role: str
    ) -> tuple[float | None, str, float]:
        """(gain handed to the strategy, reason, what the bias takes away from every input)."""
        asks = "random walk" if isinstance(strategy, RandomWalk) else strategy.asks
        if asks is None:
            return None, "", 0.0
        if isinstance(part.owner, RECURRENT):
            return self._recurrent_gain(part, asks, shape)
        f = self._behind(part, place)
        behind = f"before {f}" if f.label != "linear" else "no activation behind it"
        if asks == "random walk":
            return walking_gain(f, fans(shape)[0]), behind, 0.0
        if asks != "auto":
            return gain(f, asks), behind, 0.0
        edges, unknown = self.edges
        if id(part.parameter) in unknown:
            raise RavineError(
                f"parameter '{part.name}': its inputs come from {unknown[id(part.parameter)]}(), whose values are not "
                f"known, so the edge of chaos is not either; {_WAYS_OUT}"
            )
        here = edges[id(part.parameter)]
        number = (
            here.weight * fans(shape)[0] ** -0.5 / strategy.scale(shape, role)
        )  # so that Var W = sigma_w^2 / fan_in
        why = f"edge of chaos: sigma_w {here.weight:.4g}; {behind}"
        if not here.centre:
            return number, why, 0.0
        bias = self._bias(part)
        if bias is None:
            return number, f"{why}; no bias to centre its inputs with", 0.0
        self.centring[id(bias)] = part
        return number, f"{why}; its bias centres inputs of mean {here.centre:.4g}", here.centre

    def _bias(self, part: Part) -> nn.Parameter | None:
        """The bias of the layer, where the spec does not say what it shall be and it is not frozen."""
        bias = getattr(part.owner, "bias", None)
        free = isinstance(bias, nn.Parameter) and bias.requires_grad and "bias" not in self.wanted.strategies
        return bias if free and part.own_name == "weight" else None

    def _recurrent_gain(self, part: Part, asks: str, shape: tuple[int, ...]) -> tuple[float, str, float]:
        kind = getattr(part.owner, "nonlinearity", None)
        if part.role != "recurrent" or kind is None or gates_of(part.owner) > 1:
            return 1.0, "into gates or states of variance 1", 0.0
        f = activation(str(kind))
        if asks == "random walk":
            return walking_gain(f, shape[1]), f"through time, before {f}", 0.0
        return (limit(f) if asks == "auto" else gain(f, asks)), f"through time, before {f}", 0.0

    def _behind(self, part: Part, place: Place | None) -> Activation:
        """The one activation behind a weight; raises where there is none to be found, or more than one."""
        if place is None or not place.after:
            raise RavineError(
                f"parameter '{part.name}': the gain depends on the activation behind it, and the example does not use "
                "it; pass activation=, a gain that is a number, or leave=['" + part.name + "']"
            )
        unknown = sorted(f.name for f in place.after if isinstance(f, Unknown))
        if len(place.after) == 1 and not unknown:
            (f,) = place.after
            return f or activation("linear")
        if self.fallback is not None:
            return self.fallback
        if unknown:
            raise RavineError(
                f"parameter '{part.name}': its output goes into {unknown[0]}(), which is no activation that is known, "
                f"so its gain is not either; {_WAYS_OUT}"
            )
        found = ", ".join(sorted(str(f or "no activation") for f in place.after))
        raise RavineError(
            f"parameter '{part.name}': its output goes into several things ({found}), so which activation its gain is "
            "for is not clear; pass activation= for such weights, or a gain that is a number"
        )

    # ------------------------------------------------------------ all else

    def _other(self, part: Part) -> Step:
        strategy = self.wanted.strategies.get(part.role)
        if strategy is not None and part.kind != "slope":
            shape = tuple(part.parameter.shape)
            try:
                strategy.check(shape, part.role, None, part.parameter.dtype)
                strategy.gain_of(None)
            except RavineError as error:
                raise RavineError(f"parameter '{part.name}': {error}") from error
            row = Row(
                part.name, part.role, str(strategy), strategy.spread(shape, part.role), _with_ties(part, "by the spec")
            )
            return Step(part, row, strategy, (None,))
        if part.kind == "scale":
            return self._scale(part)
        if part.kind == "slope":
            return self._filled(part, "0.25", lambda p: p.fill_(0.25), "slope of PReLU (He et al. 2015)")
        if part.kind in ("table", "token"):
            return self._embedding(part)
        if isinstance(part.owner, nn.LSTM | nn.LSTMCell):
            if part.own_name.startswith("bias_ih"):
                return self._filled(
                    part, "zeros, forget gate 1", _forget(part), "torch adds two biases: this one has the 1"
                )
            return self._filled(part, "zeros", nn.init.zeros_, "torch adds two biases: the other one has the 1")
        if id(part.parameter) in self.centring:
            return self._filled(part, "-W 1 mean: bias centres", nn.init.zeros_, "takes the mean of its inputs away")
        return self._filled(part, "zeros", nn.init.zeros_, "bias")

    def _scale(self, part: Part) -> Step:
        """The constant with which a normalization gives numbers of its own size."""
        one = neutral(part.owner)
        if one is None:
            kind = type(part.owner).__name__
            return self._left(part, f"which constant leaves the scale of a {kind} as it is does not show")
        if one == 0:
            return self._filled(part, "zeros", nn.init.zeros_, "scale of a normalization that multiplies by 1 + this")
        if isinstance(part.owner, _NormBase) and part.owner.running_mean is not None:
            why = "scale of a normalization, whose running statistics begin anew"
            return self._filled(part, "ones", partial(as_new, part.owner), why)
        return self._filled(part, "ones", nn.init.ones_, "scale of a normalization")

    def _ending(self, part: Part) -> Step:
        """What makes the end of a residual branch zero."""
        why = "ends a residual branch, which begins by adding nothing"
        one = neutral(part.owner) if part.kind == "scale" else 1.0
        if one is None:
            raise RavineError(
                f"parameter '{part.name}' ends a residual branch, and which constant makes a "
                f"{type(part.owner).__name__} zero does not show: leave=['{part.name}'] and set it yourself"
            )
        return self._filled(part, "zeros" if one else "-1", lambda p: p.fill_(one - 1), why)

    def _embedding(self, part: Part) -> Step:
        shape = tuple(part.parameter.shape)
        if part.tied:
            strategy, why = Normal(float(shape[-1] ** -0.5)), "embedding that is the output too: 1 / sqrt(dimension)"
        elif isinstance(part.owner, nn.Embedding | nn.EmbeddingBag):
            strategy, why = Normal(1.0), "embedding: vectors of variance 1, as layers expect inputs"
        else:
            strategy, why = Normal(0.02), "token or position that is added to others: small"
        row = Row(part.name, part.role, str(strategy), strategy.deviation, _with_ties(part, why))
        return Step(part, row, strategy, (None,))


_WAYS_OUT = "pass activation= with what the model computes there, a name or a function, or a gain that is a number"


def _forget(part: Part) -> Callable[[Tensor], object]:
    def fill(p: Tensor) -> None:
        p.zero_()
        gate(p, part.owner, 1).fill_(1.0)

    return fill


def _with_ties(part: Part, why: str) -> str:
    return "; ".join(filter(None, (why, f"once for {', '.join((part.name, *part.tied))}" if part.tied else "")))


def _not_understood(part: Part) -> RavineError:
    shape = tuple(part.parameter.shape)
    if part.kind == "scalar":
        what = "is 0-d: fan_in and fan_out are undefined"
    elif len(shape) == 1:
        what = (
            f"is a vector {shape} of a {type(part.owner).__name__}, neither bias nor normalization as far as names tell"
        )
    else:
        what = f"{shape} belongs to a {type(part.owner).__name__}, of which neither fan nor orientation is known"
    more = "pass example=inputs (it shows no use in einsum, or of parametrized ones), or " if len(shape) == 2 else ""
    return RavineError(f"parameter '{part.name}' {what}: {more}leave=['{part.name}'] and set it yourself")
