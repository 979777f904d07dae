"""Slide 58: layers that were learnt on other classes, copied, frozen or fine-tuned."""

import numpy as np
from scipy import stats

from ravine.claims._transfer import LAYERS, Row, matrix
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import above, at_most, inside, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean

FEW = 100
TREATMENTS = {
    "AnB": "other classes, frozen",
    "AnB+": "other classes, fine-tuned",
    "BnB": "own classes, frozen",
    "BnB+": "own classes, fine-tuned",
}


def _gains(found: dict[Row, list[float]], treatment: str, layers: tuple[int, ...] = LAYERS) -> list[float]:
    """Of each copy: how much better than training on B alone, in points, the mean over the numbers of layers."""
    treated = np.mean([found[treatment, k] for k in layers], 0)
    return list(treated - np.array(found["baseB", 0]))


def _measure(trial: Trial) -> Findings:
    copies, steps = trial.pick(quick=4, normal=10, full=30), trial.pick(quick=80, normal=400)
    found = matrix(trial, FEW, [(treatment, k) for treatment in TREATMENTS for k in LAYERS], copies, steps)
    frozen = [float(np.mean(found["AnB", k])) for k in LAYERS]
    checks = [
        above("AnB+, mean over all numbers of layers, less training on B alone (points)", mean(_gains(found, "AnB+"))),
        at_most("AnB: rank correlation of accuracy and number of layers", float(stats.spearmanr(LAYERS, frozen)[0]),
                -0.8, claimed="the more frozen, the worse"),
        inside("BnB+ less training on B alone (points)", mean(_gains(found, "BnB+"), 0.9), -1, 1, claimed=0),
        reported("AnB+ less BnB+ (points)", mean(np.subtract(_gains(found, "AnB+"), _gains(found, "BnB+")).tolist())),
        reported("AnB with all hidden layers less training on B alone (points)", mean(_gains(found, "AnB", (4,)))),
        reported("BnB less training on B alone (points)", mean(_gains(found, "BnB"))),
    ]  # fmt: skip
    rows = [("baseB", "none", str(mean(found["baseB", 0])))]
    rows += [(name, str(k), str(mean(found[name, k]))) for name in TREATMENTS for k in LAYERS]
    table = Table("Accuracy on B (%), means with 95 % intervals", ("treatment", "layers copied", "accuracy"), rows)
    series = []
    for name, what in TREATMENTS.items():
        means = [mean(found[name, k]) for k in LAYERS]
        lows, highs = [m.low for m in means], [m.high for m in means]
        series.append(Series(f"{name}: {what}", LAYERS, [m.value for m in means], lows, highs, kind="both"))
    base = mean(found["baseB", 0]).value
    series.append(Series("B alone", (LAYERS[0], LAYERS[-1]), (base, base), kind="reference"))
    caption = (
        f"Accuracy on five classes with {FEW} images each to learn from, by how many layers are copied and from where; "
        f"means of {copies} copies and their 95 % intervals."
    )
    return Findings(checks, [Figure(caption, [Panel("layers copied", "accuracy (%)", series)])], [table], NOTES)


NOTES = (
    "Every network for B takes the same number of updates; what was copied has had as many before. BnB+ is the control "
    "for that: its layers have had them too, on B.",
    "Published, for eight layers and ImageNet: fine-tuned layers of other classes end 1.6 % above training from the "
    "start on average, and frozen ones fall from the fourth on (Yosinski et al. 2014).",
    "That fine-tuned layers of other classes gain is not seen at 100 images of each class: with fewer it is, see "
    "transfer-between-equal-halves. Training for longer on B's own images (BnB+) does as much here as other classes "
    "do.",
    "The images of a class are few and come in nine places each, so that the test set has fewer independent images "
    "than its size says; copies differ in their classes, weights and minibatches.",
)

claim = Claim(
    slide=(58,),
    kind="ARCH",
    statement="The first layers of a network that was trained on other classes serve a new one: fine-tuned they make "
    "it better than training it alone does; frozen they serve the less the more of them there are.",
    source="Kan Ren's slides, slide 58; Goodfellow, Bengio & Courville 2016, sec. 8.7.4; Yosinski, Clune, Bengio & "
    "Lipson 2014, sec. 4.1",
    claimed="AnB+ above training on B alone; frozen AnB falls with the number of layers (rank correlation of -0.8 or "
    "less); BnB+ within a point of training on B alone",
    setting="The digits' ten classes in random halves; B has 100 images of each class to learn from; 4 hidden layers "
    "of 32 rectified units, Adam at 3e-3, 400 minibatches of 64 for every network; 1 to 4 layers copied; 10 copies.",
    measure=_measure,
    seconds=29,
)
