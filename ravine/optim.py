"""Drop-in names: `from ravine.optim import Adam` takes the arguments of torch.optim.

`foreach` and `fused` choose how torch executes a step, not what it computes; they are accepted, and the engine decides
by itself. `capturable` and `differentiable` are refused where they are asked for.
"""

from typing import Any

from ravine.core.errors import RavineError
from ravine.core.rule import Rule, chain
from ravine.optimizer import Optimizer
from ravine.rules import SGD as _SGD
from ravine.rules import Adam as _Adam
from ravine.rules import AMSGrad as _AMSGrad
from ravine.rules import Decay, Momentum, Nesterov


class SGD(Optimizer):
    """torch.optim.SGD: gradient descent with momentum, Nesterov momentum, dampening and an L2 penalty."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        _refuse(differentiable=differentiable)
        rule: Rule = _SGD()
        if nesterov:
            if momentum <= 0 or dampening != 0:
                raise RavineError("nesterov=True needs momentum > 0 and dampening = 0")
            rule = Nesterov(momentum)
        elif momentum != 0:
            rule = Momentum(momentum, dampening)
        super().__init__(params, _penalized(rule, weight_decay), lr, maximize=maximize)


class Adam(Optimizer):
    """torch.optim.Adam: `weight_decay` is an L2 penalty unless `decoupled_weight_decay`."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        _refuse(capturable=capturable, differentiable=differentiable)
        rule = (_AMSGrad if amsgrad else _Adam)(*betas, eps)
        decayed = chain(rule, Decay(weight_decay)) if decoupled_weight_decay else _penalized(rule, weight_decay)
        super().__init__(params, decayed, lr, maximize=maximize)


class AdamW(Adam):
    """torch.optim.AdamW: Adam with decoupled weight decay."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **keywords: Any,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **keywords, decoupled_weight_decay=True)


def _penalized(rule: Rule, weight_decay: float) -> Rule:
    return chain(Decay(weight_decay), rule) if weight_decay else rule


def _refuse(**asked: bool) -> None:
    for name, value in asked.items():
        if value:
            raise RavineError(f"{name}=True is not supported; leave it out")
