"""Slide 19: what the loss does on the straight line from where training began to where it ended."""

import torch

from ravine.claims._paths import BATCH, WIDTHS, Net, Way, trained
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import at_least, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.racing.estimate import mean
from ravine.rules import SGD, Adam

ALPHAS = torch.linspace(0, 1, 50).tolist()
MOST = 0.01
CASES: dict[str, tuple[Rule, float, Net]] = {
    "SGD": (SGD(), 0.05, Net()),
    "Adam": (Adam(), 0.01, Net()),
    "Adam at 0.1": (Adam(), 0.1, Net()),
    "SGD, batch norm": (SGD(), 0.05, Net(normalized=True)),
    "Adam, batch norm": (Adam(), 0.01, Net(normalized=True)),
}


def _bumps(losses: torch.Tensor) -> torch.Tensor:
    """How far the loss rises above its lowest value so far, at most, as a share of the fall from start to end."""
    rise = losses - losses.cummin(0).values
    return rise.amax(0) / (losses[0] - losses[-1])


def _measure(trial: Trial) -> Findings:
    copies, epochs = trial.pick(quick=5, normal=5, full=20), trial.pick(quick=15, normal=40)
    ways: dict[str, Way] = {n: trained(trial, n, rule, lr, epochs, copies, net) for n, (rule, lr, net) in CASES.items()}
    losses = {name: way.straight(ALPHAS) for name, way in ways.items()}
    bumps = {name: _bumps(found) for name, found in losses.items()}
    checks = [
        at_least(
            f"runs of {copies} whose loss never rises by more than 1 % of its fall, {name}",
            float((found <= MOST).sum()) / copies,
            1,
            role="claim" if name == "SGD" else "condition",
        )
        for name, found in bumps.items()
    ]
    checks += [reported(f"largest rise / fall, {name}", mean(found.tolist())) for name, found in bumps.items()]
    checks += [reported(f"loss at the end, {name}", mean(found[-1].tolist())) for name, found in losses.items()]
    series = [Series(name, ALPHAS, found[:, 0].tolist()) for name, found in losses.items()]
    axes = "share α of the way from start to end"
    caption = (
        "The training loss of all digits along the straight line from start to end of training; one run of each kind."
    )
    return Findings(checks, [Figure(caption, [Panel(axes, "training loss / nats", series)])], notes=NOTES)


NOTES = (
    "A straight line without a hill is not the way that training took, which is longer (paths-are-long); it says that "
    "no barrier lies between this start and this end, not that one could have found the end by going straight.",
)

claim = Claim(
    slide=(19,),
    kind="ARCH",
    statement="On the straight line from the first weights to the trained ones the loss falls all the way: nothing has "
    "to be got over, and yet that line is not what local steps follow.",
    source="Goodfellow, Vinyals & Saxe 2015 (arXiv:1412.6544); its limits: Lucas et al. 2021 (arXiv:2104.11044)",
    equation="J(α) = J((1 - α) θ0 + α θ*)",
    claimed="with SGD at a small learning rate J rises nowhere by more than 1 % of its fall, in 5 of 5 runs",
    setting=f"scikit-learn's digits, MLP {'-'.join(map(str, WIDTHS))} (ReLU), minibatches of {BATCH}, 40 epochs; SGD "
    "at "
    "0.05; also Adam at 0.01 and 0.1, and SGD and Adam at 0.01 with batch normalization, as conditions; J of all "
    "training digits at 50 values "
    "of α, with batch statistics; float64; 5 runs of each.",
    measure=_measure,
    seconds=13,
)
