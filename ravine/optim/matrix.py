"""Matrix rules under the names and with the arguments of torch and of their authors' packages."""

from typing import Any, Unpack

from ravine.core.errors import RavineError
from ravine.core.rule import Rule, chain
from ravine.optim.drop_in import DropIn, Options, Pair, decayed, only, pair
from ravine.rules import PSGD as _PSGD
from ravine.rules import SOAP as _SOAP
from ravine.rules import Adam, Decay, GradientAverage, Orthogonalize
from ravine.rules import Shampoo as _Shampoo

Three = tuple[float, float, float]
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(DropIn):
    """torch.optim.Muon: for matrices, and for kernels, which torch's refuses.

    Keller Jordan's own has lr=0.02 and weight_decay=0 by default.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95, nesterov: bool = True,
        ns_coefficients: Three = _QUINTIC, eps: float = 1e-7, ns_steps: int = 5, adjust_lr_fn: str | None = None,
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        velocity = {"weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov}
        iteration = {"ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn}
        super().__init__(params, lr, velocity | iteration, options)

    def _described(
        self, weight_decay: float, momentum: float, nesterov: bool, ns_coefficients: Three = _QUINTIC,
        eps: float = 1e-7, ns_steps: int = 5, adjust_lr_fn: str | None = None,
    ) -> Rule:  # fmt: skip
        if not isinstance(ns_coefficients, tuple | list) or len(ns_coefficients) != 3:
            raise RavineError(f"ns_coefficients must be three numbers, got {ns_coefficients!r}")
        orthogonal = Orthogonalize(ns_steps, *ns_coefficients, eps, adjust_lr_fn or "original")
        return chain(GradientAverage(momentum, nesterov), orthogonal, Decay(weight_decay))


class MuonWithAuxAdam(Muon):
    """Keller Jordan's MuonWithAuxAdam: groups with `use_muon=True`, and others with False, which have AdamW."""

    _DEFAULTS: dict[bool, dict[str, Any]] = {
        True: {"lr": 0.02, "momentum": 0.95, "weight_decay": 0},
        False: {"lr": 3e-4, "betas": (0.9, 0.95), "eps": 1e-10, "weight_decay": 0},
    }

    def __init__(self, param_groups: Any, **options: Unpack[Options]) -> None:
        super().__init__(param_groups, 0.02, 0, **options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if param_group.get("use_muon") not in (True, False):
            raise RavineError("MuonWithAuxAdam: each group says use_muon=True or use_muon=False")
        given = {key: value for key, value in param_group.items() if key != "use_muon"}
        found = self._DEFAULTS[param_group["use_muon"]] | given
        if param_group["use_muon"]:
            rule = self._described(found.pop("weight_decay"), found.pop("momentum"), True)
        else:
            rule = chain(Adam(*pair("betas", found.pop("betas")), found.pop("eps")), Decay(found.pop("weight_decay")))
        super().add_param_group(found | {"rule": rule})


class SOAP(DropIn):
    """The authors' SOAP. Dimensions are not merged, steps not normalized, and biases corrected: theirs by default.

    `max_precond_dim` is 10000 as there; for a table of several thousand rows the first step then takes minutes.
    """

    def __init__(
        self, params: Any, lr: float = 3e-3, betas: Pair = (0.95, 0.95), shampoo_beta: float = -1, eps: float = 1e-8,
        weight_decay: float = 0.01, precondition_frequency: int = 10, max_precond_dim: int = 10000,
        merge_dims: bool = False, precondition_1d: bool = False, normalize_grads: bool = False,
        data_format: str = "channels_first", correct_bias: bool = True, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        only("merge_dims", merge_dims, False)
        only("normalize_grads", normalize_grads, False)
        only("data_format", data_format, "channels_first")
        only("correct_bias", correct_bias, True)
        moments = {"betas": betas, "shampoo_beta": shampoo_beta, "eps": eps, "weight_decay": weight_decay}
        sizes = {"max_precond_dim": max_precond_dim, "precondition_1d": precondition_1d}
        super().__init__(params, lr, moments | {"precondition_frequency": precondition_frequency} | sizes, options)

    def _described(
        self, betas: Pair, shampoo_beta: float, eps: float, weight_decay: float, precondition_frequency: int,
        max_precond_dim: int, precondition_1d: bool,
    ) -> Rule:  # fmt: skip
        beta1, beta2 = pair("betas", betas)
        covariance = shampoo_beta if shampoo_beta >= 0 else beta2
        rule = _SOAP(beta1, beta2, covariance, eps, precondition_frequency, max_precond_dim, precondition_1d)
        return chain(rule, Decay(weight_decay))


class Shampoo(DropIn):
    """Distributed Shampoo's arguments, on one machine: `grafting` is a word instead of its `grafting_config`.

    `epsilon` is a share of the largest eigenvalue, and not a number to be added, so its default is another.
    """

    def __init__(
        self, params: Any, lr: float = 1e-2, betas: Pair = (0.9, 1.0), epsilon: float = 1e-6, weight_decay: float = 0.0,
        max_preconditioner_dim: int = 1024, precondition_frequency: int = 1, inv_root_override: int = 0,
        use_decoupled_weight_decay: bool = True, grafting: str = "none", **options: Unpack[Options],
    ) -> None:  # fmt: skip
        decay = {"weight_decay": weight_decay, "use_decoupled_weight_decay": use_decoupled_weight_decay}
        roots = {"precondition_frequency": precondition_frequency, "inv_root_override": inv_root_override}
        blocks = {"max_preconditioner_dim": max_preconditioner_dim, "grafting": grafting}
        super().__init__(params, lr, {"betas": betas, "epsilon": epsilon} | decay | roots | blocks, options)

    def _described(
        self, betas: Pair, epsilon: float, weight_decay: float, use_decoupled_weight_decay: bool,
        precondition_frequency: int, inv_root_override: int, max_preconditioner_dim: int, grafting: str,
    ) -> Rule:  # fmt: skip
        beta1, beta2 = pair("betas", betas)
        sizes = {"every": precondition_frequency, "block_size": max_preconditioner_dim, "root": inv_root_override}
        rule = _Shampoo(beta1, beta2, epsilon, grafting=grafting, **sizes)
        return decayed(rule, weight_decay, use_decoupled_weight_decay)


class Kron(DropIn):
    """kron_torch's Kron: PSGD with Kronecker factors.

    `preconditioner_update_probability` is None for its schedule, or a number, of which every 1/number-th step is
    taken. Weight decay acts on vectors too, which theirs spares; give them a group with weight_decay=0.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, b1: float = 0.9, weight_decay: float = 0.0,
        preconditioner_update_probability: float | None = None, max_size_triangular: int = 8192,
        min_ndim_triangular: int = 2, memory_save_mode: str | None = None, momentum_into_precond_update: bool = True,
        precond_lr: float = 0.1, precond_init_scale: float = 1.0, mu_dtype: None = None,
        precond_dtype: None = None, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        only("min_ndim_triangular", min_ndim_triangular, 2)
        only("memory_save_mode", memory_save_mode, None)
        only("momentum_into_precond_update", momentum_into_precond_update, True)
        only("precond_init_scale", precond_init_scale, 1.0)
        only("mu_dtype", mu_dtype, None)
        only("precond_dtype", precond_dtype, None)
        fits = {"preconditioner_update_probability": preconditioner_update_probability, "precond_lr": precond_lr}
        sizes = {"max_size_triangular": max_size_triangular}
        super().__init__(params, lr, {"b1": b1, "weight_decay": weight_decay} | fits | sizes, options)

    def _described(
        self, b1: float, weight_decay: float, preconditioner_update_probability: float | None, precond_lr: float,
        max_size_triangular: int,
    ) -> Rule:  # fmt: skip
        share = preconditioner_update_probability
        if share is None:
            rule = _PSGD(b1, precond_lr, max_size=max_size_triangular)
        elif isinstance(share, int | float) and 0 < share <= 1:
            rule = _PSGD(b1, precond_lr, round(1 / share), 0, max_size_triangular)
        else:
            raise RavineError(f"preconditioner_update_probability must be None or a number in (0, 1], got {share!r}")
        return chain(rule, Decay(weight_decay))
