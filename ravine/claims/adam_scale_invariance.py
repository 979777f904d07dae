"""Slide 42: the loss multiplied by any number, Adam walks the same way."""

import torch
from torch import Tensor

from ravine.claims._walk import path
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_least, at_most
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.rules import SGD, AdaGrad, Adam, Momentum, RMSProp

SIZE, STEPS = 10, 500
POWERS = (-27, -24, -21, -18, -15, -12, -9, -6, -3, 3, 6, 9, 12, 15, 18, 21, 24, 27)
FACTORS = tuple(2.0**k for k in POWERS)  # powers of two, which rounding does not see
RULES: dict[str, tuple[Rule, float]] = {
    "Adam, δ = 0": (Adam(eps=0.0), 1e-2),
    "Adam, δ = 1e-8": (Adam(), 1e-2),
    "RMSProp, δ = 0": (RMSProp(0.9, eps=0.0), 1e-2),
    "AdaGrad, δ = 0": (AdaGrad(eps=0.0), 1e-1),
    "momentum": (Momentum(0.9), 1e-2),
    "SGD": (SGD(), 1e-1),
}


def _deviations(rule: Rule, lr: float, hessian: Tensor, start: Tensor) -> list[float]:
    """For each factor on the loss, the largest distance between the paths, over the length of the unscaled one."""

    def walked(factor: float) -> Tensor:
        return path(rule, lambda p: factor * (hessian @ p + p**3), start, lr, STEPS)

    plain = walked(1.0)
    length = float((plain[1:] - plain[:-1]).norm(dim=1).sum())
    found = []
    for factor in FACTORS:
        apart = float((walked(factor) - plain).norm(dim=1).max()) / length
        found.append(apart if apart < 1e6 else float("inf"))  # NaN is no smaller either
    return found


def _measure(trial: Trial) -> Findings:
    generator = trial.torch("function")
    basis = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)).Q
    hessian = basis @ torch.diag(torch.logspace(-2, 0, SIZE, dtype=torch.float64)) @ basis.T
    start = torch.randn(SIZE, generator=generator, dtype=torch.float64)
    found = {name: _deviations(rule, lr, hessian, start) for name, (rule, lr) in RULES.items()}
    checks = [at_most(f"{name}: paths apart, factors 2^-27 to 2^27", max(found[name]), 0)
              for name in RULES if name.endswith("δ = 0")]  # fmt: skip
    at = {power: i for i, power in enumerate(POWERS)}
    checks += [
        at_most("Adam, δ = 1e-8, factors 2^-9 to 2^27", max(found["Adam, δ = 1e-8"][at[-9] :]), 0.01),
        at_least("SGD, factor 2^-9", found["SGD"][at[-9]], 0.1),
        at_most("Adam, δ = 1e-8, factor 2^-27", found["Adam, δ = 1e-8"][0], 0.01, role="condition"),
    ]
    shown = {name: [max(value, 1e-17) for value in values] for name, values in found.items()}
    finite = {name: [(f, v) for f, v in zip(FACTORS, values, strict=True) if v < 1e6]
              for name, values in shown.items()}  # fmt: skip
    series = [Series(name, [f for f, _ in some], [v for _, v in some], kind="both") for name, some in finite.items()]
    caption = "How far the path strays when the loss is multiplied: 1e-17 stands for not at all, and points that are "
    caption += "missing diverged. Rules that divide by the size of gradients do not notice until δ counts beside them."
    figure = Figure(caption, [Panel("factor on the loss", "distance / length of the path", series, log="xy")])
    rows = [(name, *(f"{found[name][at[f]]:.1e}" for f in (-27, -9, 9, 27))) for name in RULES]
    table = Table("Distance of the paths / length of the path", ("rule", "2^-27", "2^-9", "2^9", "2^27"), rows)
    return Findings(checks, [figure], [table], NOTES)


NOTES = (
    "The invariance is exact only for δ = 0. With δ = 1e-8 it ends where gradients come near 1e-8, as they may in a "
    "loss that is divided by many examples, or in half precision.",
)

claim = Claim(
    slide=(42,),
    kind="EXACT",
    statement="Adam's steps do not depend on the scale of the gradient: the loss multiplied by any c > 0, the path is "
    "the same.",
    source="Kingma & Ba 2015, sec. 2.1 (arXiv:1412.6980)",
    equation="c ŝ / √(c² r̂) = ŝ / √r̂",
    claimed="The same path, to the last bit, for δ = 0; nearly the same for δ = 1e-8 while gradients are far above it",
    setting="f(x) = x'Hx/2 + Σ x⁴/4 in 10 float64 dimensions, condition number 100, 500 steps, c from 2^-27 to 2^27.",
    measure=_measure,
    seconds=2,
    changed="Factors were powers of ten, and paths were to agree to 1e-9. RMSProp's came apart by 3e-4: its steps of "
    "constant length go to and fro about the minimum, which makes much of rounding. Powers of two are not rounded, so "
    "that the paths must be the same to the last bit.",
)
