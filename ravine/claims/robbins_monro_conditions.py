"""Slide 21: which learning rates let stochastic descent converge, and what becomes of it under the others."""

import torch
from torch import Tensor

from ravine.claims._descent import exponent, seen, spread, walk
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import Check, within
from ravine.core.figure import Figure, Panel, Series
from ravine.racing import estimate
from ravine.rules import SGD
from ravine.schedules import Schedule, inverse, inverse_root

RATES = (0.5, 0.1, 0.02)


def _excess(trial: Trial, name: str, lr: float, schedule: Schedule | None, steps: list[int]) -> Tensor:
    """½x² of replicas that walk by x ← x - ε(x + unit noise) from x = 1: (steps, replicas)."""
    start = torch.ones(trial.pick(quick=1000, normal=4000, full=20000))
    chance = trial.torch("noise", name)
    noisy = walk(SGD(), lr, start, lambda x: x + torch.randn(x.shape, generator=chance, dtype=x.dtype), schedule)
    return 0.5 * seen(noisy, steps).square()


def _floor(trial: Trial, lr: float) -> tuple[Check, Series, Series]:
    """Where a constant rate stays: the mean over replicas and over the last half of the steps."""
    last = trial.pick(quick=1000, normal=4000)
    steps = spread(1, last // 2) + list(range(last // 2 + 20, last + 1, 20))
    excess = _excess(trial, f"constant {lr}", lr, None, steps)
    foretold = lr / (2 * (2 - lr))
    late = [k > last // 2 for k in steps]
    measured = estimate.mean(excess[late].mean(0).tolist())
    check = within(f"floor of the excess at constant ε = {lr}", measured, foretold, rel=0.03)
    early = [i for i, is_late in enumerate(late) if not is_late] + [len(steps) - 1]
    curve = Series(f"ε = {lr}", [steps[i] for i in early], excess.mean(1)[early].tolist())
    return check, curve, Series(f"ε/(2(2 - ε)) = {foretold:.3g}", [1, last], [foretold] * 2, kind="reference")


def _stopping_short(steps: int) -> list[Check]:
    """Without noise, ε = 1/k² from k = 2: the product of 1 - 1/k² tells where x stops."""
    schedule = inverse(2) * inverse(2)  # 4/(j + 2)² for j = 0, 1, ...: with lr = 1/4 it is 1/k² from k = 2
    x = float(seen(walk(SGD(), 0.25, torch.ones(()), torch.clone, schedule), [steps])[0])
    last = steps + 1
    return [
        within("x/x₀ where ε = 1/k² stops, without noise", x, 0.5, rel=0.03),
        within("its distance from the product (1 + 1/K)/2", x - (1 + 1 / last) / 2, 0.0, tol=1e-12),
    ]


def _measure(trial: Trial) -> Findings:
    steps = spread(100, trial.pick(quick=4000, normal=20_000))
    falling = _excess(trial, "1/k", 1.0, inverse(1), steps)
    slow = _excess(trial, "1/root k", 1.0, inverse_root(1), steps)
    floors = [_floor(trial, lr) for lr in RATES]
    checks = [
        within("exponent of the excess under ε = 1/k", exponent(steps, falling), -1.0, tol=0.05),
        *(check for check, _, _ in floors),
        *_stopping_short(trial.pick(quick=2000, normal=20_000)),
        within("exponent under ε = k^-½, whose squares do not sum", exponent(steps, slow), -0.5, tol=0.05),
    ]
    curves = [Series("ε = 1/k", steps, falling.mean(1).tolist()), Series("ε = 1/√k", steps, slow.mean(1).tolist())]
    caption = (
        "Mean excess of noisy descent on ½x². A constant rate comes to a floor; rates that shrink go on down, 1/√k "
        "too, although the sum of its squares is infinite."
    )
    lines = [series for _, *pair in floors for series in pair]
    panels = [
        Panel("step k", "mean of ½x²", lines, title="constant rate", log="xy"),
        Panel("step k", "mean of ½x²", curves, title="shrinking rate", log="xy"),
    ]
    notes = [
        "ε = 1/k² breaks the first condition: all steps together are too short, and half of the way is never walked.",
        "A constant ε breaks the second: the noise of every step stays as large as that of the first.",
        "ε = 1/√k breaks the second condition as well and converges here all the same, which is no contradiction: the "
        "conditions are sufficient and were never said to be necessary. On ½x² it is enough that ε → 0 with Σε = ∞.",
    ]
    return Findings(checks, [Figure(caption, panels)], notes=notes)


claim = Claim(
    slide=(21,),
    kind="RATE",
    statement="Stochastic gradient descent converges if Σε = ∞ and Σε² < ∞. A constant rate stays at a floor, a rate "
    "that shrinks too fast stops short; the conditions are sufficient, not necessary.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.3.1, eq. 8.12-8.13; Robbins & Monro 1951",
    equation="Σ ε_k = ∞,   Σ ε_k² < ∞",
    claimed="ε = 1/k: excess ~ 1/k. Constant ε: a floor of ε/(2(2 - ε)). ε = 1/k² from k = 2: half of the way. "
    "ε = 1/√k: converges although Σε² = ∞",
    setting="½x² in one dimension with unit Gaussian noise on the gradient, 4,000 replicas, 4,000 steps (constant ε) "
    "or 20,000 (others); intervals over replicas, of exponents over 20 groups of 200.",
    measure=_measure,
    seconds=11,
)
