"""Slide 31: large weights make a recurrent net chaotic: a tiny difference in the start grows exponentially."""

from ravine.claims._recurrent import growth
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import above, below, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean

GAINS = (0.5, 0.7, 0.9, 1.0, 1.1, 1.3, 1.5, 2.0, 3.0)


def _measure(trial: Trial) -> Findings:
    size, nets, steps = 300, 10, trial.pick(quick=200, normal=500)
    gains = trial.pick(quick=(0.7, 0.9, 1.5, 2.0), normal=GAINS)
    found, foretold = {}, []
    for gain in gains:
        logs, effective = growth(gain, nets, trial.torch("net", str(gain)), size=size, steps=steps, settle=200)
        found[gain] = mean((logs[:, -1] / steps).tolist())
        foretold.append(float(effective.mean()))
    checks = [
        below("largest Lyapunov exponent, g = 0.9", found[0.9], claimed="below 0"),
        above("largest Lyapunov exponent, g = 1.5", found[1.5], claimed="above 0"),
        reported("steps in which a difference grows a thousandfold, g = 1.5", 6.908 / found[1.5].value),
    ]
    values = list(found.values())
    series = [
        Series(
            "measured, 95 %",
            gains,
            [v.value for v in values],
            [v.low for v in values],
            [v.high for v in values],
            "both",
        ),
        Series("ln g + ½ ln E φ'²", gains, foretold, kind="reference"),
        Series("no growth", [gains[0], gains[-1]], [0, 0], kind="reference"),
    ]
    caption = "The exponent at which two nearly equal states part, h ← tanh(W h), weights of variance g²/N."
    panel = Panel("gain g", "largest Lyapunov exponent (1/step)", series)
    return Findings(checks, [Figure(caption, [panel])], notes=NOTES)


NOTES = (
    "Sompolinsky, Crisanti & Sommers (1988) show the transition at g = 1 for nets in continuous time and infinitely "
    "many units; this is the map in discrete time, and few units blur the transition: just above 1 some nets fall "
    "silent or oscillate instead.",
    "The dashed line takes the states' slopes as independent of the weights.",
)

claim = Claim(
    slide=(31,),
    kind="STAT",
    statement="In recurrent networks large initial weights can result in chaos: extreme sensitivity to small "
    "perturbations of the input.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.4; Sompolinsky, Crisanti & Sommers 1988",
    equation="λ = lim (1/T) ln ‖dh_T/dh_0 v‖;   λ > 0: chaos",
    claimed="the largest Lyapunov exponent changes sign between g = 0.9 and g = 1.5",
    setting="h ← tanh(W h) with 300 units, W_ij ~ N(0, g²/N), ten nets for each of nine gains (quick: "
    "four), 500 steps (quick: 200) after 200 to settle, float64.",
    measure=_measure,
    seconds=12,
)
