"""Slide 41: RMSProp with Nesterov momentum: what it becomes without RMSProp, and whether it is quicker."""

import math

import torch
from torch import Tensor

from ravine.claims._small_net import Net, batches, digits
from ravine.claims._walk import best, steps_until, walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, above, at_least, at_most, reported, within
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule, State, chain
from ravine.racing.estimate import ratio
from ravine.rules import Nesterov, RMSProp

RHO, ALPHA, DELTA = 0.9, 0.9, 1e-6
PLAIN: Rule = RMSProp(RHO, eps=DELTA, where="inside")
BOTH: Rule = chain(PLAIN, Nesterov(ALPHA, form="book"))
SIZE, CONDITION = 20, 1e3
RATES = torch.logspace(-4.5, -1, 15, dtype=torch.float64)


def _bowl(basis: Tensor, p: Tensor) -> Tensor:
    """The gradient of a bowl whose eigenvectors are the columns of `basis`."""
    values = torch.logspace(-math.log10(CONDITION), 0, SIZE, dtype=torch.float64)
    along = torch.einsum("sij,...si->...sj", basis, p) * values
    return torch.einsum("sij,...sj->...si", basis, along)


def _loss(basis: Tensor, p: Tensor) -> Tensor:
    return 0.5 * (p * _bowl(basis, p)).sum(-1)


def _visited(rule: Rule, state: State, start: Tensor, lr: float, basis: Tensor, steps: int) -> Tensor:
    """The parameters that count, θ, after each step, from a state of one's own."""
    p, found = start, []
    for t in range(1, steps + 1):
        u, scale, state = rule.move(_bowl(basis, p), p, t, state, lr)
        p = p - scale * u
        found.append(rule.judgement(p, state))
    return torch.stack(found)


def _as_written(basis: Tensor, start: Tensor) -> list[Check]:
    """Algorithm 8.6 and Algorithm 8.3 written out beside the chain of rules."""
    lr, steps = 1e-2, 20
    theta, v, r, formula = start, torch.zeros_like(start), torch.zeros_like(start), []
    nag, w, plain = start, torch.zeros_like(start), []
    for _ in range(steps):
        g = _bowl(basis, theta + ALPHA * v)
        r = RHO * r + (1 - RHO) * g**2
        v = ALPHA * v - lr * g / r.sqrt()
        theta = theta + v
        formula.append(theta)
        w = ALPHA * w - lr * _bowl(basis, nag + ALPHA * w)
        nag = nag + w
        plain.append(nag)
    bare = chain(RMSProp(RHO, eps=0.0), Nesterov(ALPHA, form="book"))
    kept = chain(RMSProp(1 - 2**-53, eps=0.0), Nesterov(ALPHA, form="book"))  # r stays where it is
    held = kept.start(start)
    ones = held | {kept.key(0, "r"): torch.ones_like(start)}
    first = float((_visited(bare, bare.start(start), start, lr, basis, steps) - torch.stack(formula)).abs().max())
    second = float((_visited(kept, ones, start, lr, basis, steps) - torch.stack(plain)).abs().max())
    zero = torch.zeros_like(start)
    nans = [float(_visited(one, one.start(zero), zero, lr, basis, 1).isnan().double().mean()) for one in (bare, BOTH)]
    return [
        at_most("distance to Algorithm 8.6 written out, 20 steps", first, 1e-9),
        at_most("distance to Nesterov momentum, Algorithm 8.3, with r = 1", second, 1e-12),
        within("share of weights that are not a number after a gradient of 0, as written", nans[0], 1, tol=0),
        within("the same with δ inside the root", nans[1], 0, tol=0),
    ]


def _on_bowls(basis: Tensor, start: Tensor, most: int) -> dict[str, tuple[Tensor, int]]:
    """Steps until the loss is 1e-4 of the first one: by seed, at the best rate."""
    found = {}
    goal = 1e-4 * _loss(basis, start)
    for name, rule in (("RMSProp", PLAIN), ("with Nesterov", BOTH)):
        points = walk(rule, lambda p: _bowl(basis, p), start.expand(len(RATES), *start.shape), RATES[:, None, None])
        found[name] = best(steps_until(lambda p: _loss(basis, p) <= goal, points, most))
    return found


def _on_digits(seeds: list[int], goal: float, most: int) -> dict[str, tuple[Tensor, int]]:
    """Steps until the training loss is at the goal, looked at every fifth step: by seed, at the best rate."""
    found, net = {}, Net()
    x, y, _, _ = digits()
    for name, rule in (("RMSProp", PLAIN), ("with Nesterov", BOTH)):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        start = net.start(generators).repeat_interleave(len(RATES), 0)
        gradient = net.gradient(batches(generators, 64, repeat=len(RATES)))
        points = walk(rule, gradient, start, RATES.float().repeat(len(seeds))[:, None])
        fifth = (p for k, p in enumerate(points) if k % 5 == 0)
        steps = steps_until(lambda p: (net.loss(p, x, y) <= goal).view(-1, len(RATES)).T, fifth, most // 5)
        found[name] = best(5 * steps)
    return found


def _quicker(where: str, plain: Tensor, both: Tensor) -> list[Check]:
    """By the ratio where all seeds arrive; else by the seeds in which it does, and in no more steps."""
    wins = float((both.isfinite() & (both <= plain)).double().sum())
    what = f"{where}: seeds of {len(both)} in which it arrives, in no more steps"
    if not (both.isfinite() & plain.isfinite()).all():
        return [at_least(what, wins, 0.6 * len(both))]
    gain = ratio((plain / both).tolist())
    return [above(f"{where}: steps of RMSProp over those with Nesterov", gain, 1), reported(what, wins)]


def _measure(trial: Trial) -> Findings:
    count = trial.pick(quick=5, normal=5, full=20)
    noise = trial.torch("bowls")
    basis = torch.linalg.qr(torch.randn(count, SIZE, SIZE, generator=noise, dtype=torch.float64)).Q
    start = torch.randn(count, SIZE, generator=noise, dtype=torch.float64)
    bowls = _on_bowls(basis, start, trial.pick(quick=2_000, normal=5_000))
    nets = _on_digits(trial.seeds(count), *trial.pick(quick=(0.5, 100), normal=(0.1, 400)))
    checks, rows = _as_written(basis, start), []
    for where, found in (("rotated bowl", bowls), ("digits", nets)):
        plain, both = found["RMSProp"][0], found["with Nesterov"][0]
        checks += _quicker(where, plain, both)
        rows.append((where, f"{plain.median():g}", f"{both.median():g}", str(ratio((plain / both).tolist())),
                     *(f"{RATES[found[name][1]]:.2g}" for name in found)))  # fmt: skip
    columns = ("problem", "RMSProp", "with Nesterov", "ratio", "best rate", "best rate, with Nesterov")
    series = [
        Series(f"{name}, {where}", range(1, count + 1), steps.tolist(), kind="points")
        for where, found in (("bowl", bowls), ("digits", nets))
        for name, (steps, _) in found.items()
    ]
    figure = Figure("Steps to the goal by seed, each at the best of 15 learning rates.",
                    [Panel("seed", "steps", series, log="y")])  # fmt: skip
    return Findings(checks, [figure], [Table("Steps to the goal (medians)", columns, rows)], NOTES)


NOTES = (
    "Algorithm 8.6 has no constant under its root: a weight whose gradients have all been zero, as that of a pixel "
    "that is always empty, becomes 0/0. Comparisons here have δ = 1e-6 inside the root, as in Algorithm 8.5.",
)

claim = Claim(
    slide=(41,),
    kind="STAT",
    statement="RMSProp can be combined with Nesterov momentum, which makes it quicker.",
    source="Goodfellow, Bengio & Courville 2016, Alg. 8.6",
    equation="g at θ + αv;   r ← ρ r + (1 - ρ) g²;   v ← αv - ε g / √r;   θ ← θ + v",
    claimed="With r = 1 it is Nesterov momentum; RMSProp needs more steps than it",
    setting="ρ = α = 0.9. Five randomly turned bowls, 20 float64 dimensions, condition number 1000, until the loss is "
    "1e-4 of the first one; one hidden layer on scikit-learn's digits until the training loss is 0.1, 5 seeds. Each "
    "rule at the best of 15 rates.",
    changed="That it needs no more steps in 3 of 5 seeds was enough; by chance that happens half of the time, and two "
    "that never arrive counted as a win. The interval of the ratio of steps decides now, where all seeds arrive.",
    measure=_measure,
    seconds=6,
)
