"""Newer rules under the names and with the arguments of their authors' packages; Adafactor takes torch's."""

from collections.abc import Callable
from typing import Any, Unpack

from ravine.core.errors import RavineError
from ravine.core.rule import Rule, chain
from ravine.optim.drop_in import DropIn, Options, Pair, decayed, only, pair
from ravine.rules import ADOPT as _ADOPT
from ravine.rules import LAMB as _LAMB
from ravine.rules import LARS as _LARS
from ravine.rules import AdaBelief as _AdaBelief
from ravine.rules import Adafactor as _Adafactor
from ravine.rules import Adan as _Adan
from ravine.rules import AdEMAMix as _AdEMAMix
from ravine.rules import ClipNorm, Decay
from ravine.rules import Lion as _Lion
from ravine.rules import Prodigy as _Prodigy

Three = tuple[float, float, float]


def fourth_root(step: float) -> float:
    """ADOPT's bound on a normalized gradient: the step to the power of 1/4."""
    return float(step**0.25)


class AdaBelief(DropIn):
    """adabelief-pytorch's AdaBelief, whose default is rectified and decays weights apart from the gradient.

    `amsgrad`, `fixed_decay` and `degenerated_to_sgd=False` are refused; `print_change_log` is for the package's notice.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: Pair = (0.9, 0.999), eps: float = 1e-16, weight_decay: float = 0,
        amsgrad: bool = False, weight_decouple: bool = True, fixed_decay: bool = False, rectify: bool = True,
        degenerated_to_sgd: bool = True, print_change_log: bool = True, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        only("amsgrad", amsgrad, False)
        only("fixed_decay", fixed_decay, False)
        only("degenerated_to_sgd", degenerated_to_sgd, True)
        moments = {"betas": betas, "eps": eps, "rectify": rectify}
        decay = {"weight_decay": weight_decay, "weight_decouple": weight_decouple}
        super().__init__(params, lr, moments | decay, options)

    def _described(self, betas: Pair, eps: float, rectify: bool, weight_decay: float, weight_decouple: bool) -> Rule:
        return decayed(_AdaBelief(*pair("betas", betas), eps, rectify), weight_decay, weight_decouple)


class Adan(DropIn):
    """The authors' Adan: proximal weight decay unless `no_prox`; `max_grad_norm` above 0 clips the global norm first.

    Their clipping adds eps to the norm, this one 1e-6.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: Three = (0.98, 0.92, 0.99), eps: float = 1e-8,
        weight_decay: float = 0.0, max_grad_norm: float = 0.0, no_prox: bool = False, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        decay = {"weight_decay": weight_decay, "no_prox": no_prox}
        super().__init__(params, lr, {"betas": betas, "eps": eps, "max_grad_norm": max_grad_norm} | decay, options)

    def _described(self, betas: Three, eps: float, max_grad_norm: float, weight_decay: float, no_prox: bool) -> Rule:
        rule = chain(_Adan(*_three(betas), eps), Decay(weight_decay, "decoupled" if no_prox else "proximal"))
        return chain(ClipNorm(max_grad_norm), rule) if max_grad_norm else rule


class ADOPT(DropIn):
    """The authors' ADOPT: `weight_decay` is an L2 penalty unless `decouple`.

    `clip_lambda` is `fourth_root`, or None for no clipping (the paper's Algorithm 1). At a parameter's first gradient
    their code skips decoupled decay too, and this does not.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: Pair = (0.9, 0.9999), eps: float = 1e-6,
        clip_lambda: Callable[[float], float] | None = fourth_root, weight_decay: float = 0.0, decouple: bool = False,
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        moments = {"betas": betas, "eps": eps, "clip_lambda": clip_lambda}
        super().__init__(params, lr, moments | {"weight_decay": weight_decay, "decouple": decouple}, options)

    def _described(
        self, betas: Pair, eps: float, clip_lambda: Callable[[float], float] | None, weight_decay: float, decouple: bool
    ) -> Rule:
        if clip_lambda is not None and clip_lambda is not fourth_root:
            raise RavineError(
                f"clip_lambda must be ravine.optim.fourth_root or None, got {clip_lambda!r}: a rule is kept as text, "
                "and a function of your own has none"
            )
        return decayed(_ADOPT(*pair("betas", betas), eps, clip_lambda is not None), weight_decay, decouple)


class AdEMAMix(DropIn):
    """The authors' AdEMAMix: decoupled weight decay; the two warm-ups must be of the same length, or both None."""

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: Three = (0.9, 0.999, 0.9999), alpha: float = 2.0,
        beta3_warmup: int | None = None, alpha_warmup: int | None = None, eps: float = 1e-8, weight_decay: float = 0,
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        warmups = {"beta3_warmup": beta3_warmup, "alpha_warmup": alpha_warmup}
        moments = {"betas": betas, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, lr, moments | warmups, options)

    def _described(
        self, betas: Three, alpha: float, eps: float, weight_decay: float, beta3_warmup: int | None,
        alpha_warmup: int | None,
    ) -> Rule:  # fmt: skip
        if beta3_warmup != alpha_warmup:
            raise RavineError(
                f"beta3_warmup and alpha_warmup must be one number of steps, as in the paper, got {beta3_warmup!r} and "
                f"{alpha_warmup!r}"
            )
        return chain(_AdEMAMix(*_three(betas), alpha, eps, beta3_warmup or 0), Decay(weight_decay))


class Adafactor(DropIn):
    """torch.optim.Adafactor. For the paper's own, `ravine.Optimizer(params, ravine.rules.Adafactor())`."""

    def __init__(
        self, params: Any, lr: float = 1e-2, beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3), d: float = 1.0, weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        factors = {"beta2_decay": beta2_decay, "eps": eps, "d": d}
        super().__init__(params, lr, factors | {"weight_decay": weight_decay}, options)

    def _described(self, beta2_decay: float, eps: Any, d: float, weight_decay: float) -> Rule:
        eps1, eps2 = pair("eps", eps, (None, 0.001))
        return chain(_Adafactor(beta2_decay, eps1, eps2, d, form="torch"), Decay(weight_decay))


class Lamb(DropIn):
    """LAMB; weight decay stands inside the trust ratio. To clip all gradients first, as NVIDIA's does: ClipNorm."""

    def __init__(
        self, params: Any, lr: float = 1e-3, bias_correction: bool = True, betas: Pair = (0.9, 0.999),
        eps: float = 1e-6, weight_decay: float = 0.01, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        moments = {"bias_correction": bias_correction, "betas": betas, "eps": eps}
        super().__init__(params, lr, moments | {"weight_decay": weight_decay}, options)

    def _described(self, bias_correction: bool, betas: Pair, eps: float, weight_decay: float) -> Rule:
        return _LAMB(*pair("betas", betas), eps, weight_decay, bias_correction)


class LARS(DropIn):
    """LARS with the paper's lr inside the momentum; weight decay stands inside the ratio."""

    def __init__(
        self, params: Any, lr: float = 1.0, momentum: float = 0.9, weight_decay: float = 5e-4,
        trust_coefficient: float = 1e-3, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        velocity = {"momentum": momentum, "trust_coefficient": trust_coefficient}
        super().__init__(params, lr, velocity | {"weight_decay": weight_decay}, options)

    def _described(self, momentum: float, trust_coefficient: float, weight_decay: float) -> Rule:
        return _LARS(momentum, weight_decay, trust_coefficient)


class Lion(DropIn):
    """The authors' Lion: decoupled weight decay. `use_triton` and `decoupled_weight_decay` have their defaults only."""

    def __init__(
        self, params: Any, lr: float = 1e-4, betas: Pair = (0.9, 0.99), weight_decay: float = 0.0,
        use_triton: bool = False, decoupled_weight_decay: bool = False, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        only("use_triton", use_triton, False)
        only("decoupled_weight_decay", decoupled_weight_decay, False)
        super().__init__(params, lr, {"betas": betas, "weight_decay": weight_decay}, options)

    def _described(self, betas: Pair, weight_decay: float) -> Rule:
        return chain(_Lion(*pair("betas", betas)), Decay(weight_decay))


class Prodigy(DropIn):
    """prodigyopt's Prodigy. Weight decay is an L2 penalty where `decouple` is false; `slice_p` must be 1.

    `fsdp_in_use` is taken and changes nothing: what is summed is summed over all processes wherever it is sharded.
    """

    def __init__(
        self, params: Any, lr: float = 1.0, betas: Pair = (0.9, 0.999), beta3: float | None = None, eps: float = 1e-8,
        weight_decay: float = 0, decouple: bool = True, use_bias_correction: bool = False,
        safeguard_warmup: bool = False, d0: float = 1e-6, d_coef: float = 1.0, growth_rate: float = float("inf"),
        fsdp_in_use: bool = False, slice_p: int = 1, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        only("slice_p", slice_p, 1)
        moments = {"betas": betas, "beta3": beta3, "eps": eps, "weight_decay": weight_decay, "decouple": decouple}
        found = {"d0": d0, "d_coef": d_coef, "growth_rate": growth_rate}
        choices = {"use_bias_correction": use_bias_correction, "safeguard_warmup": safeguard_warmup}
        super().__init__(params, lr, moments | found | choices, options)

    def _described(self, betas: Pair, weight_decay: float, decouple: bool, **others: Any) -> Rule:
        beta1, beta2 = pair("betas", betas)
        rule = _Prodigy(beta1, beta2, weight_decay=weight_decay if decouple else 0.0, **others)
        return rule if decouple else decayed(rule, weight_decay)


def _three(betas: Any) -> Three:
    if not isinstance(betas, tuple | list) or len(betas) != 3:
        raise RavineError(f"betas must be three numbers, as in betas=(0.9, 0.999, 0.9999), got {betas!r}")
    return betas[0], betas[1], betas[2]
