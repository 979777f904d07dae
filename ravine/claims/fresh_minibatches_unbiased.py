"""Slide 11: the gradient of a minibatch never seen before estimates that of the generalization error without bias."""

import numpy as np
import torch
from torch import Tensor

from ravine.claims._finite_world import World, world
from ravine.claims._replicas import Nets, entropies, nets
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import at_least, at_most, reported, within
from ravine.core.figure import Figure, Panel, Series, floats

M, HIDDEN = 8, 5


def _gradient(net: Nets, x: Tensor, y: Tensor) -> Tensor:
    """Of the mean loss of these examples, as one vector."""
    return torch.cat([part.flatten() for part in torch.autograd.grad(entropies(net, x, y).sum(), net)])


def _scores(cells: Tensor, each: Tensor, exact: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Minibatches in rows of cells: how far their mean gradient is from the exact one, in standard errors; the mean."""
    batches = each[cells].mean(1)
    error = batches.std(0) / len(batches) ** 0.5
    return ((batches.mean(0) - exact) / error).numpy(), batches.mean(0).numpy()


def _farthest(this: World, net: Nets, cells: Tensor, each: Tensor) -> float:
    """The distance of `_scores`' means of gradients from the gradients of minibatches as training takes them."""
    return max(
        float((_gradient(net, this.x[row][None], this.y[row][None]) - each[row].mean(0)).abs().max()) for row in cells
    )


def _measure(trial: Trial) -> Findings:
    this = world(4, 4, trial.numpy("world"))
    net = nets(1, 4, HIDDEN, 4, trial.torch("net"))
    each = torch.stack([_gradient(net, x[None, None], y[None, None]) for x, y in zip(this.x, this.y, strict=True)])
    exact = this.p @ each
    count = trial.pick(quick=5000, normal=20_000)
    fresh = this.draw((count, M), trial.numpy("fresh"))
    z, means = _scores(fresh, each, exact)
    owned = this.draw((200,), trial.numpy("owned"))
    reused = owned[torch.tensor(trial.numpy("reused").integers(200, size=(count, M)))]
    again, means_again = _scores(reused, each, exact)
    checks = [
        within("coordinates of the mean gradient within 4 standard errors, of all", (abs(z) <= 4).mean(), 1, tol=0),
        at_most("farthest coordinate, in standard errors", abs(z).max(), 4),
        at_most(
            "minibatch gradient as training takes it minus the mean of its examples' (largest of 50)",
            _farthest(this, net, fresh[:50], each),
            1e-12,
        ),
        at_least("the same from 200 examples used again and again: farthest coordinate", abs(again).max(), 4),
        reported("relative error of the mean gradient, fresh", _relative(means, exact)),
        reported("relative error of the mean gradient, 200 examples used again", _relative(means_again, exact)),
    ]
    panel = Panel(
        "exact gradient of the generalization error",
        "mean of minibatch gradients",
        [
            Series("fresh examples", floats(exact), floats(means), kind="points"),
            Series("200 examples used again", floats(exact), floats(means_again), kind="points"),
            Series("equal", [float(exact.min()), float(exact.max())], [float(exact.min()), float(exact.max())],
                   kind="reference"),
        ],
    )  # fmt: skip
    caption = f"Each point is a parameter: the mean over {count:,} minibatches of {M} beside the exact gradient (8.8)."
    return Findings(checks, [Figure(caption, [panel])], notes=[
        f"{len(exact)} coordinates: were the estimate unbiased, one of them would lie beyond 4 standard errors in "
        f"{100 * (1 - 0.99993666**len(exact)):.1g} % of all experiments.",
        "The last check is the control: the same test finds the bias of a finite sample, so it could have failed.",
    ])  # fmt: skip


def _relative(means: np.ndarray, exact: Tensor) -> float:
    return float(np.linalg.norm(means - exact.numpy()) / exact.norm())


claim = Claim(
    slide=(11,),
    kind="STAT",
    statement="As long as no example repeats, the gradient of a minibatch is an unbiased estimate of the gradient of "
    "the generalization error itself, not only of the training error.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.1.3, eq. 8.7-8.9",
    equation="g = Σ_x Σ_y p(x, y) ∇L(f(x; θ), y)   and   ĝ = (1/m) ∇ Σ_i L(f(x_i; θ), y_i);   E ĝ = g",
    claimed="every coordinate of the mean of fresh minibatch gradients within 4 standard errors of the exact gradient",
    setting="A world of 64 cells (16 words of 4 bits times 4 classes) whose p(x, y) is known, so that (8.8) is "
    "a sum; a net of 5 tanh units; 20,000 minibatches of 8 at fixed parameters. Beside it: "
    "minibatches from one sample of 200.",
    measure=_measure,
    seconds=1,
)
