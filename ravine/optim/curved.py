"""Optimizers that look at the diagonal of the curvature, with their authors' arguments."""

from typing import Any, Unpack

from ravine.core.rule import Rule, chain
from ravine.optim.drop_in import DropIn, Options, Pair, only, pair
from ravine.rules import AdaHessian as _AdaHessian
from ravine.rules import Decay, Sophia


class SophiaG(DropIn):
    """Sophia by Gauss-Newton-Bartlett: `step(closure, sampled)`, where theirs has `update_hessian()` and `step(bs=)`.

    sampled() returns the mean loss at labels drawn from the model's own predictions, and how many labels they are.
    `every` is how many steps lie between two looks at it, 10 as in their training script.
    """

    def __init__(
        self, params: Any, lr: float = 1e-4, betas: Pair = (0.965, 0.99), rho: float = 0.04, weight_decay: float = 0.1,
        *, every: int = 10, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        arguments = {"betas": betas, "rho": rho, "weight_decay": weight_decay, "every": every}
        super().__init__(params, lr, arguments, options)

    def _described(self, betas: Pair, rho: float, weight_decay: float, every: int) -> Rule:
        curvature = {"gamma": rho, "eps": 1e-15, "every": every, "estimator": "gauss_newton"}
        return chain(Sophia(*pair("betas", betas), **curvature), Decay(weight_decay))  # type: ignore[arg-type]


class AdaHessian(DropIn):
    """AdaHessian in its PyTorch form: `step(closure)`, where the closure returns the loss without `backward()`.

    `n_samples` is 1. With `update_each` above 1, v changes with each estimate; theirs adds the last one at every step.
    """

    def __init__(
        self, params: Any, lr: float = 0.1, betas: Pair = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0,
        hessian_power: float = 1.0, update_each: int = 1, n_samples: int = 1, average_conv_kernel: bool = False,
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        only("n_samples", n_samples, 1)
        moments = {"betas": betas, "eps": eps, "weight_decay": weight_decay}
        curvature = {"hessian_power": hessian_power, "update_each": update_each}
        kernels = {"average_conv_kernel": average_conv_kernel}
        super().__init__(params, lr, moments | curvature | kernels, options)

    def _described(
        self, betas: Pair, eps: float, weight_decay: float, hessian_power: float, update_each: int,
        average_conv_kernel: bool,
    ) -> Rule:  # fmt: skip
        rule = _AdaHessian(*pair("betas", betas), eps, hessian_power, update_each, average_conv_kernel)
        return chain(rule, Decay(weight_decay))
