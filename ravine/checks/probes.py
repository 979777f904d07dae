"""What every probe must do."""

import math

import torch
from torch import nn

from ravine.checks.holding import hold
from ravine.core.dry_run import hash_tensors
from ravine.core.probe import Moment, Probe
from ravine.core.seeds import generator
from ravine.core.supervised import supervised
from ravine.core.task import Task
from ravine.loop import Run, train
from ravine.optimizer import Optimizer
from ravine.rules import SGD

PROBE_NEEDS = frozenset({"before"})
RESERVED = frozenset({"line", "step", "work", "examples", "loss", "metric", "observed"})


def check_probe(probe: Probe) -> None:
    """Raise AssertionError unless `probe` gives named finite numbers, the same again, and leaves the run as it was."""
    found = type(probe).make(probe.call()) if probe.name in Probe.registry else None
    hold(found == probe, probe, f"comes back from its own spec as {found}: is it a dataclass with a name?")
    hold(probe.needs <= PROBE_NEEDS, probe, f"needs {sorted(probe.needs - PROBE_NEEDS)}, which no run provides")
    run = Run(_small_task(), lambda model: Optimizer(model.parameters(), SGD(), 0.1), 0, torch.device("cpu"))
    moment = run.judge(run.advance(3, keep_before=True), ())
    before, modes = _all_tensors(moment), [module.training for module in moment.model.modules()]
    values = probe(moment)
    hold(before == _all_tensors(moment), probe, "writes to weights, buffers, gradients or data")
    hold(modes == [module.training for module in moment.model.modules()], probe, "leaves another train/eval mode")
    _check_values(probe, values)
    hold(values == probe(moment), probe, "gives other numbers when it looks again")
    told = [train(_small_task(), "sgd(lr=0.1)", steps=4, every=2, probes=probes) for probes in ((probe,), ())]
    same = all((a.loss, a.metric) == (b.loss, b.metric) for a, b in zip(*told, strict=True))
    hold(same, probe, "changes the run that it looks at")


def _check_values(probe: Probe, values: dict[str, float]) -> None:
    hold(isinstance(values, dict), probe, f"gives {type(values).__name__}, not a dict of named numbers")
    hold(len(values) > 0, probe, "gives no number after three steps")
    for key, value in values.items():
        hold(isinstance(key, str) and key not in RESERVED, probe, f"names a number {key!r}, a name that records use")
        hold(type(value) is float and math.isfinite(value), probe, f"gives {key} = {value!r}, not a finite float")


def _all_tensors(moment: Moment) -> str:
    gradients = [p.grad for p in moment.model.parameters()]
    return hash_tensors([moment.model.state_dict(), gradients, dict(moment.before or {}), moment.batch])


def _small_task() -> Task:
    """Two classes of points, a model with a hidden layer, a buffer and chance in it."""
    draw = generator(0, "small")
    x = torch.randn(32, 3, generator=draw)
    return supervised(
        name="small",
        model=lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2)),
        criterion=nn.CrossEntropyLoss(),
        train=(x, (x[:, 0] > 0).long()),
        valid=(x, (x[:, 0] > 0).long()),
        batch_size=8,
    )
