"""Slide 60: predictions from inside a deep network, whose losses bring gradients to its lower layers."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravine.claims._deep_nets import Deep, accuracies, arms, batches, entropies, gradient
from ravine.claims._stacked import Data, digits
from ravine.claims._walk import walk
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import at_least, at_most, below, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.core.seeds import GlobalStream
from ravine.nn import with_heads, without_heads
from ravine.racing.estimate import mean, ratio
from ravine.rules import Adam

DEPTH, WIDTH, BATCH, WEIGHT = 20, 24, 32, 0.3
HEADS = tuple(range(2, DEPTH, 2))
LRS, TARGET, LOOK = (3e-3, 1e-2, 3e-2, 1e-1), 0.9, 10


def _model() -> nn.Sequential:
    """Twenty layers of sigmoid units, weights uniform within 1/sqrt(fan-in)."""
    layers: list[nn.Module] = []
    for i in range(DEPTH):
        layers += [nn.Linear(WIDTH if i else 64, WIDTH), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10)).double()


def _gains(seeds: list[int], data: Data) -> tuple[list[float], float]:
    """How much larger the first layer's gradient is with heads; and by how much outputs differ once they are gone."""
    gains, apart = [], 0.0
    for seed in seeds:
        with GlobalStream(seed):
            plain = _model()
            headed = with_heads(plain, [str(2 * i - 1) for i in HEADS], WEIGHT)
        norms = []
        for model, own in ((plain, None), (headed, headed)):
            loss = F.cross_entropy(model(data[0]), data[1])
            loss = loss + (own.auxiliary(lambda out: F.cross_entropy(out, data[1])) if own else 0)
            norms.append(float(torch.autograd.grad(loss, next(model.parameters()))[0].norm()))
        gains.append(norms[1] / norms[0])
        with torch.no_grad():
            apart = max(apart, float((without_heads(headed)(data[0]) - plain(data[0])).abs().max()))
    return gains, apart


def _steps(trial: Trial, heads: tuple[int, ...], data: Data, copies: int, most: int) -> tuple[list[float], np.ndarray]:
    """The updates of every copy to the target at its best learning rate, `most` where it is not met; and accuracies."""
    net, lrs = Deep(DEPTH, WIDTH, "sigmoid", heads=HEADS), trial.pick(quick=LRS[1:3], normal=LRS)
    start, lr = arms(net.start([trial.torch("start", i) for i in range(copies)], "classic"), lrs)
    draw = batches(*data, BATCH, [trial.torch("batches", i) for i in range(copies)], len(lrs))

    def losses(w: Tensor) -> Tensor:
        x, y = draw()
        hidden = net.hidden(w, x)
        own = entropies(net.answered(w, hidden), y)
        return own + WEIGHT * sum(entropies(net.predicted(w, hidden, i), y) for i in range(len(heads)))

    looks = []
    for k, w in enumerate(walk(Adam(), gradient(losses), start, lr)):
        if k % LOOK == 0:
            with torch.no_grad():
                looks.append(accuracies(net.logits(w, data[0][:300]), data[1][:300]).view(-1, copies))
        if k == most:
            break
    curves = torch.stack(looks).numpy()
    reached = curves >= TARGET
    steps = np.where(reached.any(0), LOOK * reached.argmax(0), most).astype(float)
    at = int(steps.mean(1).argmin()) if reached.any() else int(curves[-1].mean(1).argmax())
    return steps[at].tolist(), curves[:, at]


def _measure(trial: Trial) -> Findings:
    images, labels = digits(trial.torch("digits"), 1297)[0]
    gains, apart = _gains(trial.seeds(trial.pick(quick=3, normal=10)), (images[:128], labels[:128]))
    copies, most = trial.pick(quick=2, normal=5, full=10), trial.pick(quick=60, normal=1000, full=3000)
    data = images.float(), labels
    found = {name: _steps(trial, heads, data, copies, most) for name, heads in (("with heads", HEADS), ("without", ()))}
    with_, without = found["with heads"][0], found["without"][0]
    checks = [
        at_least("gradient of the first layer, with heads over without: the smallest", min(gains), 10),
        reported("the same, mean", ratio(gains)),
        at_most("change of the outputs when the heads are removed", apart, 0.0),
        below(f"updates to {100 * TARGET:.0f} % training accuracy, with heads over without ({most} where not met)",
              ratio([a / b for a, b in zip(with_, without, strict=True)]), 1, claimed="below 1"),
        *(reported(f"copies of {copies} that meet it, {name}", sum(v < most for v in steps))
          for name, (steps, _) in found.items()),
        *(reported(f"training accuracy after {most} updates (%), {name}", mean((100 * curves[-1]).tolist()))
          for name, (_, curves) in found.items()),
    ]  # fmt: skip
    at = [LOOK * i for i in range(len(found["without"][1]))]
    series = [Series(name, at, 100 * c.mean(1), 100 * c.min(1), 100 * c.max(1)) for name, (_, c) in found.items()]
    caption = (
        f"Accuracy of the last output of 20 sigmoid layers on 300 training images, means of {copies} copies and their "
        "range, each way at its best learning rate."
    )
    return Findings(checks, [Figure(caption, [Panel("updates", "training accuracy (%)", series)])], [], NOTES)


NOTES = (
    "The gradients are taken in float64 before training, of the same weights with and without heads.",
    "The larger gradient is there, by more than a factor of 10^14, and so is some progress; but the target is met "
    "neither with heads nor without. A gradient at the lower layers is not all that deep sigmoid networks lack.",
    "Where no learning rate meets the target, the one that ends with the highest accuracy is shown.",
)

claim = Claim(
    slide=(60,),
    kind="ARCH",
    statement="Auxiliary heads behind intermediate layers give the lower layers a larger gradient, so that deep "
    "networks train faster; afterwards they can be removed.",
    source="Kan Ren's slides, slide 60; Goodfellow, Bengio & Courville 2016, sec. 8.7.5; Szegedy et al. 2014 "
    "(arXiv:1409.4842), sec. 5; Lee et al. 2014 (arXiv:1409.5185)",
    claimed="the first layer's gradient 10 times larger or more; fewer updates to the same training accuracy",
    setting="20 layers of 24 sigmoid units with weights uniform within 1/sqrt(fan-in), heads of weight 0.3 behind "
    "every second layer; 1,297 digits, Adam at the best of 4 learning rates, up to 1,000 minibatches of 32; gradients "
    "of 10 networks on 128 images, training of 5 copies.",
    measure=_measure,
    seconds=23,
    changed="The same criteria; at first there were heads behind every fourth layer and learning rates up to 1e-2, "
    "with which the target was not met in 2,500 updates either.",
)
