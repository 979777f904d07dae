"""Schedule-free optimizers with the arguments of their authors' package, and without its train and eval modes.

The parameters rest where gradients are taken. To look at those that count, evaluate inside `optimizer.swapped()`.
"""

from typing import Any, Unpack

from ravine.core.rule import Rule, chain
from ravine.optim.drop_in import DropIn, Options, Pair, pair
from ravine.rules import SGD as _SGD
from ravine.rules import Decay, RMSProp, ScheduleFree
from ravine.schedules import constant, warmup


class _Averaged(DropIn):
    def __init__(self, params: Any, lr: float, warmup_steps: int, arguments: dict[str, Any], options: Options) -> None:
        rising = warmup(warmup_steps) if warmup_steps else constant()
        super().__init__(params, lr, arguments, Options(schedule=rising) | options)


class SGDScheduleFree(_Averaged):
    """schedulefree's SGDScheduleFree: SGD averaged in place of a schedule, with weight decay taken at y."""

    def __init__(
        self, params: Any, lr: float = 1.0, momentum: float = 0.9, weight_decay: float = 0, warmup_steps: int = 0,
        r: float = 0.0, weight_lr_power: float = 2.0, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        weights = {"r": r, "weight_lr_power": weight_lr_power}
        arguments = {"momentum": momentum, "weight_decay": weight_decay} | weights
        super().__init__(params, lr, warmup_steps, arguments, options)

    def _described(self, momentum: float, weight_decay: float, r: float, weight_lr_power: float) -> Rule:
        return chain(_SGD(), Decay(weight_decay), ScheduleFree(momentum, r, weight_lr_power))


class AdamWScheduleFree(_Averaged):
    """schedulefree's AdamWScheduleFree: AdamW averaged in place of a schedule; `betas[0]` mixes y from z and x."""

    def __init__(
        self, params: Any, lr: float = 0.0025, betas: Pair = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
        warmup_steps: int = 0, r: float = 0.0, weight_lr_power: float = 2.0, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        weights = {"r": r, "weight_lr_power": weight_lr_power}
        arguments = {"betas": betas, "eps": eps, "weight_decay": weight_decay} | weights
        super().__init__(params, lr, warmup_steps, arguments, options)

    def _described(self, betas: Pair, eps: float, weight_decay: float, r: float, weight_lr_power: float) -> Rule:
        beta1, beta2 = pair("betas", betas)
        inner = chain(RMSProp(beta2, eps, corrected=True), Decay(weight_decay))
        return chain(inner, ScheduleFree(beta1, r, weight_lr_power))
