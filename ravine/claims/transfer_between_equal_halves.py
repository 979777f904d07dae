"""Slide 58, D11: whether the second task has fewer examples; and what it makes of transfer."""

import numpy as np

from ravine.claims._transfer import LAYERS, matrix
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Estimate, above, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean

SIZES = (10, 30, 100, 300, None)  # images of each class of B; None as many as in A
EQUAL = 900  # about, for the picture: 997 images in nine places, in ten classes


def _gains(trial: Trial, few: int | None, copies: int, steps: int) -> list[float]:
    """Of each copy: accuracy of AnB+ less that of B alone, in points, the mean over the numbers of layers."""
    found = matrix(trial, few, [("AnB+", k) for k in LAYERS], copies, steps)
    treated = np.mean([found["AnB+", k] for k in LAYERS], 0)
    return list(treated - np.array(found["baseB", 0]))


def _measure(trial: Trial) -> Findings:
    copies, steps = trial.pick(quick=4, normal=10, full=30), trial.pick(quick=80, normal=400)
    sizes = trial.pick(quick=(30, None), normal=SIZES)
    gains = {few: _gains(trial, few, copies, steps) for few in sizes}
    fewer, equal = gains[30], gains[None]
    found: dict[int | None, Estimate] = {few: mean(line) for few, line in gains.items()}
    checks = [
        above("what AnB+ gains with 30 images of each class more than with equal halves (points)",
              mean(np.subtract(fewer, equal).tolist()), claimed="the two settings are not the same"),
        reported("gain with equal halves (points)", found[None], claimed="1.6 (ImageNet)"),
        *(reported(f"gain with {few} images of each class (points)", found[few]) for few in sizes if few),
    ]  # fmt: skip
    rows = [
        ("Yosinski et al. 2014, sec. 3", "two halves of 500 classes each, at random", str(found[None])),
        ("the book, p. 325", "the second set of tasks has fewer training examples", str(found[30])),
    ]
    said = Table("Who says what, and what fine-tuned layers gain in such a setting (points; 30 images of each class)",
                 ("who", "says of the experiment", "gain (95 % interval)"), rows)  # fmt: skip
    at = [few or EQUAL for few in sizes]
    means = list(found.values())
    line = Series(
        "AnB+ less B alone", at, [m.value for m in means], [m.low for m in means], [m.high for m in means], "both"
    )
    zero = Series("no gain", (at[0], at[-1]), (0, 0), kind="reference")
    caption = "What copied and fine-tuned layers gain, by how many images of each class B has; at the right end, as "
    "many as A."
    panel = Panel("training images of each class of B", "gain in accuracy (points)", [line, zero], log="x")
    return Findings(checks, [Figure(caption, [panel])], [said], NOTES)


NOTES = (
    "Both are transfer, but of different use: with fewer examples the layers bring what B's own examples cannot teach; "
    "between equal halves the source saw a small gain on ImageNet, and here none is seen.",
    "The deck's slide does not speak of the sizes; the sentence is the book's.",
    "Gains here are those of networks that take 400 minibatches each; what was copied has had 400 on A before.",
)

claim = Claim(
    slide=(58,),
    kind="STAT",
    statement="The book says that the tasks to which Yosinski et al. transfer have fewer training examples than those "
    "they transfer from. In the source the halves are equal, and the gain of transfer depends on just that.",
    because='The book (p. 325) describes the experiment with a second set of tasks "with fewer training examples"; in '
    "Yosinski et al. 2014 ImageNet's 1,000 classes are split at random into two halves of 500, with about as many "
    "examples each.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.7.4 (p. 325), of Yosinski, Clune, Bengio & Lipson 2014, sec. 3",
    claimed="more gain with few examples than between equal halves, so that the two descriptions are not of one "
    "experiment",
    setting="The digits' ten classes in random halves; B with 10, 30, 100 or 300 images of each class or all (about "
    "900, as in A); 4 hidden layers of 32 rectified units, Adam at 3e-3, 400 minibatches of 64; 10 copies, paired.",
    disagreement="D11",
    holds="SOURCE DOES NOT SAY IT",
    measure=_measure,
    seconds=52,
)
