"""Slide 23: the error on new examples falls no faster than 1/k, so that faster optimization buys nothing there."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, Estimate, above, at_least, between
from ravine.core.figure import Figure, Panel, Series
from ravine.racing import estimate

Array = NDArray[Any]
D, LR, BLOCK = 10, 0.02, 50
SIZES = (1000, 1800, 3200, 5600, 10_000)


@dataclass
class _Stream:
    """Replicas of a one-pass run over y = x·w + unit noise, and the sums that the exact solution needs."""

    replicas: int
    chance: np.random.Generator

    def __post_init__(self) -> None:
        self.w = self.chance.standard_normal((self.replicas, D))
        self.theta = np.zeros((self.replicas, D))
        self.walked = np.zeros((self.replicas, D))
        self.xx, self.xy = np.zeros((self.replicas, D, D)), np.zeros((self.replicas, D))

    def advance(self) -> None:
        """A block of fresh examples, each of them used for one step of SGD."""
        x = self.chance.standard_normal((self.replicas, BLOCK, D))
        y = np.einsum("rbd,rd->rb", x, self.w) + self.chance.standard_normal((self.replicas, BLOCK))
        self.xx += x.transpose(0, 2, 1) @ x
        self.xy += np.einsum("rbd,rb->rd", x, y)
        for i in range(BLOCK):
            residual = (x[:, i] * self.theta).sum(1) - y[:, i]
            self.theta -= LR * residual[:, None] * x[:, i]
            self.walked += self.theta

    def newton(self) -> Array:
        """One Newton step from 0 on the mean squared error of all examples so far, which is its minimum."""
        return np.asarray(np.linalg.solve(self.xx, self.xy[..., None])[..., 0])

    def excess(self, theta: Array) -> Array:
        """The expected squared error on new examples above that of w, by replica."""
        return np.asarray(np.square(theta - self.w).sum(1))


def _excesses(trial: Trial) -> dict[str, Array]:
    """By learner, (sizes, replicas) of the excess error on new examples after so many examples."""
    stream = _Stream(trial.pick(quick=400, normal=2000, full=10_000), trial.numpy("stream"))
    halves: dict[int, Array] = {}
    found: dict[str, list[Array]] = {"newton": [], "averaged": [], "constant": []}
    for k in range(BLOCK, SIZES[-1] + 1, BLOCK):
        stream.advance()
        if 2 * k in SIZES:
            halves[2 * k] = stream.walked.copy()
        if k in SIZES:
            found["newton"].append(stream.excess(stream.newton()))
            found["averaged"].append(stream.excess((stream.walked - halves[k]) / (k / 2)))
            found["constant"].append(stream.excess(stream.theta))
    return {name: np.stack(values) for name, values in found.items()}


def _share(excess: Array, i: int) -> Estimate:
    """k · excess/(σ²d): 1 is what the Cramér-Rao bound allows, up to terms that vanish with k."""
    return estimate.mean((SIZES[i] * excess[i] / D).tolist())


def _exponent(excess: Array) -> Estimate:
    groups = excess.reshape(len(SIZES), 20, -1).mean(2)
    return estimate.mean([estimate.slope(SIZES, groups[:, i].tolist()).value for i in range(20)])


def _checks(found: dict[str, Array]) -> list[Check]:
    ends = [(0, SIZES[0]), (len(SIZES) - 1, SIZES[-1])]
    exact = [
        between(f"Newton, k·excess/(σ²d) at k = {k}", _share(found["newton"], i), 0.9, 1.1, claimed=1) for i, k in ends
    ]
    growth = estimate.ratio((found["constant"][-1] / found["newton"][-1]).tolist())
    return [
        *exact,
        between("exponent of averaged SGD", _exponent(found["averaged"]), -1.1, -0.9, claimed=-1),
        at_least("exponent of full-batch Newton", _exponent(found["newton"]), -1.1, claimed="not below -1"),
        above("excess of constant-rate SGD over Newton's at the end", growth, 10, claimed="grows with k"),
    ]


def _measure(trial: Trial) -> Findings:
    found = _excesses(trial)
    names = {"newton": "full-batch Newton", "averaged": "one-pass SGD, averaged", "constant": "one-pass SGD, last"}
    shares = {name: [_share(found[name], i) for i in range(len(SIZES))] for name in names}
    rows = [[label, *(str(value) for value in shares[name])] for name, label in names.items()]
    table = Table(
        "k · excess/(σ²d), which the Cramér-Rao bound holds at 1 or above", ["learner", *map(str, SIZES)], rows
    )
    curves = [
        Series(
            label, SIZES, [e.value for e in shares[name]], [e.low for e in shares[name]], [e.high for e in shares[name]]
        )
        for name, label in names.items()
    ]
    curves.append(Series("Cramér-Rao bound", [SIZES[0], SIZES[-1]], [1, 1], kind="reference"))
    caption = "Excess error on new examples times k/(σ²d). A horizontal line is a rate of 1/k: none falls."
    notes = [
        "Newton's method reaches the minimum of the training error in one step, and does not get below 1: what is left "
        "is the chance of the sample. One pass of averaged SGD stays about 2 times above it, since it averages only "
        "the last half of its steps.",
        "That factor still creeps up from 2.0 to 2.2: the average of n steps has a variance smaller by a share 1/(εn) "
        "than its limit, which is a tenth at k = 1,000. It is why its exponent is not quite -1.",
        "The bound is asymptotic and for estimators without bias; a shrunk estimator can be better at a given k.",
    ]
    figure = Figure(caption, [Panel("examples k", "k · excess/(σ²d)", curves, log="xy")])
    return Findings(_checks(found), [figure], [table], notes)


claim = Claim(
    slide=(23,),
    kind="STAT",
    statement="Generalization error cannot fall faster than O(1/k) in the number of examples, so that an optimizer "
    "that converges faster than that presumably overfits: it gains nothing on new examples.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.3.1, p. 295-296 (after Cramér 1946, Rao 1945, Bottou & "
    "Bousquet 2008)",
    equation="E[excess] ≥ σ²d/k",
    claimed="k·excess/(σ²d) stays at 1 for the exact solution, at a constant for averaged one-pass SGD, and grows for "
    "SGD at a constant rate",
    setting="Linear regression in 10 dimensions, Gaussian inputs, noise of variance 1, k from 1,000 to 10,000 "
    "examples, 2,000 replicas; SGD at ε = 0.02 takes each example once, the average is over the last half of the "
    "steps.",
    measure=_measure,
    seconds=4,
)
