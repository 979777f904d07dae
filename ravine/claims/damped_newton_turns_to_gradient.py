"""Slide 45: H + αI. Newton goes uphill along negative curvature until α exceeds it; then it turns into descent."""

import torch
from torch import Tensor

from ravine.claims._solving import bowl, matrix, normal
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_most, between, within
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import slope
from ravine.solvers.base import DENSE_MOST
from ravine.solvers.function import FunctionProblem
from ravine.solvers.solver import make_direction

N, NEGATIVE = 20, 5
LARGE = [10.0**e for e in range(1, 9)]


def _case(chance: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """H with 5 negative eigenvalues of 20, these, the basis, and a start; the largest eigenvalue's size is 1."""
    values = torch.empty(N, dtype=torch.float64).uniform_(0.05, 1, generator=chance)
    values[:NEGATIVE] *= -1
    values[-1] = 1
    return *matrix(values, chance), values, normal(N, chance)


def _steps(h: Tensor, start: Tensor, alphas: list[float]) -> tuple[Tensor, list[Tensor]]:
    """The gradient, and -(H + αI)⁻¹g for each α, by ravine's newton."""
    problem = FunctionProblem(bowl(h), start, True)
    point = problem.evaluate(start)
    made = [make_direction(f"newton(modify='none', damping={alpha!r})", {}) for alpha in alphas]
    return point.gradient, [one.direction(point, {}, problem) for one in made]


def _uphill(trial: Trial, runs: int) -> tuple[int, list[tuple[str, float]]]:
    """How far the number of uphill directions is from that of eigenvalues below -α, at worst; and means by α."""
    alphas, off = [0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.1], 0
    counts = torch.zeros(len(alphas))
    for i in range(runs):
        h, q, values, start = _case(trial.torch("case", i))
        g, steps = _steps(h, start, alphas)
        for j, (alpha, step) in enumerate(zip(alphas, steps, strict=True)):
            uphill = int(((q.T @ step) * (q.T @ g) > 0).sum())
            off = max(off, abs(uphill - int((values < -alpha).sum())))
            counts[j] += uphill / runs
    return off, [(f"{alpha:g}", round(float(c), 2)) for alpha, c in zip(alphas, counts, strict=True)]


def _turns(trial: Trial, runs: int) -> tuple[list[float], list[float]]:
    """For large α: the sine of the angle to -g, and |‖step‖ α / ‖g‖ - 1|: the largest of all runs."""
    sines, lengths = [0.0] * len(LARGE), [0.0] * len(LARGE)
    for i in range(runs):
        h, _, _, start = _case(trial.torch("case", i))
        g, steps = _steps(h, start, LARGE)
        for j, (alpha, step) in enumerate(zip(LARGE, steps, strict=True)):
            aside = step / step.norm() + g / g.norm()  # of length 2 sin(angle / 2): no cancellation
            sines[j] = max(sines[j], float(aside.norm()))
            lengths[j] = max(lengths[j], abs(float(step.norm() / g.norm()) * alpha - 1))
    return sines, lengths


def _measure(trial: Trial) -> Findings:
    runs = trial.pick(quick=5, normal=50)
    off, counts = _uphill(trial, runs)
    sines, lengths = _turns(trial, runs)
    fit = slice(1, 5)  # from there on until rounding is met
    checks: list[Check] = [
        within("uphill directions less eigenvalues below -α: largest", off, 0, tol=0),
        within("uphill directions of 20 without damping, of an index of 5", counts[0][1], NEGATIVE, tol=0),
        at_most("angle to -g at α = 1e6 λ_max (rad)", sines[5], 1e-5, claimed=0),
        at_most("|α‖step‖ / ‖g‖ - 1| there", lengths[5], 1e-5, claimed=0),
        between("power of α with which the angle falls", slope(LARGE[fit], sines[fit]), -1.05, -0.95, claimed=-1),
        between("power of α with which ‖step‖ nears ‖g‖/α", slope(LARGE[fit], lengths[fit]), -1.05, -0.95, claimed=-1),
    ]  # fmt: skip
    table = Table("Directions in which -(H + αI)⁻¹g goes uphill: means", ("α / λ_max", "of 20"), counts)
    curves = [
        Series("angle to -g (rad)", LARGE, sines, kind="both"),
        Series("|α‖step‖ / ‖g‖ - 1|", LARGE, lengths, kind="points"),
        Series("λ_max / α", LARGE, [1 / a for a in LARGE], kind="reference"),
    ]
    caption = "The larger α, the more the step of eq. 8.28 is one of gradient descent with the learning rate 1/α."
    panel = Panel("α / λ_max", "difference from -g/α", curves, log="xy")
    return Findings(checks, [Figure(caption, [panel])], [table], [
        "α must exceed the strongest negative curvature, and then adds to all the positive ones: a direction of "
        "curvature λ is crossed to a share λ/(λ + α) by a step.",
        f"ravine's newton is for at most {DENSE_MOST:,} parameters, and looks for a sufficient α itself unless "
        "modify='none'.",
    ])  # fmt: skip


claim = Claim(
    slide=(45,),
    kind="EXACT",
    statement="Where eigenvalues are negative, Newton's method moves in the wrong direction; α added to the Hessian's "
    "diagonal mends it, but where curvature is strongly negative α must be so large that the step becomes the "
    "gradient divided by α.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.6.1, eq. 8.28",
    equation="θ* = θ₀ - (H + αI)⁻¹ g;   α → ∞: -(H + αI)⁻¹g → -g/α",
    claimed="uphill in exactly as many directions as there are eigenvalues below -α; angle to -g and distance from the "
    "length ‖g‖/α both fall as 1/α",
    setting=f"50 quadratics of {N} numbers with {NEGATIVE} negative eigenvalues, λ_max = 1, random basis and start; "
    "ravine's newton(modify='none'), float64.",
    measure=_measure,
    seconds=1,
)
