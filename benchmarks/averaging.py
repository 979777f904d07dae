"""What an average of the weights costs, beside torch's AveragedModel; and what folding batch normalization out saves.

    python benchmarks/averaging.py [--threads 1] [--rounds 31] [--parts update,step,fold]

Processor time of each, in turns, so that a busy moment of the machine falls on all alike; medians, and medians of the
ratios of turns that stood side by side. An update reads the average and the weight and writes the average: 12 bytes a
weight in float32, in one pass over memory. torch's copy of the weights, 8 bytes, says what a pass costs here.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from step_time import BLOCK, WIDTH
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import ravine
from ravine.averaging import EMA
from ravine.rules import EMA as EMARule
from ravine.rules import Adam
from ravine.strategies import batch_norm

SHAPES = [(8600, WIDTH), (1024, WIDTH), *(shape for _ in range(12) for shape in BLOCK), (WIDTH,)]
DECAY = 0.999


class Weights(nn.Module):
    """The parameters of a transformer of 25 M weights, and nothing that runs."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.ps = nn.ParameterList([nn.Parameter(torch.randn(shape).to(dtype)) for shape in SHAPES])
        for p in self.ps:
            p.grad = torch.randn_like(p) * 0.01


def turns(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of processor time of each, in turns, after three rounds of warming up."""
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 3):
        for name, step in steps.items():
            started = time.process_time()
            step()
            if turn >= 3:
                spent[name].append(time.process_time() - started)
    return spent


def show(spent: dict[str, list[float]], against: str, sizes: dict[str, int] | None = None) -> None:
    """A line for each: milliseconds, the ratio to `against`, and where bytes are known the time per byte of a copy."""
    for name, seconds in spent.items():
        ratios = sorted(x / y for x, y in zip(seconds, spent[against], strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        line = f"  {name:44s}{1e3 * statistics.median(seconds):9.2f} ms{statistics.median(ratios):8.3f} x"
        line += f"   (middle half {low:.3f} to {high:.3f})"
        if sizes:
            per_byte = statistics.median(x / y for x, y in zip(seconds, spent["torch's copy_"], strict=True))
            line += f"   per byte {8 * per_byte / sizes[name]:.2f} of a copy"
        print(line)


def update(rounds: int) -> None:
    """The update of an average, for weights of 32 and of 16 bits."""
    for dtype, size in ((torch.float32, 12), (torch.bfloat16, 10)):
        model = Weights(dtype)
        count = sum(p.numel() for p in model.ps)
        theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
        source, target = torch.randn(count), torch.empty(count)
        steps: dict[str, Callable[[], object]] = {
            "torch AveragedModel": lambda m=model, a=theirs: a.update_parameters(m)
        }
        for way in ("loop", "compiled"):
            steps[f"ravine EMA, {way}"] = EMA(model, DECAY, execution=way).update
        steps["torch's copy_"] = lambda target=target, source=source: target.copy_(source)
        sizes = dict.fromkeys(steps, size) | {"torch AveragedModel": 12 if size == 12 else 6, "torch's copy_": 8}
        print(f"\nan update of an EMA: {len(SHAPES)} tensors, {count / 1e6:.1f} M weights of {dtype}")
        if size != 12:
            print("  (torch keeps the average in bf16, where steps of a thousandth are lost; ravine in float32)")
        show(turns(steps, rounds), "torch AveragedModel", sizes)


def step(rounds: int) -> None:
    """Adam's step with an average beside it, and with one in its kernel."""
    apart, joined, alone = Weights(torch.float32), Weights(torch.float32), Weights(torch.float32)
    options = {"execution": "compiled", "nonfinite": "ignore"}
    adam = ravine.Optimizer(apart.parameters(), Adam(), **options)
    theirs = AveragedModel(apart, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    beside = EMA(apart, DECAY)
    linked = ravine.Optimizer(joined.parameters(), ravine.chain(Adam(), EMARule(DECAY)), **options)

    def with_torchs() -> None:
        adam.step()
        theirs.update_parameters(apart)

    def with_ours() -> None:
        adam.step()
        beside.update()

    steps: dict[str, Callable[[], object]] = {
        "adam, compiled": ravine.Optimizer(alone.parameters(), Adam(), **options).step,
        "adam, then torch AveragedModel": with_torchs,
        "adam, then ravine EMA": with_ours,
        "adam + ema, one kernel": linked.step,
    }
    print("\na step of Adam with an average: the same weights")
    show(turns(steps, rounds), "adam, then torch AveragedModel")


class Residual(nn.Module):
    """Two convolutions with batch normalization, and a shortcut."""

    def __init__(self, old: int, new: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(old, new, 3, stride, 1, bias=False), nn.BatchNorm2d(new)
        self.conv2, self.bn2 = nn.Conv2d(new, new, 3, 1, 1, bias=False), nn.BatchNorm2d(new)
        plain = old == new and stride == 1
        self.shortcut = nn.Identity() if plain else nn.Sequential(nn.Conv2d(old, new, 1, stride), nn.BatchNorm2d(new))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(h)) + self.shortcut(x))


def resnet20() -> nn.Sequential:
    """The network for 32 x 32 images of He et al. 2016, section 4.2, n = 3."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for old, new, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)):
        layers += [Residual(old, new, stride), *(Residual(new, new, 1) for _ in range(2))]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def fold(rounds: int) -> None:
    """Inference of a ResNet-20 with batch normalization and without."""
    torch.manual_seed(0)
    model = resnet20()
    batch_norm.recalibrate(model, torch.randn(256, 3, 32, 32))
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.weight.uniform_(0.5, 1.5)
                m.bias.normal_(0, 0.3)
        for size in (1, 8, 64):
            x = torch.randn(size, 3, 32, 32)
            report = batch_norm.fold(model, x)
            folded = report.model
            model.eval()
            with torch.no_grad():
                a, b = model(x), folded(x)
                spent = turns({"with batch normalization": lambda: model(x), "folded": lambda: folded(x)}, rounds)  # noqa: B023
            apart = float((a - b).abs().max() / a.abs().max())
            print(f"\nResNet-20, {size} images of 32 x 32: {len(report.done)} layers folded, {len(report.left)} left;")
            print(f"  outputs differ by {apart:.1e} of the largest (at most 1e-5 is wanted)")
            show(spent, "folded")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=31)
    arguments.add_argument("--parts", default="update,step,fold")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads, medians of {given.rounds} turns, processor time")
    for part in given.parts.split(","):
        {"update": update, "step": step, "fold": fold}[part](given.rounds)


if __name__ == "__main__":
    main()
