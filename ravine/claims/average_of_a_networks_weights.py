"""Slide 55: an exponential average of a network's weights, as used in practice."""

from ravine.claims._averaged_net import BATCH, COPIES, DECAY, SETTING, generators, losses_of, trained
from ravine.claims._small_net import Net, batches, digits
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Estimate, at_least, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import ratio, share

STOPS = (100, 300, 1000, 2000)


def _measure(trial: Trial) -> Findings:
    stops = trial.pick(quick=STOPS[:3], normal=STOPS)
    net, rows, found = Net(), [], []
    gradient = net.gradient(batches(generators(trial, "batches"), BATCH))
    for step, last, averaged in trained(net.start(generators(trial, "start")), gradient, stops):
        judged = [losses_of(net.loss, weights, digits()) for weights in (averaged, last)]
        pairs = list(zip(*judged, strict=True))
        better, size = sum(a < b for a, b in pairs), ratio([a / b for a, b in pairs])
        rows.append((step, f"{better} of {COPIES}", str(size), f"{sum(b for _, b in pairs) / COPIES:.4g}"))
        found.append((step, better, size))
    step, better, size = found[-1]
    checks = [
        at_least(f"share of seeds in which the average is better, step {step}", share(better, COPIES), 0.9),
        reported("test loss of the average over the last iterate's", size),
        *(reported(f"the same at step {k}", other) for k, _, other in found[:-1]),
    ]
    columns = ("step", "seeds in which the average is better", "its loss over the last iterate's", "test loss, nats")
    table = Table(f"The average with α = {DECAY} beside the last iterate, {COPIES} seeds", columns, rows)
    return Findings(checks, [_figure(found)], [table], NOTES)


def _figure(found: list[tuple[int, int, Estimate]]) -> Figure:
    steps = [k for k, _, _ in found]
    lines = [
        Series("mean of 10 seeds", steps, [size.value for _, _, size in found]),
        Series("no difference", [steps[0], steps[-1]], [1.0, 1.0], kind="reference"),
    ]
    caption = "Test loss of the average over that of the last iterate: best while noise moves the weights."
    return Figure(caption, [Panel("step", "ratio of test losses", lines, log="x")])


NOTES = (
    "After 300 and 1,000 steps the average is better in the mean over seeds; after 2,000 the two cannot be told apart: "
    "the network fits its training set by then, where the gradients of all minibatches vanish and no noise is left to "
    "average out.",
    "After 100 steps, which is the horizon 1/(1 - α), the average still holds the way there.",
)

claim = Claim(
    slide=(55,),
    kind="ARCH",
    statement="For networks, an exponential average of the weights is better than the last iterate.",
    source="Kan Ren's slides, slide 55; Goodfellow, Bengio & Courville 2016, sec. 8.7.3, eq. 8.39",
    equation="θ̂ ← αθ̂ + (1 - α)θ",
    claimed="at a constant learning rate the average has the lower test loss in 9 of 10 seeds",
    setting=f"{SETTING}; judged after 2,000 steps.",
    measure=_measure,
    seconds=5,
)
