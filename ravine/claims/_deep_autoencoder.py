"""The deep autoencoder of Hinton & Salakhutdinov 2006 on CURVES-R, with the momentum of Sutskever et al. 2013."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch

from ravine.core.batches import batches
from ravine.core.seeds import GlobalStream, derive, generator
from ravine.core.task import Task
from ravine.optimizer import Optimizer
from ravine.rules import SGD, Momentum, Nesterov
from ravine.tasks.autoencoder import curves

BATCH = 200
RULES = {"M": Momentum(0.5, form="book"), "N": Nesterov(0.5, form="book"), "SGD": SGD()}
Curve = list[tuple[int, float]]


@cache
def task() -> Task:
    """10,000 images to train on; the errors are squared, summed over pixels and averaged over images."""
    return curves(10_000)


@cache
def trivial() -> float:
    """The training error of predicting the mean image."""
    images = task().train[0]
    return float((images - images.mean(0)).square().sum(1).mean())


def momentum(t: int, top: float) -> float:
    """Before update t = 0, 1, ...: min(1 - 2^(-1 - log2(floor(t / 250) + 1)), top) (Sutskever et al. 2013, eq. 5)."""
    return min(1 - 2.0 ** (-1 - math.log2(t // 250 + 1)), top)


def train(kind: str, top: float, lr: float, updates: int, seed: int, looks: Sequence[int]) -> tuple[Curve, float]:
    """The training error after each of `looks` updates, and the test error at the end; infinite where it diverges.

    kind: "SGD", "M" (classical momentum) or "N" (Nesterov's), of that largest momentum. Minibatches of 200, sparse
    initialization; starts and minibatches follow from the seed, the same for every method.
    """
    given = task()
    with GlobalStream(derive(seed, "init")):
        model = given.model()
    optimizer = Optimizer(list(model.parameters()), RULES[kind], lr=lr)
    drawn, curve = batches(given.train, BATCH, generator(seed, "shuffle")), list[tuple[int, float]]()

    def error(images: Any, steps: int) -> float:
        with torch.no_grad(), optimizer.swapped() if kind == "N" and steps else nullcontext():
            found: float = given.judge(model, images)
        return found

    for t in range(updates + 1):
        if t in looks or t == updates:
            curve.append((t, error(given.train, t)))
        if t == updates:
            break
        if kind != "SGD":
            optimizer.param_groups[0]["momentum"] = momentum(t, top)
        optimizer.zero_grad()
        loss = given.loss(model, next(drawn))
        if not math.isfinite(loss.item()):
            return [*curve, (t, math.inf)], math.inf
        torch.autograd.backward(loss)
        optimizer.step()
    return curve, error(given.test, updates)
