"""Slide 21: the best learning rate for a whole run lies above the one that is best after 100 iterations."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from ravine import tasks
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_least, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.core.seeds import GlobalStream, generator
from ravine.optimizer import Optimizer
from ravine.racing import estimate
from ravine.rules import SGD
from ravine.schedules import linear

FIRST, LRS = 100, torch.logspace(-2, 1, 25)


@dataclass(frozen=True)
class _Runs:
    """Training loss of every seed and rate, (seeds, rates), after the first iterations and at the end."""

    first: Tensor
    final: Tensor


def _train(trial: Trial, seeds: int, steps: int) -> _Runs:
    """All seeds and rates at once; those of one seed share their initial weights and batches."""
    task = tasks.task("digits-mlp")
    x, y = task.train
    drawn = trial.seeds(seeds)
    models = []
    for seed in drawn:
        with GlobalStream(seed, torch.device("cpu")):
            models += [task.model()] * len(LRS)
    parameters, _ = stack_module_state(models)
    lrs = LRS.repeat(seeds)

    def losses(x: Tensor, y: Tensor) -> Tensor:
        """Of every model on its seed's batch: x (seeds, batch, 64)."""
        x, y = (t.repeat_interleave(len(LRS), 0) for t in (x, y))
        outputs = vmap(lambda p, x: functional_call(models[0], p, (x,)))(parameters, x)
        return cross_entropy(outputs.transpose(1, 2), y, reduction="none").mean(1)

    def judged() -> Tensor:
        with torch.no_grad():
            parts = [losses(a.expand(seeds, -1, -1), b.expand(seeds, -1)) for a, b in zip(x.split(997), y.split(997))]
        return torch.stack(parts).mean(0).view(seeds, -1).nan_to_num(torch.inf)

    # SGD's step is linear in the gradient: the gradient of the losses, each times its rate, moves each at its rate.
    optimizer = Optimizer(parameters.values(), SGD(), lr=1.0, schedule=linear(steps, 0.01), nonfinite="ignore")
    chance = [generator(seed, "batches") for seed in drawn]
    for k in range(steps):
        if k == FIRST:
            first = judged()
        batch = torch.stack([torch.randint(len(x), (task.batch_size,), generator=one) for one in chance])
        optimizer.zero_grad()
        (lrs * losses(x[batch], y[batch])).sum().backward()
        optimizer.step()
    return _Runs(first, judged())
