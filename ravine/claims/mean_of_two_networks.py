"""Slide 55: why networks are not averaged over the whole way: points that are far apart have no good mean."""

import torch

from ravine.claims._averaged_net import BATCH, COPIES, SETTING, generators, losses_of, trained
from ravine.claims._small_net import Net, batches, digits
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import at_least, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import ratio, share

WAY = torch.linspace(0, 1, 41)  # from one network to another


def _measure(trial: Trial) -> Findings:
    net, stops = Net(), [trial.pick(quick=600, normal=2000)]
    gradient = net.gradient(batches(generators(trial, "batches"), BATCH))
    ((_, _, nets),) = trained(net.start(generators(trial, "start")), gradient, stops)
    pairs = [(nets[i], nets[i + 1]) for i in range(0, COPIES, 2)]
    ways = [losses_of(net.loss, torch.stack([torch.lerp(a, b, float(s)) for s in WAY]), digits()) for a, b in pairs]
    over = [way[len(WAY) // 2] / max(way[0], way[-1]) for way in ways]
    checks = [
        at_least("share of pairs whose mean is worse than both", share(sum(x > 1 for x in over), len(over)), 1),
        reported("test loss of the mean over that of the worse one", ratio(over)),
    ]
    lines = [Series(f"pair {i}", WAY.tolist(), way) for i, way in enumerate(ways, 1)]
    caption = "Test loss on the straight line between networks that were trained from different weights."
    panel = Panel("share of the second network", "test loss, nats", lines)
    return Findings(checks, [Figure(caption, [panel])], notes=NOTES)


NOTES = (
    "The hidden units of the two stand in different orders, so that their mean mixes units of different meaning. "
    "Within one run the weights stay in one basin, where a recent average is as good as the last iterate or better "
    "(claim average-of-a-networks-weights).",
)

claim = Claim(
    slide=(55,),
    kind="ARCH",
    statement="On a loss that is not convex the mean of points that lie far apart need not be good, which is why "
    "averages over networks forget.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.7.3",
    claimed="the mean of two networks that were trained by themselves is worse than both",
    setting=f"{SETTING}, in 5 pairs; 2,000 steps.",
    measure=_measure,
    seconds=3,
)
