"""Who gets which layers right."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from curvature_parts.models import Attention, Batch, Last, loss
from curvature_parts.packages import MAKERS, join, product_of

FLAT, SEQUENCE = (7, 4), (7, 5, 4)
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "ragged last batch": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), (10, 4), 4),
    "LSTM": (lambda: Last(nn.LSTM(4, 5, batch_first=True), 3), SEQUENCE, 7),
    "GRU": (lambda: Last(nn.GRU(4, 5, batch_first=True), 3), SEQUENCE, 7),
    "attention": (Attention, SEQUENCE, 7),
    "LayerNorm": (lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3)), FLAT, 7),
    "batch norm, train": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)), FLAT, 7,
    ),
}  # fmt: skip


def dense(model: nn.Module, batches: list[Batch]) -> Tensor:
    """The Hessian of the mean over all examples, reverse over reverse, row by row."""
    model, parameters, whole, total = (given := copy.deepcopy(model)), list(given.parameters()), 0.0, 0
    with sdpa_kernel(SDPBackend.MATH):
        for batch in batches:
            gradient = join(torch.autograd.grad(loss(model, batch), parameters, create_graph=True))
            rows = [join(torch.autograd.grad(one, parameters, retain_graph=True)) for one in gradient]
            whole, total = whole + len(batch[0]) * torch.stack(rows), total + len(batch[0])
    return whole / total


def state(model: nn.Module) -> tuple[Any, ...]:
    tensors = [x.detach().clone() for x in model.state_dict().values()]
    return tensors, [m.training for m in model.modules()], [p.grad is None for p in model.parameters()]


def same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a[0], b[0], strict=True)) and a[1:] == b[1:]


def layers() -> None:
    print(f"  {'':20s}" + "".join(f"{name:>22s}" for name in MAKERS))
    said: dict[str, str] = {}
    for case, (make, shape, size) in LAYERS.items():
        torch.manual_seed(0)
        model, x, y = make().double(), torch.randn(shape, dtype=torch.float64), torch.randint(0, 3, shape[:1])
        batches = list(zip(x.split(size), y.split(size), strict=True))
        v = torch.randn(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
        expected = dense(model, batches) @ v
        cells = []
        for name, maker in MAKERS.items():
            mine = copy.deepcopy(model)
            before = state(mine)
            try:
                found = product_of(maker(mine, batches))(v)
                error = float((found - expected).norm() / expected.norm())
                left = "" if same(state(mine), before) else " *"
                cells.append(f"{error:.0e}{'' if error <= 1e-6 else ' wrong'}{left}")
            except Exception as raised:
                cells.append(f"raises [{len(said) + 1}]")
                said[f"{name}, {case}"] = f"{type(raised).__name__}: {' '.join(str(raised).split())[:140]}"
        print(f"  {case:20s}" + "".join(f"{cell:>22s}" for cell in cells), flush=True)
    print("  relative error of a product; more than 1e-6 is wrong; * the model's buffers, mode or .grad were changed")
    for number, (where, what) in enumerate(said.items(), 1):
        print(f"  [{number}] {where}: {what}")
