"""Slide 54: sparse coding by two convex problems in turn, codes and dictionary: block coordinate descent."""

import itertools

import numpy as np
from numpy.typing import NDArray

from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import Check, above, at_most, reported, within
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import share

ATOMS, IMAGES, SWEEPS, DECAY = 40, 300, 20, 1.0
Array = NDArray[np.float64]


def _images() -> Array:
    """(64, 300): digits, a column each."""
    from sklearn.datasets import load_digits

    images, _ = load_digits(return_X_y=True)
    return np.asarray(images[:IMAGES].T / 16, dtype=np.float64)


def _objective(x: Array, w: Array, h: Array) -> float:
    """Σ|H| + Σ(X - WH)² + ΣW²: the book's 8.38 with the weight decay that it mentions."""
    return float(np.abs(h).sum() + np.square(x - w @ h).sum() + DECAY * np.square(w).sum())


def _codes(x: Array, w: Array, h: Array) -> Array:
    """The codes lowered by sweeps over the atoms; each row of H is set to its exact minimum."""
    h, rest = h.copy(), x - w @ h
    for _ in range(SWEEPS):
        for j in range(ATOMS):
            length = float(w[:, j] @ w[:, j])
            if not length:
                continue
            toward = w[:, j] @ rest + length * h[j]
            new = np.sign(toward) * np.maximum(np.abs(toward) - 0.5, 0) / length
            rest -= np.outer(w[:, j], new - h[j])
            h[j] = new
    return h


def _dictionary(x: Array, h: Array) -> Array:
    """The W of the lowest objective, X H' (H H' + I)⁻¹."""
    return np.asarray(np.linalg.solve(h @ h.T + DECAY * np.eye(ATOMS), h @ x.T).T)


def _course(x: Array, chance: np.random.Generator, rounds: int) -> tuple[list[float], Array, Array]:
    """The objective after every half of a round."""
    w, h = chance.normal(size=(64, ATOMS)) / 8, np.zeros((ATOMS, x.shape[1]))
    found = [_objective(x, w, h)]
    for _ in range(rounds):
        h = _codes(x, w, h)
        found.append(_objective(x, w, h))
        w = _dictionary(x, h)
        found.append(_objective(x, w, h))
    return found, w, h


def _bent(x: Array, chance: np.random.Generator, which: str) -> float:
    """J at the middle of two random points less the mean of J at both, in parts of it: above 0 where not convex.

    which: "W" or "H", the block in which the points differ; "both" are (W, H) and another pair.
    """
    (w, w2), (h, h2) = chance.normal(size=(2, 64, ATOMS)) / 8, chance.normal(size=(2, ATOMS, IMAGES))
    w2, h2 = (w if which == "H" else w2), (h if which == "W" else h2)
    ends = (_objective(x, w, h) + _objective(x, w2, h2)) / 2
    return (_objective(x, (w + w2) / 2, (h + h2) / 2) - ends) / ends


def _measure(trial: Trial) -> Findings:
    x, starts, rounds = _images(), trial.pick(quick=2, normal=5), trial.pick(quick=10, normal=60)
    pairs = trial.pick(quick=50, normal=500)
    courses = [_course(x, trial.numpy("start", i), rounds) for i in range(starts)]
    rise = max(b / a - 1 for course, _, _ in courses for a, b in itertools.pairwise(course))
    bent = {which: [_bent(x, trial.numpy("pair", which, i), which) for i in range(pairs)] for which in ("W", "H")}
    mirrored = sum(_objective(x, 0 * w, 0 * h) > _objective(x, -w, -h) for _, w, h in courses)
    ends = [course[-1] for course, _, _ in courses]
    checks: list[Check] = [
        at_most("objective after a half round / before it, less 1: largest", rise, 0, claimed="never rises"),
        at_most("J in the middle / mean of the ends, less 1, points that differ in H: largest", max(bent["H"]), 1e-12,
                claimed="convex"),
        at_most("the same, points that differ in W", max(bent["W"]), 1e-12, claimed="convex"),
        within("starts where J at the middle of (W, H) and (-W, -H) exceeds both ends: jointly it is not convex",
               mirrored, starts, tol=0),
        above("share of half rounds in which the objective falls",
              share(sum(b < a for course, _, _ in courses for a, b in itertools.pairwise(course)),
                    2 * rounds * starts), 0.9),
        reported("objective at the end over the starts, largest / smallest less 1", max(ends) / min(ends) - 1),
        reported("share of codes that are zero at the end, first start", float((courses[0][2] == 0).mean())),
    ]  # fmt: skip
    k = [i / 2 for i in range(2 * rounds + 1)]
    curves = [Series(f"start {i + 1}", k, course) for i, (course, _, _) in enumerate(courses)]
    caption = "The objective never rises; the starts end a little apart, as the problem is not convex in both together."
    return Findings(checks, [Figure(caption, [Panel("round", "objective J", curves, log="y")])], [], [
        f"The problem for H is solved by {SWEEPS} sweeps over its rows, coordinate descent once more, that for W in "
        "closed form.",
    ])  # fmt: skip


claim = Claim(
    slide=(54,),
    kind="EXACT",
    statement="Block coordinate descent suits problems whose variables fall into groups that are simple by themselves: "
    "the objective of sparse coding is not convex, but is convex in the codes H and in the dictionary W, which are "
    "minimized in turn.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.7.2, eq. 8.38",
    equation="J(H, W) = Σ|H_ij| + Σ(X - WH)²_ij + ΣW²_ij",
    claimed="J falls in every half round, and never rises; each block convex, both together not",
    setting=f"{IMAGES} digits of scikit-learn as columns of X, {ATOMS} atoms, weight decay 1, 60 rounds from 5 random "
    "dictionaries; 500 random pairs of points for the test of convexity; float64.",
    measure=_measure,
    seconds=15,
)
