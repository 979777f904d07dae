"""The search over the scales of layers: ours beside lsuv, and deep nets before and after.

    python benchmarks/init_search.py [--seeds 5] [--depth 200] [--activations gelu,silu]

1. Four layers (and twenty) of width 256 started at std 0.01: the layers' stds, and seconds, after lsuv 0.3 and after
   ours. lsuv is left out where it is not installed: `pip install --no-deps lsuv`.
2. GELU, SiLU, softplus, and others, at 200 layers of width 256, orthogonal weights, float32: ratio of the weights'
   gradients first over last layer (norms), and of the activations' stds across inputs last over first, under standard
   normal inputs and a cross-entropy head; median of the seeds [least, most], on inputs that the search has not seen.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravine.init import search

WIDTH, CLASSES = 256, 10
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU, "silu": nn.SiLU, "softplus": nn.Softplus, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
    "elu": nn.ELU, "relu": nn.ReLU,
}  # fmt: skip


Draw = Callable[[Tensor], object]


def chain(depth: int, activation: Callable[[], nn.Module], draw: Draw, biases: float | None) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(WIDTH, WIDTH), activation()]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES))
    for layer in model[::2]:
        draw(layer.weight)
        if biases is not None:
            nn.init.normal_(layer.bias, 0, biases)
    return model


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    found = []
    with torch.no_grad():
        for layer in model:
            x = layer(x)
            if isinstance(layer, nn.Linear):
                found.append(x)
    return found


# ---------------------------------------------------------------- beside lsuv


def beside(depth: int, biases: float | None) -> None:
    def start() -> nn.Module:
        torch.manual_seed(0)
        return chain(depth - 1, nn.Tanh, lambda w: nn.init.normal_(w, 0, 0.01), biases)

    torch.manual_seed(1)
    x = torch.randn(256, WIDTH)
    runs: dict[str, Callable[[nn.Module], object]] = {"ours": lambda model: search(model, x)}
    if importlib.util.find_spec("lsuv"):
        from lsuv.lsuvinit import LSUVinit

        runs = {"lsuv": lambda m: LSUVinit(m, x, do_orthonorm=False, verbose=False)} | runs
    print(f"\n{depth} layers, std 0.01, {_biases(biases)}")
    for name, run in runs.items():
        model = start()
        before = time.process_time()
        done = run(model)
        spent = time.process_time() - before
        stds = [float(z.std(correction=0)) for z in outputs(model, x)]
        passes = f", {done.passes} passes" if hasattr(done, "passes") else ""
        told = " / ".join(f"{s:.2f}" for s in stds) if depth < 6 else ""
        within = sum(0.9 <= s <= 1.1 for s in stds)
        print(f"  {name:5} {told} {within} of {depth} within 0.9-1.1, from {min(stds):.3f} to {max(stds):.3f}{passes}, "
              f"{spent:.2f} s")  # fmt: skip


def _biases(std: float | None) -> str:
    return "biases as nn.Linear draws them" if std is None else f"biases of std {std:g}" if std else "no biases"


# ---------------------------------------------------------------- deep nets


def judged(model: nn.Module, seed: int) -> tuple[float, float, float]:
    """Gradient ratio first / last layer, ratio of centred stds last / first hidden layer, mean cosine of inputs."""
    draw = torch.Generator().manual_seed(1000 + seed)
    x = torch.randn(256, WIDTH, generator=draw)
    y = torch.randint(CLASSES, (256,), generator=draw)
    weights = [layer.weight for layer in model[::2]]
    found = torch.autograd.grad(F.cross_entropy(model(x), y), weights)
    hidden = outputs(model, x)[:-1]
    spread = [float(z.double().var(0, correction=0).mean().sqrt()) for z in (hidden[0], hidden[-1])]
    rows = F.normalize(hidden[-1].double(), dim=1)
    cosine = (float(rows.sum(0).square().sum()) - len(rows)) / (len(rows) * (len(rows) - 1))
    last = float(found[-1].double().norm())
    return float(found[0].double().norm()) / last if last else 0.0, spread[1] / spread[0], cosine


def deep(depth: int, seeds: int, names: list[str]) -> None:
    print(f"\n{depth} layers of width {WIDTH}, median of {seeds} seeds [least, most], inputs not seen by the search")
    print(f"{'':9} {'':7} {'gradient ratio first/last':32} {'activations last/first':32} {'cosine':>7}  level  share")
    for name in names:
        rows: dict[str, list[tuple[float, ...]]] = {"before": [], "after": []}
        ends, seconds = [], []
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = chain(depth, ACTIVATIONS[name], nn.init.orthogonal_, 0.0)
            rows["before"].append(judged(model, seed))
            x, y = torch.randn(512, WIDTH), torch.randint(CLASSES, (512,))
            before = time.process_time()
            done = search(model, (x, y), nn.CrossEntropyLoss())
            seconds.append(time.process_time() - before)
            rows["after"].append(judged(model, seed))
            ends.append((done.level, done.share))
        for when, found in rows.items():
            print(f"{name:9} {when:7} {told([r[0] for r in found]):32} {told([r[1] for r in found]):32} "
                  f"{statistics.median(r[2] for r in found):7.3f}", end="")  # fmt: skip
            if when == "after":
                print("  " + " ".join(f"{level:g}/{share:.3f}" for level, share in ends), end="")
                print(f"  {statistics.median(seconds):.0f} s", end="")
            print(flush=True)


def told(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} [{min(values):.3g}, {max(values):.3g}]"


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--depth", type=int, default=200)
    options.add_argument("--activations", default=",".join(ACTIVATIONS))
    given = options.parse_args()
    torch.set_num_threads(1)
    for depth in (4, 20):
        for biases in (0.0, None, 0.5):
            beside(depth, biases)
    deep(given.depth, given.seeds, given.activations.split(","))


if __name__ == "__main__":
    main()
