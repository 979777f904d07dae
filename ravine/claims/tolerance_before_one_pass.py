"""Slide 22: with enough data, SGD comes near its final test loss before it has seen every example once."""

import numpy as np
import torch
from torch import Tensor

from ravine.claims._replicas import Nets, descend, entropies, nets, outputs
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_most, reported
from ravine.core.figure import Figure, Panel, Series, floats
from ravine.racing.estimate import mean

D, BATCH, LR, PASSES = 20, 100, 0.3, 2
CHUNK = 100  # minibatches that are drawn at a time, anew and the same in every pass
TOLERANCE = 0.05


def _labels(teacher: Nets, x: Tensor, chance: torch.Generator) -> Tensor:
    """Of every teacher: labels drawn from its probabilities, then the likelier ones. (2R, n) for (R, n, D)."""
    p = torch.sigmoid(outputs(teacher, x)[..., 0])
    drawn = torch.rand(p.shape, generator=chance) < p
    return torch.cat([drawn, p > 0.5]).long()


def _examples(teacher: Nets, count: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """(2R, count, D) and (2R, count): the same inputs under both kinds of labels."""
    with torch.no_grad():
        x = torch.randn(len(teacher[0]), count, D, generator=chance)
        return torch.cat([x, x]), _labels(teacher, x, chance)


def _run(trial: Trial, problems: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples seen at each look, and the test losses then: (looks, 2, problems), labels drawn first, then certain."""
    teacher = [part.detach().float() for part in nets(problems, D, 8, 1, trial.torch("teachers"))]
    teacher[2] *= 4  # so that most labels are likely, few certain
    net = [part.detach().float().requires_grad_() for part in nets(2 * problems, D, 32, 2, trial.torch("students"))]
    test = _examples(teacher, trial.pick(quick=3000, normal=10_000), trial.torch("test"))
    lr, seen, look, at, losses = torch.full((2 * problems,), LR), 0, 1000.0, [], []
    for _ in range(PASSES):
        for chunk in range(size // (BATCH * CHUNK)):
            x, y = _examples(teacher, BATCH * CHUNK, trial.torch("chunk", chunk))
            for part, labels in zip(torch.split(x, BATCH, 1), torch.split(y, BATCH, 1), strict=True):
                descend(net, entropies(net, part, labels), lr)
                seen += BATCH
                if seen >= look or seen == PASSES * size:
                    look = min(1.12 * seen, seen + size / 12)
                    at.append(seen)
                    with torch.no_grad():
                        losses.append(entropies(net, *test).view(2, problems).numpy())
    return np.array(at), np.array(losses)


def _share(at: np.ndarray, losses: np.ndarray, size: int) -> list[float]:
    """The share of a pass after which the loss stays within the tolerance of the final one (the last three looks)."""
    outside = losses > (1 + TOLERANCE) * losses[-3:].mean(0)
    last = len(at) - 1 - outside[::-1].argmax(0)  # the last look that is outside
    return [float(at[min(one + 1, len(at) - 1)] / size) for one in last]


def _measure(trial: Trial) -> Findings:
    size, problems = trial.pick(quick=100_000, normal=1_000_000), trial.pick(quick=4, normal=6)
    at, losses = _run(trial, problems, size)
    drawn, certain = (mean(_share(at, losses[:, kind], size)) for kind in (0, 1))
    checks = [
        at_most(f"share of one pass until within 5 % of the test loss after {PASSES} passes, labels drawn", drawn, 0.5),
        at_most("the same where the teacher's labels are certain", certain, 0.5, role="condition"),
        reported("final test loss, labels drawn (nats)", mean(losses[-3:, 0].mean(0).tolist())),
        reported("final test loss, labels certain (nats)", mean(losses[-3:, 1].mean(0).tolist())),
    ]
    rows = [(name, str(one)) for name, one in (("drawn", drawn), ("certain", certain))]
    series = [
        Series(name, floats(at / size), (losses[:, kind] / losses[-3:, kind].mean(0)).mean(1), kind="line")
        for kind, name in enumerate(("labels drawn", "labels certain"))
    ]
    bound = 1 + TOLERANCE
    series.append(Series("5 % above", [float(at[0] / size), PASSES], [bound, bound], kind="reference"))
    panel = Panel("passes", "test loss / final test loss", series, log="xy")
    return Findings(checks, [Figure("Mean over the problems; a pass is every example once.", [panel])],
                    [Table("Share of a pass until the loss stays within 5 %", ("labels", "mean, 95 %"), rows)], [
        "With labels drawn from the teacher's probabilities the loss ends at a floor that no student can pass, and 5 % "
        "of that is soon reached. With certain labels the loss goes on falling, and comes within 5 % "
        "of its last value only late: the statement is one about a floor.",
    ])  # fmt: skip


claim = Claim(
    slide=(22,),
    kind="STAT",
    statement="On a large enough training set, SGD may come within a fixed tolerance of its final test error before it "
    "has processed the whole set once.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.3.1, beside algorithm 8.1",
    claimed="within 5 % of the final test loss after at most half a pass",
    setting=f"A million examples in {D} dimensions, two classes by a teacher net of 8 tanh units; a student of 32, "
    f"plain SGD, learning rate {LR}, minibatches of {BATCH}, two passes, float32, 6 teachers. Condition: certain "
    "labels.",
    measure=_measure,
    seconds=22,
)
