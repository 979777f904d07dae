"""Where training starts: signals through deep nets by gain='auto', and the time that initializing takes.

    python benchmarks/init.py [--parts signals,walk,apply,orthogonal] [--seeds 5]

signals: nets of width 256 in float32, 256 standard normal inputs, cross-entropy over 10 classes. Two ratios of the
first layer to the last: of the norms of the weights' gradients, and of the deviations of activations across inputs,
each unit centred. Medians over the seeds, with the mean cosine between the last activations of two inputs.
walk: 1000 layers of ReLU. apply, orthogonal: seconds of the processor beside torch.nn.init, in turns in one process on
one thread, medians; the same distributions.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravine import init

WIDTH, CLASSES, BATCH = 256, 10, 256
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU, "silu": nn.SiLU, "softplus": nn.Softplus,
}  # fmt: skip
RAW = 0.02 / 0.8796256610342398  # of the normal whose cut at 2 deviations leaves 0.02
AUTO = "orthogonal(gain='auto')"


def net(activation: Callable[[], nn.Module], depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(WIDTH, WIDTH), activation()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES))


def ratios(activation: str, depth: int, spec: str | None, seed: int) -> tuple[float, float, float]:
    """Gradient first / last, activation first / last, mean cosine."""
    torch.manual_seed(seed)  # torch's default draws from it
    draw = torch.Generator().manual_seed(1000 + seed)
    model = net(ACTIVATIONS[activation], depth)
    if spec is not None:
        init.apply(model, spec, generator=draw)
    x = torch.randn(BATCH, WIDTH, generator=draw)
    y = torch.randint(CLASSES, (BATCH,), generator=draw)
    deviations, h = [], x
    for module in model:
        h = module(h)
        if not isinstance(module, nn.Linear):
            deviations.append((h - h.mean(0)).detach().double().std().item())
            last = h
    F.cross_entropy(h, y).backward()
    norms = [module.weight.grad.double().norm().item() for module in model if isinstance(module, nn.Linear)]
    unit = F.normalize(last.detach().double(), dim=1)
    cosine = (unit.sum(0).square().sum() - BATCH) / (BATCH * (BATCH - 1))
    quotient = [a / b if b else float("nan") for a, b in ((norms[0], norms[-1]), (deviations[0], deviations[-1]))]
    return quotient[0], quotient[1], float(cosine)


def medians(activation: str, depth: int, spec: str | None, seeds: int) -> list[float]:
    found = [ratios(activation, depth, spec, seed) for seed in range(seeds)]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def signals(seeds: int) -> None:
    for depth in (50, 200):
        print(f"\nsignals through {depth} layers of width {WIDTH}, first / last, median of {seeds} seeds")
        print("  activation  initialization             gradient  activation  cosine")
        for name in ACTIVATIONS:
            judged = depth == 200 or name in ("tanh", "relu", "elu", "sigmoid")
            for spec in (None, AUTO) if depth == 50 else (AUTO,):
                gradient, activation, cosine = medians(name, depth, spec, seeds)
                low, high = (0.1, 10) if depth == 50 else (0.0, 100)
                held = 0.1 <= gradient <= 10 and low <= activation <= high
                wanted = spec is not None and name in ("tanh", "relu", "elu", "sigmoid")
                verdict = ("holds" if held else "DOES NOT HOLD") if wanted else "shown only" if spec and judged else ""
                figures = f"{gradient:8.2g}  {activation:10.2g}  {cosine:6.3f}"
                print(f"  {name:10}  {spec or 'torch default':25}  {figures}  {verdict}".rstrip(), flush=True)


def walk(seeds: int) -> None:
    print(f"\n1000 layers of ReLU, width {WIDTH}: gradient first / last, {seeds} seeds; a median in [0.01, 100]")
    for spec in ("random_walk", AUTO, "he", None):
        found = [ratios("relu", 1000, spec, seed)[0] for seed in range(seeds)]
        each = " ".join(f"{value:.2g}" for value in found)
        median = statistics.median(found)
        held = "holds" if 0.01 <= median <= 100 else "DOES NOT HOLD"
        verdict = held if spec in ("random_walk", AUTO) else "shown only"
        print(f"  {spec or 'torch default':25}  median {median:8.2g}   {each}  {verdict}", flush=True)


def turns(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of the processor of two things done in turns."""
    spent: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for kept, work in zip(spent, (ours, theirs), strict=True):
            begun = time.process_time()
            work()
            if turn:  # the first warms up
                kept.append(time.process_time() - begun)
    return statistics.median(spent[0]), statistics.median(spent[1])


def apply_time(rounds: int = 3) -> None:
    print("\napply on 100 M parameters (25 layers of 2000 x 2000), seconds of the processor; at most 1.2 is wanted")
    model = nn.Sequential(*(nn.Linear(2000, 2000) for _ in range(25)))
    weights = [layer.weight for layer in model]
    pairs: dict[str, Callable[[Tensor], object]] = {
        "uniform": lambda w: nn.init.kaiming_uniform_(w, a=5**0.5),
        "glorot": nn.init.xavier_uniform_,
        "he": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
        "truncated_normal(deviation=0.02)": lambda w: nn.init.trunc_normal_(w, std=RAW, a=-2 * RAW, b=2 * RAW),
    }
    for spec, theirs in pairs.items():

        def torchs(theirs: Callable[[Tensor], object] = theirs) -> None:
            for layer in model:
                nn.init.zeros_(layer.bias)
            for w in weights:
                theirs(w)

        ours, other = turns(lambda spec=spec: init.apply(model, spec), torchs, rounds)
        print(f"  {spec:33}  {ours:6.2f}  torch {other:6.2f}  ratio {ours / other:5.3f}", flush=True)


def orthogonal_time(rounds: int = 2) -> None:
    print("\northogonal 4096 x 4096, float32, seconds of the processor; at most 1.05 is wanted")
    w = torch.empty(4096, 4096)
    ours, theirs = turns(lambda: w.copy_(init.orthogonal((4096, 4096))), lambda: nn.init.orthogonal_(w), rounds)
    print(f"  {ours:6.2f}  torch {theirs:6.2f}  ratio {ours / theirs:5.3f}")


PARTS: dict[str, Callable[[int], None]] = {
    "signals": signals, "walk": walk,
    "apply": lambda seeds: apply_time(), "orthogonal": lambda seeds: orthogonal_time(),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"torch {torch.__version__}, one thread, load of the machine at the start {load}", flush=True)
    for part in given.parts.split(","):
        PARTS[part](given.seeds)


if __name__ == "__main__":
    main()
