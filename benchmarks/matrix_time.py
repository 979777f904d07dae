"""What a step of the matrix rules costs, beside torch's and other libraries' of the same name, in one process.

    python benchmarks/matrix_time.py [--threads 2] [--rounds 5] [--rules muon,soap,shampoo] [--others torch,heavyball]

The weights are those of the transformer of step_time.py (24 M), in float32; Muon has its matrices alone. A turn is ten
steps where eigenvectors or roots are renewed every tenth step, one step for Muon; all take turns, so that a busy moment
of the machine falls on all alike. Two turns come before: in the first, everybody decomposes from nothing and compiles.
"""

import argparse
import importlib
import statistics
from collections.abc import Callable
from typing import Any

import torch
from step_time import MANY, ratio, turns, weights

import ravine
from ravine.assembly import parts

MATRICES = [shape for shape in MANY if len(shape) > 1]
EVERY = 10
# By the spec of ours: the weights, the steps of a turn, and others at equal settings: module, name, arguments.
Other = tuple[str, str, dict[str, Any]]
RULES: dict[str, tuple[str, list[tuple[int, ...]], int, list[Other]]] = {
    "muon": (
        "muon(weight_decay=0.1)", MATRICES, 1, [
            ("torch.optim", "Muon", {"weight_decay": 0.1}),
            ("pytorch_optimizer", "Muon", {"weight_decay": 0.1, "use_muon": True}),
            ("heavyball", "Muon", {"weight_decay": 0.1}),
        ],
    ),
    "soap": (
        f"soap(every={EVERY}, max_size=2048) + decay(weight_decay=0.01)", MANY, EVERY, [
            ("pytorch_optimizer", "SOAP", {"precondition_frequency": EVERY, "max_precondition_dim": 2048}),
            ("heavyball", "SOAP", {"precondition_frequency": EVERY, "max_precond_dim": 2048, "merge_dims": False}),
        ],
    ),
    "shampoo": (
        f"shampoo(every={EVERY}, block_size=512, grafting='sgd')", MANY, EVERY, [
            ("pytorch_optimizer", "ScalableShampoo", {
                "preconditioning_compute_steps": EVERY, "block_size": 512, "start_preconditioning_step": 1,
            }),
            ("pytorch_optimizer", "ScalableShampoo", {
                "preconditioning_compute_steps": EVERY, "block_size": 512, "start_preconditioning_step": 1,
                "use_svd": True,
            }),
        ],
    ),
}  # fmt: skip


def stepping(optimizer: torch.optim.Optimizer, ps: list[Any], count: int) -> Callable[[], None]:
    gradients = [p.grad for p in ps]

    def step() -> None:
        for _ in range(count):
            for p, g in zip(ps, gradients, strict=True):  # heavyball takes them away
                p.grad = g
            optimizer.step()

    return step


def made(other: Other, ps: list[Any]) -> torch.optim.Optimizer:
    module, name, arguments = other
    make = getattr(importlib.import_module(module), name)
    arguments = dict(arguments)
    if arguments.pop("use_muon", False):
        return make([{"params": ps, "use_muon": True}], lr=1e-3, **arguments)
    return make(ps, lr=1e-3, **arguments)


def compare(name: str, rounds: int, beside: str) -> None:
    spec, shapes, count, others = RULES[name]
    others = [other for other in others if not beside or other[0].split(".")[0] in beside.split(",")]
    size = sum(torch.Size(shape).numel() for shape in shapes)
    print(f"\n{spec}: {size / 1e6:.1f} M weights in {len(shapes)} tensors")
    ps = weights(shapes)
    ours = ravine.Optimizer(ps, parts(spec)[0].rule, 1e-3, nonfinite="ignore")
    steps = {"ravine": stepping(ours, ps, count)}
    for other in others:
        ps = weights(shapes)
        label = f"{other[0]} {other[1]}" + "".join(f" {x}" for x in ("svd",) if x in str(other[2]))
        try:
            steps[label] = stepping(made(other, ps), ps, count)
        except ImportError:
            print(f"  {other[0]} is not installed")
    spent = turns(steps, rounds)
    print(f"  {'':44s}{'ms a step':>10s}{'least':>8s}{'most':>8s}{'ours / theirs':>16s}")
    for label, seconds in spent.items():
        took = [1e3 * x / count for x in seconds]
        against = "" if label == "ravine" else f"{ratio(spent, 'ravine', label):.2f}"
        print(f"  {label:44s}{statistics.median(took):10.0f}{min(took):8.0f}{max(took):8.0f}{against:>16s}", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--rules", default=",".join(RULES))
    arguments.add_argument("--others", default="", help="packages to compare with; all")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads, medians of {given.rounds} turns")
    for name in given.rules.split(","):
        compare(name, given.rounds, given.others)


if __name__ == "__main__":
    main()
