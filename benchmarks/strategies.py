"""A deep sigmoid net made to train: skips, heads, pretraining, transfer and hints beside plain training at equal work.

python benchmarks/strategies.py [skips|pretraining|transfer|hints] [seeds]: the figures of docs/strategies.md, 2 minutes
each. A run of all parts writes them to benchmarks/results/strategies-DATE-cpu.txt too.
"""

import sys
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import strategies as examples
import torch

import ravine
from ravine.core.machine import machine
from ravine.racing.estimate import mean
from ravine.strategies import class_halves, distill, pretrain
from ravine.strategies import transfer as transferred
from ravine.strategies.teaching import taught

ADAM, WORK = "adam(lr=0.003)", 1650
LINES: list[str] = []


def last(moments: Iterable[Any]) -> float:
    *_, end = moments
    return end.metric


def trained(task: ravine.Task, seed: int, work: int = WORK) -> float:
    return last(ravine.train(task, ADAM, steps=work, seed=seed, every=work))


def say(line: str) -> None:
    LINES.append(line)
    print(line, flush=True)


def told(what: str, values: list[float], digits: int = 2) -> None:
    found = mean(values)
    interval = f" [{found.low:.{digits}f}, {found.high:.{digits}f}]" if len(values) > 1 else ""
    say(f"{what:42} {found.value:.{digits}f}{interval}")


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


def transfer(seeds: range) -> None:
    a, b = class_halves(examples.five_layers(), 0, few=30)
    found = transferred(a, b, steps=400, seeds=len(seeds), seed=seeds[0])
    told("transfer, baseB", found.values["baseB", 0], 3)
    for way in ("AnB", "AnB+", "BnB", "BnB+"):
        gains = [
            [x - y for x, y in zip(found.values[way, n], found.values["baseB", 0], strict=True)] for n in found.layers
        ]
        for n, gain in zip(found.layers, gains, strict=True):
            told(f"{way}, n = {n}: gain over baseB", gain, 3)
        told(f"{way}, the mean over n", [sum(each) / len(each) for each in zip(*gains, strict=True)], 3)


def hints(seeds: range) -> None:
    teacher, task = taught(examples.wide(), 1500), examples.thin()
    layers = {"hint_layer": "1", "guided_layer": "9"}
    both = {"every": 700, "optimizer": ADAM}
    told("teacher", [examples.wide().judge(teacher, task.valid)])
    told(
        "hints",
        [last(distill(teacher, None, task, hint_steps=700, steps=700, seed=s, **layers, **both)) for s in seeds],
    )
    told("distilled", [last(distill(teacher, None, task, hint_steps=0, steps=1400, seed=s, **both)) for s in seeds])
    told("directly", [trained(task, seed, 1400) for seed in seeds])


def main() -> None:
    parts = {"skips": skips, "pretraining": pretraining, "transfer": transfer, "hints": hints}
    chosen = [part for part in sys.argv[1:] if part in parts]
    count = next((int(text) for text in sys.argv[1:] if text.isdigit()), 5)
    say(f"strategies.py on {date.today()}: {machine()['processor']}, torch {torch.__version__}, one thread")
    say(f"accuracy on the validation data of digits, means of {count} seeds with Student's interval at 95 %")
    for part in chosen or parts:
        say(f"\n{part}")
        parts[part](range(count))
    if not chosen:
        place = Path(__file__).parent / "results" / f"strategies-{date.today()}-cpu.txt"
        place.write_text("\n".join(LINES) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
