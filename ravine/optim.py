"""Drop-in names: `from ravine.optim import Adam` takes the arguments of torch.optim, and the engine's own.

`foreach` and `fused` choose how torch executes a step, not what it computes; they are accepted, and the engine decides
by itself. `capturable` and `differentiable` are refused where they are asked for. A param group may bring its own
values under torch's names; in `param_groups` they stand under the rule's (`beta1`, `beta2` for `betas`).
"""

from typing import Any, TypedDict, Unpack

from ravine.core.errors import RavineError, unknown
from ravine.core.rule import Rule, chain
from ravine.optimizer import Optimizer
from ravine.rules import SGD as _SGD
from ravine.rules import Adadelta as _Adadelta
from ravine.rules import AdaGrad as _AdaGrad
from ravine.rules import Adam as _Adam
from ravine.rules import Adamax as _Adamax
from ravine.rules import AMSGrad as _AMSGrad
from ravine.rules import Decay, Momentum, Nesterov
from ravine.rules import DeltaBarDelta as _DeltaBarDelta
from ravine.rules import NAdam as _NAdam
from ravine.rules import RAdam as _RAdam
from ravine.rules import RMSProp as _RMSProp
from ravine.rules import Rprop as _Rprop

_Pair = tuple[float, float]


class _Options(TypedDict, total=False):
    """What every optimizer takes by keyword: torch's ways of execution, and those of `ravine.Optimizer`."""

    maximize: bool
    foreach: bool | None
    fused: bool | None
    capturable: bool
    differentiable: bool
    nonfinite: str
    execution: str
    rounding: str


_ENGINE = ("maximize", "nonfinite", "execution", "rounding")


class _DropIn(Optimizer):
    """An optimizer that is described in torch's words, by the constructor and by each param group."""

    def __init__(self, params: Any, lr: float, arguments: dict[str, Any], options: _Options) -> None:
        for name in options:
            if name not in _Options.__annotations__:
                raise unknown(f"argument of {type(self).__name__}", name, ("lr", *arguments, *_Options.__annotations__))
        for name in ("capturable", "differentiable"):
            if options.get(name):
                raise RavineError(f"{name}=True is not supported; leave it out")
        self._arguments = arguments
        engine = {name: value for name, value in options.items() if name in _ENGINE}
        super().__init__(params, self._described(**arguments), lr, **engine)  # type: ignore[arg-type]  # checked there

    def _described(self, *_: Any, **arguments: Any) -> Rule:
        """The rule behind torch's arguments."""
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        own = {key: value for key, value in param_group.items() if key in self._arguments}
        if own and "rule" not in param_group:
            others = {key: value for key, value in param_group.items() if key not in own}
            param_group = others | {"rule": self._described(**self._arguments | own)}
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_arguments": self._arguments}


class SGD(_DropIn):
    """torch.optim.SGD: gradient descent with momentum, Nesterov momentum, dampening and an L2 penalty."""

    def __init__(
        self, params: Any, lr: float = 1e-3, momentum: float = 0, dampening: float = 0, weight_decay: float = 0,
        nesterov: bool = False, **options: Unpack[_Options],
    ) -> None:  # fmt: skip
        velocity = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov}
        super().__init__(params, lr, velocity | {"weight_decay": weight_decay}, options)

    def _described(self, momentum: float, dampening: float, weight_decay: float, nesterov: bool) -> Rule:
        rule: Rule = _SGD()
        if nesterov:
            if momentum <= 0 or dampening != 0:
                raise RavineError("nesterov=True needs momentum > 0 and dampening = 0")
            rule = Nesterov(momentum)
        elif momentum != 0:
            rule = Momentum(momentum, dampening)
        return _decayed(rule, weight_decay)


class Adam(_DropIn):
    """torch.optim.Adam: `weight_decay` is an L2 penalty unless `decoupled_weight_decay`."""

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: _Pair = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
        amsgrad: bool = False, *, decoupled_weight_decay: bool = False, **options: Unpack[_Options],
    ) -> None:  # fmt: skip
        moments = {"betas": betas, "eps": eps, "amsgrad": amsgrad}
        decay = {"weight_decay": weight_decay, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, lr, moments | decay, options)

    def _described(
        self, betas: _Pair, eps: float, weight_decay: float, amsgrad: bool, decoupled_weight_decay: bool
    ) -> Rule:
        rule = (_AMSGrad if amsgrad else _Adam)(*_pair("betas", betas), eps)
        return _decayed(rule, weight_decay, decoupled_weight_decay)


class AdamW(Adam):
    """torch.optim.AdamW: Adam with decoupled weight decay."""

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: _Pair = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, amsgrad: bool = False, **options: Unpack[_Options],
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, decoupled_weight_decay=True, **options)


class NAdam(_DropIn):
    """torch.optim.NAdam: Adam with Nesterov momentum."""

    def __init__(
        self, params: Any, lr: float = 2e-3, betas: _Pair = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
        momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, **options: Unpack[_Options],
    ) -> None:  # fmt: skip
        moments = {"betas": betas, "eps": eps, "momentum_decay": momentum_decay}
        decay = {"weight_decay": weight_decay, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, lr, moments | decay, options)

    def _described(
        self, betas: _Pair, eps: float, momentum_decay: float, weight_decay: float, decoupled_weight_decay: bool
    ) -> Rule:
        rule = _NAdam(*_pair("betas", betas), eps, momentum_decay)
        return _decayed(rule, weight_decay, decoupled_weight_decay)


class RAdam(_DropIn):
    """torch.optim.RAdam: Adam with rectified step sizes."""

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: _Pair = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
        decoupled_weight_decay: bool = False, **options: Unpack[_Options],
    ) -> None:  # fmt: skip
        decay = {"weight_decay": weight_decay, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, lr, {"betas": betas, "eps": eps} | decay, options)

    def _described(self, betas: _Pair, eps: float, weight_decay: float, decoupled_weight_decay: bool) -> Rule:
        return _decayed(_RAdam(*_pair("betas", betas), eps), weight_decay, decoupled_weight_decay)


class Adamax(_DropIn):
    """torch.optim.Adamax: Adam in the infinity norm."""

    def __init__(
        self, params: Any, lr: float = 2e-3, betas: _Pair = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
        **options: Unpack[_Options],
    ) -> None:  # fmt: skip
        super().__init__(params, lr, {"betas": betas, "eps": eps, "weight_decay": weight_decay}, options)

    def _described(self, betas: _Pair, eps: float, weight_decay: float) -> Rule:
        return _decayed(_Adamax(*_pair("betas", betas), eps), weight_decay)


class Adadelta(_DropIn):
    """torch.optim.Adadelta."""

    def __init__(
        self, params: Any, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0,
        **options: Unpack[_Options],
    ) -> None:  # fmt: skip
        super().__init__(params, lr, {"rho": rho, "eps": eps, "weight_decay": weight_decay}, options)

    def _described(self, rho: float, eps: float, weight_decay: float) -> Rule:
        return _decayed(_Adadelta(rho, eps), weight_decay)


class Adagrad(_DropIn):
    """torch.optim.Adagrad."""

    def __init__(
        self, params: Any, lr: float = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
        initial_accumulator_value: float = 0, eps: float = 1e-10, **options: Unpack[_Options],
    ) -> None:  # fmt: skip
        sums = {"initial_accumulator_value": initial_accumulator_value, "eps": eps}
        super().__init__(params, lr, sums | {"lr_decay": lr_decay, "weight_decay": weight_decay}, options)

    def _described(self, lr_decay: float, weight_decay: float, initial_accumulator_value: float, eps: float) -> Rule:
        return _decayed(_AdaGrad(eps, initial_accumulator_value, lr_decay), weight_decay)


class RMSprop(_DropIn):
    """torch.optim.RMSprop, with the book's `nesterov` momentum (Algorithm 8.6) beside torch's."""

    def __init__(
        self, params: Any, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
        momentum: float = 0, centered: bool = False, *, nesterov: bool = False, **options: Unpack[_Options],
    ) -> None:  # fmt: skip
        velocity = {"momentum": momentum, "nesterov": nesterov}
        squares = {"alpha": alpha, "eps": eps, "centered": centered}
        super().__init__(params, lr, squares | velocity | {"weight_decay": weight_decay}, options)

    def _described(
        self, alpha: float, eps: float, weight_decay: float, momentum: float, centered: bool, nesterov: bool
    ) -> Rule:
        rule: Rule = _RMSProp(alpha, eps, centered=centered)
        if nesterov and momentum <= 0:
            raise RavineError("nesterov=True needs momentum > 0")
        if momentum:
            rule = chain(rule, Nesterov(momentum, "book") if nesterov else Momentum(momentum))
        return _decayed(rule, weight_decay)


class Rprop(_DropIn):
    """torch.optim.Rprop: for full batches."""

    def __init__(
        self, params: Any, lr: float = 1e-2, etas: _Pair = (0.5, 1.2), step_sizes: _Pair = (1e-6, 50),
        **options: Unpack[_Options],
    ) -> None:  # fmt: skip
        super().__init__(params, lr, {"etas": etas, "step_sizes": step_sizes}, options)

    def _described(self, etas: _Pair, step_sizes: _Pair) -> Rule:
        return _Rprop(*_pair("etas", etas), *_pair("step_sizes", step_sizes))


class DeltaBarDelta(_DropIn):
    """Jacobs' delta-bar-delta, which torch does not have: a learning rate for each weight."""

    def __init__(
        self, params: Any, lr: float = 0.05, kappa: float = 1e-3, phi: float = 0.1, theta: float = 0.7,
        weight_decay: float = 0, **options: Unpack[_Options],
    ) -> None:  # fmt: skip
        rates = {"kappa": kappa, "phi": phi, "theta": theta}
        super().__init__(params, lr, rates | {"weight_decay": weight_decay}, options)

    def _described(self, kappa: float, phi: float, theta: float, weight_decay: float) -> Rule:
        return _decayed(_DeltaBarDelta(kappa, phi, theta), weight_decay)


def _decayed(rule: Rule, weight_decay: float, decoupled: bool = False) -> Rule:
    """The rule with an L2 penalty, or with decoupled weight decay."""
    if decoupled:
        return chain(rule, Decay(weight_decay))
    return chain(Decay(weight_decay), rule) if weight_decay else rule


def _pair(name: str, values: Any) -> _Pair:
    if not isinstance(values, tuple | list) or len(values) != 2:
        raise RavineError(f"{name} must be two numbers, as in {name}=(0.9, 0.999), got {values!r}")
    return values[0], values[1]
