"""Slide 11: the gradient of a batch is the average of the gradients of its parts, so that machines can share work."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravine.claims._replicas import digits
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_least, at_most

BATCH = 256
SHARDS = (2, 4, 8, 16)
UNEQUAL = [160, 64, 24, 8]


def _net(normalized: bool, chance: torch.Generator) -> nn.Module:
    """64-48-10, with or without batch normalization."""
    between = [nn.BatchNorm1d(48)] if normalized else []
    net = nn.Sequential(nn.Linear(64, 48), *between, nn.Tanh(), nn.Linear(48, 10)).double()
    for part in net.parameters():
        if part.ndim == 2:
            part.data = torch.randn(part.shape, generator=chance, dtype=torch.float64) / part.shape[1] ** 0.5
    return net


def _gradient(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Of the mean loss of these examples."""
    found = torch.autograd.grad(F.cross_entropy(net(x), y), tuple(net.parameters()))
    return torch.cat([part.flatten() for part in found])


def _apart(net: nn.Module, x: Tensor, y: Tensor, sizes: list[int], *, weighted: bool = True) -> float:
    """The average over the shards beside the gradient of the whole batch, relative to its length."""
    parts = [_gradient(net, *part) for part in zip(torch.split(x, sizes), torch.split(y, sizes), strict=True)]
    shares = [size / len(x) if weighted else 1 / len(sizes) for size in sizes]
    average = torch.stack([share * part for share, part in zip(shares, parts, strict=True)]).sum(0)
    whole = _gradient(net, x, y)
    return float((average - whole).norm() / whole.norm())


def _equal(count: int) -> list[int]:
    return [BATCH // count] * count


def _measure(trial: Trial) -> Findings:
    x, y = (part[:BATCH] for part in digits())
    net, normalized = (_net(kind, trial.torch("net")) for kind in (False, True))
    single = _net(False, trial.torch("net")).float()
    rows = []
    for count in SHARDS:
        sizes = _equal(count)
        rows.append((f"{count} x {sizes[0]}", _apart(net, x, y, sizes), _apart(single, x.float(), y, sizes),
                     _apart(normalized, x, y, sizes)))  # fmt: skip
    weighted = _apart(net, x, y, UNEQUAL)
    checks = [
        at_most("relative difference, 2 to 16 equal shards, float64", max(row[1] for row in rows), 1e-12),
        at_most("the same in float32", max(row[2] for row in rows), 1e-6),
        at_most("unequal shards, weighted by their sizes", weighted, 1e-12),
        at_most("with batch normalization", max(row[3] for row in rows), 1e-6, role="condition"),
        at_least("unequal shards, not weighted: the control", _apart(net, x, y, UNEQUAL, weighted=False), 0.01),
    ]
    shown = [(name, *(f"{value:.2g}" for value in values)) for name, *values in rows]
    title = "Average of the shards' gradients: relative difference from the gradient of the whole batch"
    return Findings(checks, tables=[Table(title, ("shards", "float64", "float32", "with batch normalization"), shown)],
                    notes=[
        "It is exact because the loss is a mean over examples, none of which matters to another's. Batch normalization "
        "breaks this: each shard then normalizes by its own statistics, and the average is another gradient.",
        "Where shards differ in size, each must be weighted by its share of the examples.",
    ])  # fmt: skip


claim = Claim(
    slide=(11,),
    kind="EXACT",
    statement="The work of a minibatch can be divided among machines: the average of the gradients of its shards is "
    "the gradient of the whole.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.1.3 (updates over examples in parallel)",
    equation="(1/m) Σ_i ∇L_i = Σ_s (m_s/m) (1/m_s) Σ_{i in s} ∇L_i",
    claimed="the same gradient within 1e-6 of its length",
    setting=f"{BATCH} digits, a net 64-48-10 of tanh units at random parameters, 2 to 16 shards; once more with batch "
    "normalization, and with shards of 160, 64, 24 and 8.",
    measure=_measure,
    seconds=1,
)
