"""A deep sigmoid net made to train: skips, heads, pretraining and hints beside plain training at equal work.

python benchmarks/strategies.py [skips|pretraining|hints] [seeds]: the tables of docs/strategies.md, 2 minutes each.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import strategies as examples

import ravine
from ravine.racing.estimate import mean
from ravine.strategies import distill, pretrain
from ravine.strategies.teaching import taught

ADAM, WORK = "adam(lr=0.003)", 1650


def last(moments: Iterable[Any]) -> float:
    *_, end = moments
    return end.metric


def trained(task: ravine.Task, seed: int, work: int = WORK) -> float:
    return last(ravine.train(task, ADAM, steps=work, seed=seed, every=work))


def told(what: str, values: list[float]) -> None:
    found = mean(values)
    print(f"{what:42} {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]", flush=True)


def skips(seeds: range) -> None:
    for name in ("deep_sigmoid", "deep_residual", "deep_highway", "deep_dense", "deep_heads"):
        told(name, [trained(getattr(examples, name)(), seed) for seed in seeds])


def pretraining(seeds: range) -> None:
    for name in ("deep_sigmoid", "deep_relu"):
        task = getattr(examples, name)()
        each = {"steps_per_layer": 150, "every": WORK}
        greedy = [last(pretrain(task, ADAM, steps=600, seed=seed, **each)) for seed in seeds]
        outer = [last(pretrain(task, ADAM, steps=1350, seed=seed, keep_outer=True, **each)) for seed in seeds]
        told(f"{name}, layer by layer", greedy)
        told(f"{name}, outer layers first", outer)
        told(f"{name}, directly", [trained(task, seed) for seed in seeds])


def hints(seeds: range) -> None:
    teacher, task = taught(examples.wide(), 1500), examples.thin()
    layers = {"hint_layer": "1", "guided_layer": "9"}
    both = {"every": 700, "optimizer": ADAM}
    told("teacher", [examples.wide().judge(teacher, task.valid)] * 2)
    told(
        "hints",
        [last(distill(teacher, None, task, hint_steps=700, steps=700, seed=s, **layers, **both)) for s in seeds],
    )
    told("distilled", [last(distill(teacher, None, task, hint_steps=0, steps=1400, seed=s, **both)) for s in seeds])
    told("directly", [trained(task, seed, 1400) for seed in seeds])


if __name__ == "__main__":
    parts = {"skips": skips, "pretraining": pretraining, "hints": hints}
    chosen = [part for part in sys.argv[1:] if part in parts] or list(parts)
    count = next((int(text) for text in sys.argv[1:] if text.isdigit()), 5)
    for part in chosen:
        parts[part](range(count))
