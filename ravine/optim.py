"""Drop-in names: `from ravine.optim import Adam` takes the arguments of torch.optim.

`foreach` and `fused` choose how torch executes a step, not what it computes; they are accepted, and the engine decides
by itself. `capturable` and `differentiable` are refused where they are asked for. A param group may bring its own
values under torch's names; in `param_groups` they stand under the rule's (`beta1`, `beta2` for `betas`).
"""

from typing import Any

from ravine.core.errors import RavineError
from ravine.core.rule import Rule, chain
from ravine.optimizer import Optimizer
from ravine.rules import SGD as _SGD
from ravine.rules import Adam as _Adam
from ravine.rules import AMSGrad as _AMSGrad
from ravine.rules import Decay, Momentum, Nesterov


class _DropIn(Optimizer):
    """An optimizer that is described in torch's words, by the constructor and by each param group."""

    def __init__(self, params: Any, lr: float, maximize: bool, **arguments: Any) -> None:
        self._arguments = arguments
        super().__init__(params, self._described(**arguments), lr, maximize=maximize)

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
        super().__init__(
            params, lr, maximize, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov
        )  # fmt: skip

    def _described(self, momentum: float, dampening: float, weight_decay: float, nesterov: bool) -> Rule:
        rule: Rule = _SGD()
        if nesterov:
            if momentum <= 0 or dampening != 0:
                raise RavineError("nesterov=True needs momentum > 0 and dampening = 0")
            rule = Nesterov(momentum)
        elif momentum != 0:
            rule = Momentum(momentum, dampening)
        return _penalized(rule, weight_decay)


class Adam(_DropIn):
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
        super().__init__(
            params, lr, maximize, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
            decoupled_weight_decay=decoupled_weight_decay,
        )  # fmt: skip

    def _described(
        self, betas: tuple[float, float], eps: float, weight_decay: float, amsgrad: bool, decoupled_weight_decay: bool
    ) -> Rule:
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise RavineError(f"betas must be two numbers, as in betas=(0.9, 0.999), got {betas!r}")
        rule = (_AMSGrad if amsgrad else _Adam)(*betas, eps)
        return chain(rule, Decay(weight_decay)) if decoupled_weight_decay else _penalized(rule, weight_decay)


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
