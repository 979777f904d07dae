"""Slide 10: where all examples of a batch are worked on at once, the memory of a step grows with their number."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import at_least, at_most, reported, within
from ravine.core.figure import Figure, Panel, Series, floats

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CHUNK = 16
KIB = 1024


def _net(chance: torch.Generator) -> nn.Module:
    """A small convolutional net for images of 8x8."""
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
    ).double()  # fmt: skip
    for part in net.parameters():
        part.data = 0.1 * torch.randn(part.shape, generator=chance, dtype=torch.float64)
    return net


def _kept(net: nn.Module, x: Tensor, y: Tensor, share: float = 1.0) -> int:
    """Adds that share of the mean loss's gradient; the bytes that the forward pass keeps for the backward pass."""
    own = {part.untyped_storage().data_ptr() for part in net.parameters()}
    kept: dict[int, int] = {}

    def count(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(count, lambda saved: saved):
        loss = F.cross_entropy(net(x), y)
    torch.autograd.backward(share * loss)
    return sum(kept.values())


def _gradient(net: nn.Module, x: Tensor, y: Tensor, chunk: int) -> tuple[Tensor, int]:
    """Of the mean loss, in pieces of at most `chunk` examples one after the other; the most bytes a piece keeps."""
    net.zero_grad()
    most = max(  # cloned, since a view's storage is that of everything it is a view of
        _kept(net, part.clone(), labels.clone(), len(part) / len(x))
        for part, labels in zip(torch.split(x, chunk), torch.split(y, chunk), strict=True)
    )
    return torch.cat([part.grad.flatten() for part in net.parameters() if part.grad is not None]), most


def _measure(trial: Trial) -> Findings:
    net = _net(trial.torch("net"))
    x = torch.randn(max(SIZES), 1, 8, 8, generator=trial.torch("x"), dtype=torch.float64)
    y = torch.randint(10, (max(SIZES),), generator=trial.torch("y"))
    whole = [_gradient(net, x[:size], y[:size], size) for size in SIZES]
    pieces = [_gradient(net, x[:size], y[:size], CHUNK) for size in SIZES]
    sizes, together = np.array(SIZES, float), np.array([kept for _, kept in whole], float)
    in_turn = np.array([kept for _, kept in pieces], float)
    slope, offset = np.polyfit(sizes, together, 1)
    fit = 1 - ((together - slope * sizes - offset) ** 2).sum() / ((together - together.mean()) ** 2).sum()
    apart = max(float((a - b).norm() / a.norm()) for (a, _), (b, _) in zip(whole, pieces, strict=True))
    checks = [
        at_least("R² of the straight line through the bytes kept", fit, 0.99),
        within("bytes kept for 256 examples / for one", together[-1] / together[0], 256, rel=0.01),
        within(f"in pieces of {CHUNK}: bytes kept for 256 examples / for {CHUNK}", in_turn[-1] / in_turn[4], 1, tol=0),
        at_most("relative difference of the two gradients", apart, 1e-12),
        reported("KiB kept for each example", slope / KIB),
        reported("KiB of the parameters", sum(part.nbytes for part in net.parameters()) / KIB),
    ]
    series = [
        Series("all at once", SIZES, floats(together / KIB), kind="both"),
        Series(f"in pieces of {CHUNK}", SIZES, floats(in_turn / KIB), kind="both"),
        Series("straight line", SIZES, floats((slope * sizes + offset) / KIB), kind="reference"),
    ]
    caption = "Memory that the forward pass keeps for the backward pass. Worked on piece by piece, it stops growing."
    return Findings(checks, [Figure(caption, [Panel("examples in a batch", "kept (KiB)", series, log="xy")])], notes=[
        "Counted: the distinct tensors that autograd keeps between the two passes, without the parameters, which are "
        "there once whatever the batch. What a kernel needs for itself while it runs is not counted.",
        "The slide's condition is that the batch is worked on in parallel. In pieces of 16 whose gradients are added "
        "up, the same gradient costs the memory of 16.",
    ])  # fmt: skip


claim = Claim(
    slide=(10,),
    kind="EXACT",
    statement="If all examples of a batch are worked on in parallel, the memory needed grows in proportion to the "
    "batch size.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.1.3",
    claimed="bytes of kept activations on a straight line in the batch size, R² > 0.99",
    setting="A convolutional net for 8x8 images (two convolutions, two dense layers), float64, batches of 1 to 256; "
    "every tensor that autograd keeps for the backward pass is counted once.",
    measure=_measure,
    seconds=1,
)
