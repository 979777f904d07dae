"""torch's own names, with torch's arguments and defaults."""

from typing import Any, Unpack

from ravine.core.errors import RavineError
from ravine.core.rule import Rule, chain
from ravine.optim.drop_in import DropIn, Options, Pair, decayed, pair
from ravine.rules import SGD as _SGD
from ravine.rules import Adadelta as _Adadelta
from ravine.rules import AdaGrad as _AdaGrad
from ravine.rules import Adam as _Adam
from ravine.rules import Adamax as _Adamax
from ravine.rules import AMSGrad as _AMSGrad
from ravine.rules import DeltaBarDelta as _DeltaBarDelta
from ravine.rules import Momentum, Nesterov
from ravine.rules import NAdam as _NAdam
from ravine.rules import RAdam as _RAdam
from ravine.rules import RMSProp as _RMSProp
from ravine.rules import Rprop as _Rprop


class SGD(DropIn):
    """torch.optim.SGD: gradient descent with momentum, Nesterov momentum, dampening and an L2 penalty."""

    def __init__(
        self, params: Any, lr: float = 1e-3, momentum: float = 0, dampening: float = 0, weight_decay: float = 0,
        nesterov: bool = False, **options: Unpack[Options],
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
        return decayed(rule, weight_decay)


class Adam(DropIn):
    """torch.optim.Adam: `weight_decay` is an L2 penalty unless `decoupled_weight_decay`."""

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: Pair = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
        amsgrad: bool = False, *, decoupled_weight_decay: bool = False, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        moments = {"betas": betas, "eps": eps, "amsgrad": amsgrad}
        decay = {"weight_decay": weight_decay, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, lr, moments | decay, options)

    def _described(
        self, betas: Pair, eps: float, weight_decay: float, amsgrad: bool, decoupled_weight_decay: bool
    ) -> Rule:
        rule = (_AMSGrad if amsgrad else _Adam)(*pair("betas", betas), eps)
        return decayed(rule, weight_decay, decoupled_weight_decay)


class AdamW(Adam):
    """torch.optim.AdamW: Adam with decoupled weight decay."""

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: Pair = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, amsgrad: bool = False, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, decoupled_weight_decay=True, **options)


class NAdam(DropIn):
    """torch.optim.NAdam: Adam with Nesterov momentum."""

    def __init__(
        self, params: Any, lr: float = 2e-3, betas: Pair = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
        momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        moments = {"betas": betas, "eps": eps, "momentum_decay": momentum_decay}
        decay = {"weight_decay": weight_decay, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, lr, moments | decay, options)

    def _described(
        self, betas: Pair, eps: float, momentum_decay: float, weight_decay: float, decoupled_weight_decay: bool
    ) -> Rule:
        rule = _NAdam(*pair("betas", betas), eps, momentum_decay)
        return decayed(rule, weight_decay, decoupled_weight_decay)


class RAdam(DropIn):
    """torch.optim.RAdam: Adam with rectified step sizes."""

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: Pair = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
        decoupled_weight_decay: bool = False, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        decay = {"weight_decay": weight_decay, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, lr, {"betas": betas, "eps": eps} | decay, options)

    def _described(self, betas: Pair, eps: float, weight_decay: float, decoupled_weight_decay: bool) -> Rule:
        return decayed(_RAdam(*pair("betas", betas), eps), weight_decay, decoupled_weight_decay)


class Adamax(DropIn):
    """torch.optim.Adamax: Adam in the infinity norm."""

    def __init__(
        self, params: Any, lr: float = 2e-3, betas: Pair = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(params, lr, {"betas": betas, "eps": eps, "weight_decay": weight_decay}, options)

    def _described(self, betas: Pair, eps: float, weight_decay: float) -> Rule:
        return decayed(_Adamax(*pair("betas", betas), eps), weight_decay)


class Adadelta(DropIn):
    """torch.optim.Adadelta."""

    def __init__(
        self, params: Any, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0,
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(params, lr, {"rho": rho, "eps": eps, "weight_decay": weight_decay}, options)

    def _described(self, rho: float, eps: float, weight_decay: float) -> Rule:
        return decayed(_Adadelta(rho, eps), weight_decay)


class Adagrad(DropIn):
    """torch.optim.Adagrad."""

    def __init__(
        self, params: Any, lr: float = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
        initial_accumulator_value: float = 0, eps: float = 1e-10, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        sums = {"initial_accumulator_value": initial_accumulator_value, "eps": eps}
        super().__init__(params, lr, sums | {"lr_decay": lr_decay, "weight_decay": weight_decay}, options)

    def _described(self, lr_decay: float, weight_decay: float, initial_accumulator_value: float, eps: float) -> Rule:
        return decayed(_AdaGrad(eps, initial_accumulator_value, lr_decay), weight_decay)


class RMSprop(DropIn):
    """torch.optim.RMSprop, with the book's `nesterov` momentum (Algorithm 8.6) beside torch's."""

    def __init__(
        self, params: Any, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
        momentum: float = 0, centered: bool = False, *, nesterov: bool = False, **options: Unpack[Options],
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
        return decayed(rule, weight_decay)


class Rprop(DropIn):
    """torch.optim.Rprop: for full batches."""

    def __init__(
        self, params: Any, lr: float = 1e-2, etas: Pair = (0.5, 1.2), step_sizes: Pair = (1e-6, 50),
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(params, lr, {"etas": etas, "step_sizes": step_sizes}, options)

    def _described(self, etas: Pair, step_sizes: Pair) -> Rule:
        return _Rprop(*pair("etas", etas), *pair("step_sizes", step_sizes))


class DeltaBarDelta(DropIn):
    """Jacobs' delta-bar-delta, which torch does not have: a learning rate for each weight."""

    def __init__(
        self, params: Any, lr: float = 0.05, kappa: float = 1e-3, phi: float = 0.1, theta: float = 0.7,
        weight_decay: float = 0, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        rates = {"kappa": kappa, "phi": phi, "theta": theta}
        super().__init__(params, lr, rates | {"weight_decay": weight_decay}, options)

    def _described(self, kappa: float, phi: float, theta: float, weight_decay: float) -> Rule:
        return decayed(_DeltaBarDelta(kappa, phi, theta), weight_decay)
