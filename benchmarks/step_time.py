"""What an optimizer's step costs: time per byte that it must move, beside torch's fused Adam, in one process.

    python benchmarks/step_time.py [--threads 2] [--rounds 11] [--rules adam,sgd] [--parts one,many,...]

Every rule is compiled and takes turns with torch's fused Adam and with torch's own default and fused optimizer of the
same name, so that a busy moment of the machine falls on all alike. Bytes per weight in float32: the weight read and
written, the gradient read, each state read and written (SGD 12, momentum 20, Adam 28); and what is read for sums over
all parameters, which takes a pass of its own. torch's Adam beside clip_norm includes `clip_grad_norm_`.
"""

import argparse
import importlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable

import torch
from torch import nn

import ravine
from ravine.assembly import parts
from ravine.engine.kernel import Kernel

ONE = [(25_000_000,)]
WIDTH = 384
BLOCK = [(3 * WIDTH, WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,), (4 * WIDTH, WIDTH), (4 * WIDTH,)]
BLOCK += [(WIDTH, 4 * WIDTH), *[(WIDTH,)] * 5]
MANY = [(6000, WIDTH), (1024, WIDTH), *(shape for _ in range(12) for shape in BLOCK), (WIDTH,)]

RULES: dict[str, tuple[str | None, dict]] = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "momentum(form='book')": (None, {}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "nesterov(form='book')": (None, {}),
    "delta_bar_delta": (None, {}),
    "adagrad": ("Adagrad", {}),
    "rmsprop": ("RMSprop", {}),
    "rmsprop(momentum=0.9, nesterov=true)": (None, {}),
    "adadelta": ("Adadelta", {}),
    "adam": ("Adam", {}),
    "amsgrad": ("Adam", {"amsgrad": True}),
    "adamw": ("AdamW", {}),
    "nadam": ("NAdam", {}),
    "radam": ("RAdam", {}),
    "adamax": ("Adamax", {}),
    "rprop": ("Rprop", {}),
    "lion": (None, {}),
    "adabelief": (None, {}),
    "adan": (None, {}),
    "adopt": (None, {}),
    "ademamix": (None, {}),
    "prodigy": (None, {}),
    "clip_norm + adam": ("Adam", {"clipped": True}),
    "lookahead(adam)": (None, {}),
    "schedule_free_adamw": (None, {}),
}
# Where it is not what the state's size says: prodigy only reads p0, and sums over g, p, p0 and s.
BYTES = {"prodigy": 12 + 3 * 8 + 4 + 16, "clip_norm + adam": 28 + 4}
FUSED = {"SGD", "Adagrad", "Adam", "AdamW"}


def weights(shapes: list[tuple[int, ...]]) -> list[nn.Parameter]:
    ps = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in ps:
        p.grad = torch.randn_like(p) * 0.01
    return ps


def step_of_torch(name: str, shapes: list[tuple[int, ...]], clipped: bool = False, **options) -> Callable[[], None]:
    ps = weights(shapes)
    step = getattr(torch.optim, name)(ps, **options).step

    def clip_and_step() -> None:
        torch.nn.utils.clip_grad_norm_(ps, 1.0)
        step()

    return clip_and_step if clipped else step


def turns(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, in turns, after two rounds of warming up."""
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if turn >= 2:
                spent[name].append(time.perf_counter() - started)
    return spent


def ratio(spent: dict[str, list[float]], a: str, b: str, scale: float = 1.0) -> float:
    """The median of the ratios of turns that stood side by side."""
    return statistics.median(x / y for x, y in zip(spent[a], spent[b], strict=True)) * scale


def table(title: str, shapes: list[tuple[int, ...]], names: list[str], rounds: int) -> None:
    count = sum(torch.Size(shape).numel() for shape in shapes)
    print(f"\n{title}: {len(shapes)} tensors, {count / 1e6:.1f} M weights; time per byte / that of torch's fused Adam")
    header = ("rule", "bytes", "ms", "ignore", "raise", "torch", "torch fused", "/ torch", "of copying")
    print("{:38s}{:>6s}{:>8s}{:>9s}{:>8s}{:>8s}{:>13s}{:>9s}{:>12s}".format(*header))
    found = []
    for name in names:
        rule, (theirs, options) = parts(name)[0].rule, RULES.get(name, (None, {}))
        state = sum(8 for x in rule.start(torch.zeros(3)).values() if x.ndim)
        size = BYTES.get(name, 12 + state)
        source, target = torch.randn(count), torch.empty(count)
        steps = {"adam": torch.optim.Adam(weights(shapes), fused=True).step}
        for way in ("ignore", "raise"):
            steps[way] = ravine.Optimizer(weights(shapes), rule, execution="compiled", nonfinite=way).step
        if theirs:
            steps["torch"] = step_of_torch(theirs, shapes, **options)
        if theirs in FUSED and "amsgrad" not in options:
            steps["fused"] = step_of_torch(theirs, shapes, fused=True, **options)
        steps["copy"] = lambda target=target, source=source: target.copy_(source)
        spent = turns(steps, rounds)
        per_byte = {way: ratio(spent, way, "adam", 28 / size) for way in ("ignore", "raise")}
        found.append(per_byte)
        cells = [f"{ratio(spent, way, 'adam', 28 / size):.2f}" if way in steps else "" for way in ("torch", "fused")]
        against = f"{ratio(spent, 'ignore', 'torch'):.2f}" if theirs else ""
        share = ratio(spent, "copy", "ignore", size / 8)
        print(
            f"{name:38s}{size:6d}{1e3 * statistics.median(spent['ignore']):8.1f}{per_byte['ignore']:9.2f}"
            f"{per_byte['raise']:8.2f}{cells[0]:>8s}{cells[1]:>13s}{against:>9s}{share:11.0%}",
            flush=True,
        )
    for way in ("ignore", "raise"):
        values = sorted(each[way] for each in found)
        print(f"{way:38s} median over the rules {statistics.median(values):.2f}, worst {values[-1]:.2f}")


PEERS = [
    ("heavyball", "AdamW", "adamw"),
    ("heavyball", "NAdam", "nadam"),
    ("heavyball", "RMSprop", "rmsprop"),
    ("lion_pytorch", "Lion", "lion"),
    ("pytorch_optimizer", "Lion", "lion"),
    ("pytorch_optimizer", "AdaBelief", "adabelief"),
    ("pytorch_optimizer", "Adan", "adan"),
    ("pytorch_optimizer", "AdEMAMix", "ademamix"),
    ("schedulefree", "AdamWScheduleFree", "schedule_free_adamw"),
    ("prodigyopt", "Prodigy", "prodigy"),
    ("pytorch_optimizer", "StableAdamW", "adamw"),
]


def peers(rounds: int) -> None:
    """Other libraries where they are installed, beside the rule of ours that moves as many bytes."""
    print("\nother libraries: milliseconds a step, and the ratio to ours")
    for module, name, ours in PEERS:
        try:
            make = getattr(importlib.import_module(module), name)
        except ImportError:
            print(f"  {module} is not installed")
            continue
        for title, shapes in (("one tensor", ONE), ("transformer", MANY)):
            ps = weights(shapes)
            optimizer, gradients = make(ps, lr=1e-3), [p.grad for p in ps]
            if module == "schedulefree":
                optimizer.train()

            def step(ps=ps, optimizer=optimizer, gradients=gradients) -> None:
                for p, g in zip(ps, gradients, strict=True):  # heavyball takes them away
                    p.grad = g
                optimizer.step()

            options = {"execution": "compiled", "nonfinite": "ignore"}
            mine = ravine.Optimizer(weights(shapes), parts(ours)[0].rule, **options)
            spent = turns({"theirs": step, "ours": mine.step}, rounds)
            took = 1e3 * statistics.median(spent["theirs"])
            times = ratio(spent, "theirs", "ours")
            print(f"  {module + ' ' + name:32s}{title:14s}{took:8.1f} ms {times:8.1f} x {ours}")


def compiling(rounds: int) -> None:
    """Seconds of the first compiled step in a fresh process that has made its optimizer, with and without the cache."""
    script = textwrap.dedent("""
        import time, torch, ravine
        from ravine.rules import Adam
        p = torch.nn.Parameter(torch.zeros(100)); p.grad = torch.ones(100)
        torch.optim.SGD([torch.zeros(1)])  # any optimizer of torch imports torch._dynamo: a second and a half
        optimizer = ravine.Optimizer([p], Adam(), execution="compiled")
        started = time.perf_counter(); optimizer.step(); print(time.perf_counter() - started)
    """)
    found: dict[str, list[float]] = {"cold": [], "from the disk cache": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": folder}
            for name in found:
                called = [sys.executable, "-c", script]
                done = subprocess.run(called, env=environment, capture_output=True, text=True, check=True)
                found[name].append(float(done.stdout))
    print("\nfirst compiled step of a process, seconds (at most 8 and 3 are wanted)")
    for name, seconds in found.items():
        print(f"  {name:20s} median {statistics.median(seconds):.1f}   {min(seconds):.1f} to {max(seconds):.1f}")


def looping(rounds: int) -> None:
    """Microseconds of Python for each tensor of a loop's step."""
    shapes = [(8,)] * 1000
    steps = {
        "ravine": ravine.Optimizer(weights(shapes), parts("sgd")[0].rule, execution="loop", nonfinite="ignore").step,
        "torch": torch.optim.SGD(weights(shapes), foreach=False).step,
    }
    spent = turns(steps, rounds)
    print("\nloop mode, SGD, 1000 tensors of 8 weights: microseconds per tensor (at most 15 are wanted)")
    for name, seconds in spent.items():
        print(f"  {name:20s} median {1e3 * statistics.median(seconds):.1f}")


def memory() -> None:
    """What a step of Adam takes at its peak beyond weights, gradients and state, in sizes of its one tensor."""
    script = textwrap.dedent(r"""
        import re, sys, torch, ravine
        from ravine.rules import Adam
        warm = torch.nn.Parameter(torch.zeros(100_000)); warm.grad = torch.ones(100_000)
        ravine.Optimizer([warm], Adam(), execution=sys.argv[1]).step()
        p = torch.nn.Parameter(torch.zeros(50_000_000)); p.grad = torch.ones_like(p)
        optimizer = ravine.Optimizer([p], Adam(), execution=sys.argv[1], nonfinite="ignore")
        for value in optimizer._state(p, Adam()).values():
            value += 0
        # not getrusage: a child's maximum begins with what its parent had
        peak = lambda: 1024 * int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
        before = peak()
        optimizer.step()
        print((peak() - before) / p.nbytes)
    """)
    print("\npeak memory of a step beyond weights, gradients and state, in sizes of the largest tensor")
    for name, wanted in (("compiled", "none"), ("loop", "at most 6")):
        done = subprocess.run([sys.executable, "-c", script, name], capture_output=True, text=True, check=True)
        print(f"  {name:20s} {float(done.stdout):.2f}   ({wanted} is wanted)")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=11)
    arguments.add_argument("--rules", default=";".join(RULES), help="separated by semicolons")
    arguments.add_argument("--parts", default="one,many,peers,compiling,looping,memory")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    names, wanted = given.rules.split(";"), given.parts.split(",")
    print(f"torch {torch.__version__}, {given.threads} threads, medians of {given.rounds} turns")
    if "one" in wanted:
        table("one tensor", ONE, names, given.rounds)
    if "many" in wanted:
        table("a transformer", MANY, names, given.rounds)
    if "peers" in wanted:
        peers(given.rounds)
    if {"one", "many"} & set(wanted):
        print(f"kernels compiled: {Kernel.built} for {len(names)} rules")
    if "compiling" in wanted:
        compiling(3)
    if "looping" in wanted:
        looping(given.rounds)
    if "memory" in wanted:
        memory()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"\npeak of this process: {peak:.1f} GB")


if __name__ == "__main__":
    main()
